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
)
OURS = ("obs", "obs + swaps", "alps + swaps")
RIVALS = (WANDA, SPARSEGPT, ALPS)
# the draw does not change the first; the others take an hour
ONE_DRAW = ("magnitude", *OURS)
