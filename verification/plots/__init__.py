"""Figures for teaching and analysis: each function draws one from the numbers of a run."""

from verification.plots import backend as backend  # before anything that imports matplotlib
from verification.plots.accuracy import end_accuracy
from verification.plots.criteria import regret_and_overlap
from verification.plots.losses import loss_change, predicted_against_measured
from verification.plots.perplexity import one_shot_perplexity
from verification.plots.ranks import rank_decisions
from verification.plots.runs import layer_sparsity, measured_decisions, sorted_scores, training
from verification.plots.scope_map import scope_map
from verification.plots.style import rendered, require_figure, save, svg, write
from verification.plots.times import selection, solver_times

__all__ = [
    "end_accuracy",
    "layer_sparsity",
    "loss_change",
    "measured_decisions",
    "one_shot_perplexity",
    "predicted_against_measured",
    "rank_decisions",
    "regret_and_overlap",
    "rendered",
    "require_figure",
    "save",
    "scope_map",
    "selection",
    "solver_times",
    "sorted_scores",
    "svg",
    "training",
    "write",
]
