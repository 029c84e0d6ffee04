"""The methods that are compared: ours, and their rivals."""

from benchmarks.harness.one_shot import methods

WANDA, SPARSEGPT, ALPS = "wanda", "sparsegpt", "alps"
METHODS = methods(
    "magnitude",
    "magnitude + refit",
    WANDA,
    "wanda + refit",
    "ria",
    "ria + refit",
    SPARSEGPT,
    "sparsegpt + refit",
    ALPS,
    "alps + swaps",
    "obs",
    "obs + swaps",
    "wanda + budget",
    "sparsegpt + budget",
)
OURS = ("obs", "obs + swaps", "alps + swaps")
RIVALS = (WANDA, SPARSEGPT, ALPS)
UNIFORM = {"wanda + budget": WANDA, "sparsegpt + budget": SPARSEGPT}
"""Levels chosen by layer, and the method with one level, which costs as much."""
# the draw does not change the first; the others take an hour
ONE_DRAW = ("magnitude", *OURS)
