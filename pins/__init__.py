"""PINS: prune pre-trained language models by a principled importance, and prove each decision.

The best mask with exactly k kept weights solves max s·m s.t. 1·m = k, m ∈ {0,1}ⁿ; it keeps the k
largest scores s = −g⊙(θ+u), and (mask, threshold) is a proof that anyone can check in O(n).
"""

import importlib
from typing import TYPE_CHECKING, Any

from pins import errors as errors
from pins.errors import PinsError as PinsError

if TYPE_CHECKING:  # at run time a name is imported when it is first used: torch takes seconds
    from pins import masks as masks
    from pins.importance.criteria import CRITERIA as CRITERIA
    from pins.importance.criteria import find_criterion as find_criterion
    from pins.importance.criterion import Criterion as Criterion
    from pins.importance.criterion import Observation as Observation
    from pins.importance.curvature.adam import adam_first_moment as adam_first_moment
    from pins.importance.curvature.adam import adam_second_moment as adam_second_moment
    from pins.importance.curvature.fisher import empirical_fisher as empirical_fisher
    from pins.importance.curvature.fisher import vectorized_fisher as vectorized_fisher
    from pins.importance.curvature.hutchinson import hutchinson_diagonal as hutchinson_diagonal
    from pins.importance.curvature.sources import CURVATURES as CURVATURES
    from pins.importance.curvature.sources import Curvature as Curvature
    from pins.importance.curvature.sources import TrainedStep as TrainedStep
    from pins.importance.curvature.sources import find_curvature as find_curvature
    from pins.importance.smoothing import ExponentialAverage as ExponentialAverage
    from pins.importance.smoothing import Uncertainty as Uncertainty
    from pins.importance.smoothing import WindowMean as WindowMean
    from pins.importance.taylor_models import DiagonalSecondOrderModel as DiagonalSecondOrderModel
    from pins.importance.taylor_models import FirstOrderModel as FirstOrderModel
    from pins.models.parameters import PrunableParameters as PrunableParameters
    from pins.models.parameters import prunable_parameters as prunable_parameters
    from pins.models.self_distillation import SelfRegularizer as SelfRegularizer
    from pins.pruning.keep_zeros import keep_zeros as keep_zeros
    from pins.pruning.pruner import Pruner as Pruner
    from pins.pruning.schedules import CubicSchedule as CubicSchedule
    from pins.pruning.schedules import LinearSchedule as LinearSchedule
    from pins.pruning.schedules import OneShotSchedule as OneShotSchedule
    from pins.pruning.schedules import Schedule as Schedule
    from pins.selection.allocation import Allocation as Allocation
    from pins.selection.constraints import AtMostNofM as AtMostNofM
    from pins.selection.constraints import Cardinality as Cardinality
    from pins.selection.constraints import Constraint as Constraint
    from pins.selection.constraints import Frozen as Frozen
    from pins.selection.constraints import LayerBounds as LayerBounds
    from pins.selection.constraints import NofM as NofM
    from pins.selection.constraints import PerTensor as PerTensor
    from pins.selection.constraints import Rows as Rows
    from pins.selection.constraints import keep_count as keep_count
    from pins.selection.constraints import per_tensor as per_tensor
    from pins.selection.optimality import Optimality as Optimality
    from pins.selection.optimality import optimality as optimality
    from pins.selection.select import Decision as Decision
    from pins.selection.select import decide as decide
    from pins.selection.select import select as select
    from pins.selection.tree import Node as Node
    from pins.selection.tree import Runs as Runs
    from pins.selection.tree import TensorNode as TensorNode
    from pins.selection.tree import View as View

__version__ = "0.1.0"

_NAMES = {
    "pins.importance.criteria": "CRITERIA find_criterion",
    "pins.importance.criterion": "Criterion Observation",
    "pins.importance.curvature.adam": "adam_first_moment adam_second_moment",
    "pins.importance.curvature.fisher": "empirical_fisher vectorized_fisher",
    "pins.importance.curvature.hutchinson": "hutchinson_diagonal",
    "pins.importance.curvature.sources": "CURVATURES Curvature TrainedStep find_curvature",
    "pins.importance.smoothing": "ExponentialAverage Uncertainty WindowMean",
    "pins.importance.taylor_models": "DiagonalSecondOrderModel FirstOrderModel",
    "pins.models.parameters": "PrunableParameters prunable_parameters",
    "pins.models.self_distillation": "SelfRegularizer",
    "pins.pruning.keep_zeros": "keep_zeros",
    "pins.pruning.pruner": "Pruner",
    "pins.pruning.schedules": "CubicSchedule LinearSchedule OneShotSchedule Schedule",
    "pins.selection.allocation": "Allocation",
    "pins.selection.constraints": "AtMostNofM Cardinality Constraint Frozen LayerBounds NofM "
    "PerTensor Rows keep_count per_tensor",
    "pins.selection.optimality": "Optimality optimality",
    "pins.selection.select": "Decision decide select",
    "pins.selection.tree": "Node Runs TensorNode View",
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = sorted([*_MODULES, "PinsError", "errors", "masks"])


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name == "masks":
        return importlib.import_module("pins.masks")
    if name not in _MODULES:
        raise AttributeError(f"module 'pins' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
