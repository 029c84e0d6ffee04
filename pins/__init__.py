"""PINS: prune pre-trained language models by a principled importance, and prove each decision.

The best mask with exactly k kept weights solves max s·m s.t. 1·m = k, m ∈ {0,1}ⁿ; it keeps the k
largest scores s = −g⊙(θ+u), and (mask, threshold) is a proof that anyone can check in O(n).
"""

from pins import errors, masks
from pins.constraints import (
    Cardinality,
    Constraint,
    MinimumPerTensor,
    PerTensor,
    keep_count,
    minimum_per_tensor,
    per_tensor,
)
from pins.criteria import CRITERIA, find_criterion
from pins.criterion import Criterion, Observation
from pins.curvature import CURVATURES, Curvature, TrainedStep, find_curvature
from pins.errors import PinsError
from pins.fisher import empirical_fisher, vectorized_fisher
from pins.hutchinson import hutchinson_diagonal
from pins.loss_model import DiagonalSecondOrderModel, FirstOrderModel
from pins.moments import adam_first_moment, adam_second_moment
from pins.optimality import (
    ConstrainedOptimality,
    Optimality,
    constrained_optimality,
    optimality,
)
from pins.parameters import PrunableParameters, prunable_parameters
from pins.pruner import Pruner
from pins.schedules import CubicSchedule, LinearSchedule, OneShotSchedule, Schedule
from pins.scope import Scope
from pins.selection import Decision, decide, select
from pins.self_regularization import SelfRegularizer
from pins.smoothing import ExponentialAverage, Uncertainty, WindowMean
from pins.zeros import keep_zeros

__version__ = "0.1.0"

__all__ = [
    "CRITERIA",
    "CURVATURES",
    "Cardinality",
    "ConstrainedOptimality",
    "Constraint",
    "Criterion",
    "CubicSchedule",
    "Curvature",
    "Decision",
    "DiagonalSecondOrderModel",
    "ExponentialAverage",
    "FirstOrderModel",
    "LinearSchedule",
    "MinimumPerTensor",
    "Observation",
    "OneShotSchedule",
    "Optimality",
    "PerTensor",
    "PinsError",
    "PrunableParameters",
    "Pruner",
    "Schedule",
    "Scope",
    "SelfRegularizer",
    "TrainedStep",
    "Uncertainty",
    "WindowMean",
    "adam_first_moment",
    "adam_second_moment",
    "constrained_optimality",
    "decide",
    "empirical_fisher",
    "errors",
    "find_criterion",
    "find_curvature",
    "hutchinson_diagonal",
    "keep_count",
    "keep_zeros",
    "masks",
    "minimum_per_tensor",
    "optimality",
    "per_tensor",
    "prunable_parameters",
    "select",
    "vectorized_fisher",
]
