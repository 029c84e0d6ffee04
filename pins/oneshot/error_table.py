"""The error table of a run: what each layer loses at each level, and what it costs there."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from pins.models.sparse_format import packed_bytes
from pins.oneshot.layer import Layer
from pins.oneshot.level import Level
from pins.oneshot.pruned_layer import pruned_layer
from pins.oneshot.settings import Settings
from pins.selection.budget.table import FORMAT, VERSION


def entry(
    layer: Layer,
    shape: Sequence[int],
    settings: Settings,
    levels: Iterable[Level],
    dtype: torch.dtype,
) -> dict[str, Any]:
    """A layer with its options: pruned at each level by the method of a run.

    Errors are (R), as they are and relative to that of 0. `bytes` is what the packed form takes,
    `flops` are two for each kept weight and token: on paper, since no kernel here skips zeros.

    Args:
        layer: W, G.
        shape: of the weight in the model's files.
        settings: method, swaps and refit.
        levels: the options.
        dtype: of the weight in the model's files.
    """
    whole = layer.weight.numel()
    options = []
    for level in levels:
        pruned = pruned_layer(layer, settings, level, dtype)
        kept, error = int(pruned.mask.count_nonzero()), layer.error(pruned.weight)
        options.append(
            {
                "level": level.name,
                "error": layer.relative(error),
                "absolute_error": error,
                "kept": kept,
                "bytes": packed_bytes(shape, kept, dtype.itemsize),
                "flops": 2 * kept,
            }
        )
    dense = {"bytes": whole * dtype.itemsize, "flops": 2 * whole}
    return {"name": layer.name, "dense": dense, "options": options}


def document(entries: Iterable[Mapping[str, Any]], settings: Settings) -> dict[str, Any]:
    """The table, with the settings that it was measured with."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "settings": settings.as_json(),
        "layers": [*entries],
    }
