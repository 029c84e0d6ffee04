"""PINS: prune pre-trained language models by a principled importance, and prove each decision.

The best mask with exactly k kept weights solves max s·m s.t. 1·m = k, m ∈ {0,1}ⁿ; it keeps the k
largest scores s = −g⊙(θ+u), and (mask, threshold) is a proof that anyone can check in O(n).
"""

from pins import errors, masks
from pins.errors import PinsError
from pins.importance.criteria import CRITERIA, find_criterion
from pins.importance.criterion import Criterion, Observation
from pins.importance.curvature.adam import adam_first_moment, adam_second_moment
from pins.importance.curvature.fisher import empirical_fisher, vectorized_fisher
from pins.importance.curvature.hutchinson import hutchinson_diagonal
from pins.importance.curvature.sources import CURVATURES, Curvature, TrainedStep, find_curvature
from pins.importance.smoothing import ExponentialAverage, Uncertainty, WindowMean
from pins.importance.taylor_models import DiagonalSecondOrderModel, FirstOrderModel
from pins.models.parameters import PrunableParameters, prunable_parameters
from pins.models.self_distillation import SelfRegularizer
from pins.pruning.keep_zeros import keep_zeros
from pins.pruning.pruner import Pruner
from pins.pruning.schedules import CubicSchedule, LinearSchedule, OneShotSchedule, Schedule
from pins.selection.allocation import Allocation
from pins.selection.constraints import (
    Cardinality,
    Constraint,
    MinimumPerTensor,
    PerTensor,
    keep_count,
    minimum_per_tensor,
    per_tensor,
)
from pins.selection.optimality import (
    ConstrainedOptimality,
    Optimality,
    constrained_optimality,
    optimality,
)
from pins.selection.select import Decision, decide, select

__version__ = "0.1.0"

__all__ = [
    "CRITERIA",
    "CURVATURES",
    "Allocation",
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
