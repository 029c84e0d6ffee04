"""A layer pruned by a method, then by what improves its mask and its weights."""

from dataclasses import replace

import torch
from torch import Tensor

from pins.distributed.collectives import from_rank_zero
from pins.errors import ModelError
from pins.oneshot.layer import Layer, Pruned
from pins.oneshot.level import Level
from pins.oneshot.methods.method import require_allowed
from pins.oneshot.methods.registry import method_named
from pins.oneshot.refit import refit
from pins.oneshot.row_bounds import RowBounds
from pins.oneshot.settings import Settings
from pins.oneshot.swaps import swapped
from pins.utils.text_files import shown


def pruned_layer(layer: Layer, settings: Settings, level: Level, dtype: torch.dtype) -> Pruned:
    """A layer by the method of a run, and by its swaps or refit; of ranks, that of rank 0.

    Args:
        layer: the layer.
        settings: of the run.
        level: of this layer.
        dtype: of its weight in the model's files, to which the new weights are rounded.

    Raises:
        ModelError: a weight is NaN or infinite, before or after.
        OptimalityError: the mask is not one that the settings allow.
    """
    if not bool(layer.weight.isfinite().all()):
        raise ModelError(f"{shown(layer.name)} holds NaN or infinity: the model is damaged")
    pruned = method_named(settings.method).prune(layer, *level)
    if settings.swaps:
        bounds = RowBounds.of(*level, layer.weight.shape[1])
        mask, number = swapped(layer, pruned.mask, bounds)
        pruned = Pruned(pruned.weight, mask, report={**pruned.report, "swaps": number})
    if bool(pruned.mask.all()):  # nothing to make up for
        pruned = replace(pruned, weight=layer.weight)
    elif settings.swaps or settings.refit:
        pruned = replace(pruned, weight=refit(layer, pruned.mask))
    require_allowed(layer, pruned.mask, *level)
    weight, mask = (from_rank_zero(layer.group, each) for each in (pruned.weight, pruned.mask))
    return replace(pruned, weight=_rounded(layer.name, weight, dtype, settings), mask=mask)


def _rounded(name: str, weight: Tensor, dtype: torch.dtype, settings: Settings) -> Tensor:
    found = weight.to(dtype).float()
    if not bool(found.isfinite().all()):
        most = float(weight.abs().max())  # NaN if there is one
        raise ModelError(
            f"a weight of {shown(name)} became {most:.4g} by {settings.method}"
            f"{' and its refit' * settings.refit}, and its file holds {dtype} of at most "
            f"{torch.finfo(dtype).max:g}: save the model in bfloat16 or float32 first, or "
            "leave the weights as they are (wanda, without a refit)"
        )
    return found
