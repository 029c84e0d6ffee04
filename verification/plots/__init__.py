"""Teaching and analysis figures, one function each, drawn from numbers that a run wrote."""

from verification.plots.accuracy import end_accuracy
from verification.plots.criteria import overlap, plane, regret_against_sparsity, regret_and_overlap
from verification.plots.losses import (
    loss_change,
    multiplier_path,
    predicted_against_measured,
    taylor_remainders,
)
from verification.plots.programs import dual_function, polytope, unscaled
from verification.plots.ranks import rank_decisions
from verification.plots.runs import (
    layer_sparsity,
    measured_decisions,
    schedule,
    self_regularization,
    sorted_scores,
    sparsity_over_training,
    survival,
    training,
)
from verification.plots.scope_map import scope_map
from verification.plots.style import COLOURS, MARKERS, SUFFIXES, require_figure, save, svg
from verification.plots.times import selection, solver_times, solving

__all__ = [
    "COLOURS",
    "MARKERS",
    "SUFFIXES",
    "dual_function",
    "end_accuracy",
    "layer_sparsity",
    "loss_change",
    "measured_decisions",
    "multiplier_path",
    "overlap",
    "plane",
    "polytope",
    "predicted_against_measured",
    "rank_decisions",
    "regret_against_sparsity",
    "regret_and_overlap",
    "require_figure",
    "save",
    "schedule",
    "scope_map",
    "selection",
    "self_regularization",
    "solver_times",
    "solving",
    "sorted_scores",
    "sparsity_over_training",
    "survival",
    "svg",
    "taylor_remainders",
    "training",
    "unscaled",
]
