"""Models whose files hold packed tensors in the layout `sparse-bitmask` of compressed-tensors.

The entries of a tensor are those of `pins.models.sparse_format`, and config.json names the modules:

    {"quantization_config": {"quant_method": "compressed-tensors",
                             "sparsity_config": {"format": "sparse-bitmask", "targets": […], …}}}

compressed-tensors reads what PINS writes in its versions 0.9 to 0.14; earlier ones want other
names, later ones have no reader. PINS stores each kept weight, so nothing is lost.

What other programs wrote is read here too. Their values are the weights that are not zero: a kept
weight that is zero comes back as one that is pruned, −0.0 as 0.0. Up to version 0.8 every tensor
was packed, also vectors (n,), whose entries have no dimension of rows; each under its whole name,
"a.weight.bitmask", where later versions and PINS have "a.bitmask". `sparse-24-bitmask` has values
(rows, cols/2), a shape (dims, 1), and no row_offsets.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pins.errors import FileError
from pins.models.sparse_format import (
    PACKED,
    PARTS,
    Tensors,
    copy_others,
    require_no_weights,
    unpack_one,
)
from pins.models.weight_files import (
    BITMASK,
    INDEX,
    WEIGHTS,
    bitmasks,
    weight_files,
    write_index,
)
from pins.utils.io import load_tensors, save_tensors, write_json
from pins.utils.text_files import read_object, reading

CONFIG, SPARSITY, WEIGHT = "config.json", "sparsity_config", ".weight"
QUANTIZATION = ("quantization_config", "compression_config")  # the second up to version 0.7


def described(config: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """A model's configuration that says which weights are packed."""
    sparsity = {
        "format": "sparse-bitmask",
        "sparsity_structure": "unstructured",
        "targets": [name.removesuffix(WEIGHT) for name in names],
        "ignore": [],
    }
    return {**config, QUANTIZATION[0]: {"quant_method": "compressed-tensors", SPARSITY: sparsity}}


def load(path: Path) -> Tensors:
    """The tensors of a safetensors file, the packed ones dense, in the order of the file.

    Raises:
        FileError: the file is missing or torn, or the entries of a tensor are inconsistent.
    """
    stored, _ = load_tensors(path)
    names = packed_names(stored)
    parts = {f"{prefix}.{part}": prefix for prefix in names for part in PARTS}
    tensors: Tensors = {}
    with reading(f"{path} is a damaged packed file"):
        if twice := stored.keys() & {*names.values()}:
            raise ValueError(f"{min(twice)!r} is stored twice, packed and dense")
        for entry, value in stored.items():
            prefix = parts.get(entry)
            if prefix is None:
                tensors[entry] = value
            elif (name := names[prefix]) not in tensors:
                try:
                    tensors[name] = dense(*(stored.get(f"{prefix}.{part}") for part in PARTS))
                except ValueError as error:
                    raise ValueError(f"{name!r}: {error}") from error
    return tensors


def packed_names(entries: Iterable[str]) -> dict[str, str]:
    """The names of the packed tensors by what the names of their entries begin with."""
    prefixes = [name.removesuffix(BITMASK) for name in entries if name.endswith(BITMASK)]
    whole = any(prefix.endswith(WEIGHT) for prefix in prefixes)
    return {prefix: prefix if whole else prefix + WEIGHT for prefix in prefixes}


def dense(
    shape: Tensor | None,
    compressed: Tensor | None,
    bitmask: Tensor | None,
    row_offsets: Tensor | None,
) -> Tensor:
    """A tensor from its entries, whoever wrote them; None: there is no such entry.

    Raises:
        ValueError: an entry is missing, or they contradict each other.
    """
    if shape is None or compressed is None or bitmask is None:
        raise ValueError(f"its {'shape' if shape is None else 'compressed'} is missing")
    shape = (shape.long() if shape.dtype == torch.int32 else shape).flatten()
    bitmask = bitmask.flatten(0, -2) if bitmask.dim() > 1 else bitmask[None]
    offsets = row_offsets if len(shape) == 2 else None  # of others it counts along one dimension
    return unpack_one(shape, compressed.flatten(), bitmask, offsets)[0]


def unpack_folder(folder: Path, out: Path) -> Path:
    """Restore the dense model, file by file, so that transformers loads `out`.

    The other files of `folder` are copied to `out`; config.json no longer names packed weights.

    Returns:
        The path of the dense file, or of the index of several.

    Raises:
        FileError: there are no weights, none is packed, one is damaged, or `out` holds weights.
    """
    require_no_weights(out)
    files = weight_files(folder)
    if not bitmasks(files):
        raise FileError(f"{folder} holds no {PACKED}, and its weights are not packed: load it so")
    config = read_object(folder / CONFIG) if (folder / CONFIG).is_file() else None
    for file in files:  # a damaged one leaves nothing
        load(file)
    copy_others(folder, out)
    if config is not None:
        write_json(_without_sparsity(config), out / CONFIG)
    places = [out / file.name for file in files]
    for file, place in zip(files, places, strict=True):
        save_tensors(load(file), place, {"format": "pt"})
    if places == [out / WEIGHTS]:
        return places[0]
    write_index(places)
    return out / INDEX


def _without_sparsity(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of the dense model; weights that are quantised too stay so."""
    found = {name: value for name, value in config.items() if name != SPARSITY}
    for key in QUANTIZATION:
        if isinstance(rest := found.pop(key, None), dict) and rest.get("config_groups"):
            found[key] = {name: value for name, value in rest.items() if name != SPARSITY}
    return found
