"""Sparse models on disk: for each masked tensor its mask, one bit per weight, and the kept values.

The layout is `sparse-bitmask` of compressed-tensors. A tensor θ of shape (…, cols) is a matrix
(rows, cols), rows the product of the other lengths. Its entries begin with `prefix`, the name
without ".weight":

    prefix.shape        (dims,) int64
    prefix.compressed   (kept,) of θ's dtype, the values θᵢ with mᵢ = 1 in row-major order
    prefix.bitmask      (rows, ⌈cols/8⌉) uint8, column j is bit j mod 8 of byte ⌊j/8⌋, least first
    prefix.row_offsets  (rows,) int64, number of values before those of the row

The other tensors are stored unchanged. compressed-tensors stores the nonzero weights; here the mask
decides: a kept weight that is zero is stored too, so tensors and masks are restored bit for bit.
"""

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from pins.errors import FileError, MaskError
from pins.masks import nonzero_masks, require_same_tensors
from pins.models.weight_files import (
    INDEX,
    PICKLES,
    SHARDS,
    WEIGHTS,
    require_dense,
    weight_files,
)
from pins.utils.bit_packing import packed_rows, unpacked_rows
from pins.utils.io import atomic, load_tensors, require_format, save_tensors
from pins.utils.text_files import reading

FORMAT = {"format": "pins-packed", "version": "1"}
PACKED = "packed.safetensors"
PARTS = ("shape", "compressed", "bitmask", "row_offsets")
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes per number

Tensors = dict[str, Tensor]


def pack(tensors: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Tensors:
    """The tensors of the packed form, in the order of `tensors`, on the CPU.

    Args:
        tensors: a state dict.
        masks: bool masks of some of its tensors, with their shapes, True = keep.

    Raises:
        MaskError: a mask has no tensor, another shape, or belongs to a tensor of integers; a pruned
            weight is not zero (-0.0 is, and loses its sign); two entries would have the same name.
    """
    require_same_tensors({name: tensors[name] for name in masks if name in tensors}, masks)
    packed: Tensors = {}
    for name, tensor in tensors.items():
        parts = _pack(name, tensor, masks[name]) if name in masks else {name: tensor.detach().cpu()}
        if taken := packed.keys() & parts.keys():
            raise MaskError(f"packing {name!r} takes the name {min(taken)!r}, which is taken")
        packed |= parts
    return packed


def save(tensors: Mapping[str, Tensor], masks: Mapping[str, Tensor], path: Path | str) -> None:
    """Write tensors in the packed form, atomically; arguments and errors as in `pack`."""
    metadata = {**FORMAT, "masked": json.dumps(list(masks))}
    save_tensors(pack(tensors, masks), Path(path), metadata)


def load(path: Path | str) -> tuple[Tensors, Tensors]:
    """The tensors and the masks that `save` wrote, bit for bit and in their order.

    Raises:
        FileError: the file is missing, torn, of another format, or its entries are inconsistent.
    """
    path = Path(path)
    packed, metadata = load_tensors(path)
    require_format(path, metadata, FORMAT)
    with reading(f"{path} is a damaged packed file"):
        return _unpack(packed, json.loads(metadata["masked"]))


def packed_bytes(shape: Sequence[int], kept: int, itemsize: int) -> int:
    """The bytes of one tensor's parts in the packed form, without their entries in the header.

    Args:
        shape: of the tensor.
        kept: the number of its kept weights.
        itemsize: bytes of a weight.
    """
    rows, columns = _rows(shape)
    return kept * itemsize + rows * ((columns + 7) // 8) + 8 * rows + 8 * len(shape)


def pack_folder(folder: Path, masks: Mapping[str, Tensor] | None = None) -> Path:
    """Write `packed.safetensors` beside the weights of a saved Hugging Face model.

    A tensor that several parameters share is stored once, as in the model's files.

    Args:
        folder: with model.safetensors, or several such files and their index.
        masks: by the names of the tensors in the file, which are the names in training; default:
            what is not zero, in each matrix that has a zero.

    Returns:
        The path of the packed file; it suffices to restore the dense weights.

    Raises:
        FileError: the folder holds no whole safetensors model, or its weights are packed.
        MaskError: the masks do not fit the saved weights; see `pack`.
    """
    files = weight_files(folder)
    require_dense(folder, files)
    tensors: Tensors = {}
    for file in files:
        tensors |= load_tensors(file)[0]
    save(tensors, _nonzeros(tensors) if masks is None else masks, folder / PACKED)
    return folder / PACKED


def _nonzeros(tensors: Tensors) -> dict[str, Tensor]:
    matrices = {n: t for n, t in tensors.items() if t.dim() > 1 and t.is_floating_point()}
    return {name: mask for name, mask in nonzero_masks(matrices).items() if not mask.all()}


def unpack_folder(folder: Path, out: Path) -> Path:
    """Restore `model.safetensors` from `packed.safetensors`, so that transformers loads `out`.

    The other files of `folder` (configuration, tokenizer) are copied to `out`.

    Returns:
        The path of the dense file.

    Raises:
        FileError: there is no whole packed file, or `out` holds weights already.
    """
    require_no_weights(out)
    tensors, _ = load(folder / PACKED)
    copy_others(folder, out)
    # last: a folder with weights is then complete
    with atomic(out / WEIGHTS) as temporary:
        try:
            save_file(tensors, temporary, metadata={"format": "pt"})
        except SafetensorError as error:
            raise FileError(f"{out / WEIGHTS} cannot be written: {error}") from error
    return out / WEIGHTS


def require_no_weights(out: Path) -> None:
    """Check that a folder can take the weights of a model.

    Raises:
        FileError: it holds some already.
    """
    for name in (WEIGHTS, INDEX):
        if (out / name).exists():
            raise FileError(f"{out / name} exists: give another folder to unpack into")


def copy_others(folder: Path, out: Path) -> None:
    """Copy the files of a model that hold no weights."""
    weights = (WEIGHTS, INDEX, PACKED, SHARDS, *PICKLES)
    for file in sorted(folder.iterdir()) if folder.resolve() != out.resolve() else ():
        if file.is_file() and not any(file.match(pattern) for pattern in weights):
            with atomic(out / file.name) as temporary:
                shutil.copyfile(file, temporary)


def _prefix(name: str) -> str:
    return name.removesuffix(".weight")


def _rows(shape: Sequence[int]) -> tuple[int, int]:
    """A shape as (rows, cols)."""
    return math.prod(shape[:-1]), shape[-1] if shape else 1


def _row_offsets(mask: Tensor) -> Tensor:
    """Number of kept weights in the rows before each row of a mask (rows, cols)."""
    counts = mask.sum(dim=1, dtype=torch.int64)
    return counts.cumsum(0) - counts


def _pack(name: str, tensor: Tensor, mask: Tensor) -> Tensors:
    if not tensor.is_floating_point():
        raise MaskError(f"{name!r} is {tensor.dtype}: masks are of floating-point weights")
    tensor, mask = tensor.detach().cpu().contiguous(), mask.cpu().contiguous()
    # as bits: a kept NaN keeps its payload, a kept zero its sign
    bits = tensor.view(_BITS[tensor.element_size()])
    numbers = tensor.float() if tensor.element_size() < 4 else tensor  # 8 bits are not compared
    wrong = (numbers != 0) & ~mask
    if wrong.any():
        first = tuple(wrong.nonzero()[0].tolist())
        raise MaskError(
            f"{name!r} is {tensor[first].item()} at {first}, where its mask prunes, and not 0.0 "
            f"in {int(wrong.count_nonzero())} such places: apply the mask to the weights first"
        )
    rows = mask.reshape(_rows(mask.shape))
    parts = (
        torch.tensor(tensor.shape, dtype=torch.int64),
        bits[mask].view(tensor.dtype),
        packed_rows(rows),
        _row_offsets(rows),
    )
    return {f"{_prefix(name)}.{part}": value for part, value in zip(PARTS, parts, strict=True)}


def _unpack(packed: Tensors, masked: Any) -> tuple[Tensors, Tensors]:
    """The inverse of `pack`; ValueError or another error if the entries are inconsistent."""
    if not isinstance(masked, list) or not all(isinstance(name, str) for name in masked):
        raise ValueError(f"{masked!r} are no names of masked tensors")
    parts = {f"{_prefix(name)}.{part}": name for name in masked for part in PARTS}
    if len(parts) != len(PARTS) * len(masked):
        raise ValueError("two masked tensors have the same parts")
    if missing := parts.keys() - packed.keys():
        raise ValueError(f"{parts[min(missing)]!r} is masked and {min(missing)!r} is missing")
    if twice := (packed.keys() - parts.keys()) & set(masked):
        raise ValueError(f"{min(twice)!r} is stored twice, packed and dense")
    tensors: Tensors = {}
    masks: Tensors = dict.fromkeys(masked, torch.empty(0))  # in the order of `save`
    for entry, value in packed.items():
        name = parts.get(entry)
        if name is None:
            tensors[entry] = value
        elif name not in tensors:
            own = [packed[f"{_prefix(name)}.{part}"] for part in PARTS]
            try:
                tensors[name], masks[name] = unpack_one(*own)
            except ValueError as error:
                raise ValueError(f"{name!r}: {error}") from error
    return tensors, masks


def unpack_one(
    shape: Tensor, compressed: Tensor, bitmask: Tensor, row_offsets: Tensor | None
) -> tuple[Tensor, Tensor]:
    """One tensor and its mask, from its entries; None: the layout has no offsets.

    Raises:
        ValueError: the entries are no layout of a tensor, or contradict each other.
    """
    if shape.dtype != torch.int64 or shape.dim() != 1 or bool((shape < 0).any()):
        raise ValueError(f"{shape.tolist()} of {shape.dtype} is not a shape")
    rows, columns = _rows(shape.tolist())
    for part, value, dtype, expected in (
        ("bitmask", bitmask, torch.uint8, (rows, (columns + 7) // 8)),
        ("row_offsets", row_offsets, torch.int64, (rows,)),
    ):
        if value is not None and (value.dtype != dtype or value.shape != expected):
            raise ValueError(
                f"{part} is {value.dtype} {tuple(value.shape)}, the shape {shape.tolist()} asks "
                f"for {dtype} {expected}"
            )
    # int8: of others' weights that are quantised too
    numbers = compressed.is_floating_point() or compressed.dtype == torch.int8
    if not numbers or compressed.dim() != 1:
        raise ValueError(f"compressed is {compressed.dtype} {tuple(compressed.shape)}")
    mask = unpacked_rows(bitmask, columns)
    if (kept := int(mask.count_nonzero())) != len(compressed):
        raise ValueError(f"the bitmask keeps {kept} weights, there are {len(compressed)} values")
    if row_offsets is not None and not torch.equal(_row_offsets(mask), row_offsets):
        raise ValueError("row_offsets are not those of the bitmask")
    mask = mask.reshape(shape.tolist())
    values = compressed.view(_BITS[compressed.element_size()])
    bits = torch.zeros(shape.tolist(), dtype=values.dtype)
    bits[mask] = values
    return bits.view(compressed.dtype), mask
