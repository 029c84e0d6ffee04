"""A layer by a method, then by what improves its mask and its weights."""

from dataclasses import replace

from pins.distributed.collectives import from_rank_zero
from pins.errors import ModelError
from pins.oneshot.layer import Layer, Pruned
from pins.oneshot.methods.method import require_allowed
from pins.oneshot.methods.registry import method_named
from pins.oneshot.refit import refit
from pins.oneshot.row_bounds import RowBounds
from pins.oneshot.settings import Settings
from pins.oneshot.swaps import swapped
from pins.utils.text_files import shown


def prune_layer(layer: Layer, settings: Settings) -> Pruned:
    """W′ and its mask by the method of the settings, and by swaps or a refit if they ask for it.

    Of what each rank of the layer's group makes, that of rank 0 counts.

    Raises:
        ModelError: W holds NaN or infinity.
    """
    allocation, sparsity = settings.allocation(), settings.final_sparsity()
    if not bool(layer.weight.isfinite().all()):
        raise ModelError(f"{shown(layer.name)} holds NaN or infinity: the model is damaged")
    pruned = method_named(settings.method).prune(layer, allocation, sparsity)
    if settings.swaps:
        bounds = RowBounds.of(allocation, sparsity, layer.weight.shape[1])
        mask, number = swapped(layer, pruned.mask, bounds)
        report = {**pruned.report, "swaps": number}
        pruned = Pruned(refit(layer, mask), mask, report=report)
    elif settings.refit:
        pruned = replace(pruned, weight=refit(layer, pruned.mask))
    require_allowed(layer, pruned.mask, allocation, sparsity)
    weight, mask = (from_rank_zero(layer.group, each) for each in (pruned.weight, pruned.mask))
    return replace(pruned, weight=weight, mask=mask)
