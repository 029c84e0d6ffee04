"""The names that a model's tensors have in its files, by the rules of transformers.

Files may lack the name of the base model, keep names of earlier versions, and have a tensor for
each matrix of an expert, as Mixtral's `block_sparse_moe.experts.0.w1.weight`.
"""

from collections.abc import Iterable

from torch import nn

from pins.models.auto_classes import loaded_as
from pins.models.experts import PARTS


def stored_names(model: nn.Module, files: Iterable[str]) -> dict[str, str]:
    """The stored name of each tensor that the model reads, by its name in the model.

    Args:
        model: with its experts as transformers holds them; a matrix of one of them has the name
            that `pins.models.experts.separate` gives it.
        files: the names of the stored tensors.
    """
    loaded, known, found = loaded_as(model), model.state_dict(), {}
    for stored in files:
        name, place = loaded(stored) or ("", None)
        parent, _, own = name.rpartition(".")
        if place is None and name in known:
            found[name] = stored
        elif place is not None and own in PARTS:
            expert = [word for word in stored.split(".") if word.isdigit()][-1]
            found[f"{parent}.{expert}.{PARTS[own][place]}.weight"] = stored
    return found
