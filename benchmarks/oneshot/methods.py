"""The settings and the methods that are compared, as settings of `pins oneshot`."""

from collections.abc import Mapping
from typing import Any

WANDA, SPARSEGPT, ALPS = "wanda", "sparsegpt", "alps"
SETTINGS: Mapping[str, dict[str, Any]] = {
    "50 % of each row": {"sparsity": 0.5},
    "60 % of each row": {"sparsity": 0.6},
    "70 % of each row": {"sparsity": 0.7},
    "2:4": {"pattern": "2:4"},
}
METHODS: Mapping[str, dict[str, Any]] = {
    "magnitude": {"method": "magnitude"},
    "magnitude + refit": {"method": "magnitude", "refit": True},
    WANDA: {"method": "wanda"},
    "wanda + refit": {"method": "wanda", "refit": True},
    "ria": {"method": "ria"},
    "ria + refit": {"method": "ria", "refit": True},
    SPARSEGPT: {"method": "sparsegpt"},
    "sparsegpt + refit": {"method": "sparsegpt", "refit": True},
    ALPS: {"method": "alps"},
    "alps + swaps": {"method": "alps", "swaps": True},
    "obs": {"method": "obs"},
    "obs + swaps": {"method": "obs", "swaps": True},
}
OURS = ("obs", "obs + swaps", "alps + swaps")
RIVALS = (WANDA, SPARSEGPT, ALPS)
# the draw does not change the first; the others take an hour
ONE_DRAW = ("magnitude", *OURS)
