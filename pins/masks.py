"""Masks by parameter name, m ∈ {0,1}ⁿ, True = keep: apply, count, compare, save, load."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from pins.distributed.sharding import group_of, is_sharded, like_sharding, local, part, whole
from pins.errors import MaskError
from pins.utils import bit_packing
from pins.utils.io import load_tensors, require_format, save_tensors
from pins.utils.lazy_tensors import shapes_of
from pins.utils.text_files import reading

FORMAT = {"format": "pins-mask", "version": "1"}


@dataclass(frozen=True)
class Count:
    """A mask keeps `kept` of `total` weights."""

    kept: int
    total: int

    @property
    def sparsity(self) -> float:
        """1 − kept ratio."""
        return 1 - self.kept / self.total if self.total else 0.0


@dataclass(frozen=True)
class Overlap:
    """Numbers of weights kept by both of two masks, by one of them, by neither."""

    both: int
    first_only: int
    second_only: int
    neither: int

    @property
    def kept_jaccard(self) -> float:
        """|A∩B| / |A∪B| of the kept sets; 1 when both are empty."""
        union = self.both + self.first_only + self.second_only
        return self.both / union if union else 1.0

    @property
    def pruned_jaccard(self) -> float:
        """|A∩B| / |A∪B| of the pruned sets; 1 when both are empty."""
        union = self.neither + self.first_only + self.second_only
        return self.neither / union if union else 1.0


class PackedMasks(Mapping[str, Tensor]):
    """Masks stored as one bit per weight; each access unpacks one mask."""

    def __init__(self, masks: Mapping[str, Tensor]) -> None:
        self._bits = {name: bit_packing.packed(mask) for name, mask in masks.items()}
        self._shapes = {name: mask.shape for name, mask in masks.items()}

    @torch.no_grad()
    def apply(self, tensors: Mapping[str, Tensor]) -> None:
        """θ ← m ⊙ θ in place, like `apply`, without unpacking the masks."""
        for name, tensor in tensors.items():
            bit_packing.clear(tensor, self._bits[name])

    def __getitem__(self, name: str) -> Tensor:
        return bit_packing.unpacked(self._bits[name], self._shapes[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._bits)

    def __len__(self) -> int:
        return len(self._bits)


@torch.no_grad()
def apply(masks: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """θ ← m ⊙ θ in place; pruned weights become +0.0, also if they were NaN or negative.

    Args:
        masks: by name, True = keep.
        tensors: by name, as `dict(model.named_parameters())`; those without a mask do not change.

    Raises:
        MaskError: a mask has no tensor, or another shape; then nothing has changed.
    """
    masked = {name: tensors[name] for name in masks if name in tensors}
    require_same_tensors(masked, masks)
    for name, tensor in masked.items():
        bit_packing.clear(local(tensor), bit_packing.packed(part(masks[name], tensor)))


def nonzero_masks(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """mᵢ = 1 iff θᵢ ≠ 0, by name; -0.0 is zero; sharded like the tensors."""
    return {
        name: like_sharding(local(tensor.detach()) != 0, tensor) for name, tensor in tensors.items()
    }


@torch.no_grad()
def count_broken(masks: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> int:
    """The number of weights that are not zero where the masks prune; -0.0 is zero.

    For sharded tensors: over all ranks (a collective).
    """
    own = [
        local(tensor)[~part(masks[name], tensor).to(tensor.device)].count_nonzero()
        for name, tensor in tensors.items()
    ]
    return int(group_of(tensors).total(torch.tensor(sum(int(each) for each in own))))


def count(masks: Mapping[str, Tensor]) -> Count:
    """The exact number of ones over all tensors; sharded ones: over all ranks (a collective)."""
    return Count(_ones(masks), sum(mask.numel() for mask in masks.values()))


def count_each(masks: Mapping[str, Tensor]) -> dict[str, Count]:
    """The exact number of ones in each tensor."""
    return {name: count({name: mask}) for name, mask in masks.items()}


def compare(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> Overlap:
    """Count the weights on which two masks agree and differ.

    Raises:
        MaskError: names or shapes differ.
    """
    require_same_tensors(first, second)
    require_same_tensors(second, first)
    both = _ones({name: mask & second[name] for name, mask in first.items()})
    kept_first, kept_second, total = count(first).kept, count(second).kept, count(first).total
    first_only, second_only = kept_first - both, kept_second - both
    return Overlap(both, first_only, second_only, total - both - first_only - second_only)


def _ones(masks: Mapping[str, Tensor]) -> int:
    own = sum(int(bit_packing.ones(local(mask))) for mask in masks.values())
    return int(group_of(masks).total(torch.tensor(own)))


def save(masks: Mapping[str, Tensor], path: Path | str) -> None:
    """Write masks one bit per weight: bit i mod 8 (least significant first) of byte ⌊i/8⌋.

    The file's metadata holds the shapes and the order of the tensors. The write is atomic.

    For sharded masks this is a collective: one tensor after the other is gathered, and rank 0 keeps
    its bits on the CPU and writes them.
    """
    packed, writes = {}, True
    for name, mask in masks.items():
        if mask.dtype != torch.bool:
            raise MaskError(f"the mask of {name!r} is {mask.dtype}: masks are torch.bool")
        gathered = whole(mask)
        writes = not is_sharded(mask) or dist.get_rank() == 0
        if writes:
            packed[name] = bit_packing.packed(gathered).cpu()
    if not writes:
        return
    shapes = json.dumps({name: list(mask.shape) for name, mask in masks.items()})
    save_tensors(packed, Path(path), {**FORMAT, "shapes": shapes})


def load(path: Path | str) -> dict[str, Tensor]:
    """Read masks, bit-packed by `save`, or plain bool tensors of the weights' shapes.

    Raises:
        FileError: the file is missing, torn, or not a mask file.
    """
    path = Path(path)
    tensors, metadata = load_tensors(path)
    if all(tensor.dtype == torch.bool for tensor in tensors.values()):
        return tensors
    require_format(path, metadata, FORMAT)
    with reading(f"{path} is a damaged mask file"):
        shapes = json.loads(metadata["shapes"])
        return {name: from_bits(bits, shapes[name]) for name, bits in tensors.items()}


def from_bits(bits: Tensor, shape: list[int]) -> Tensor:
    """The mask of this shape from its bits in a file.

    Raises:
        ValueError: there is a wrong number of bytes, or a padding bit is set.
    """
    if not all(isinstance(length, int) and length >= 0 for length in shape):
        raise ValueError(f"{shape} is not a shape")
    return bit_packing.unpacked_rows(bits[None], math.prod(shape)).reshape(shape)


def require_same_tensors(tensors: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> None:
    """Check that `masks` holds one bool mask of the same shape for each of `tensors`.

    Raises:
        MaskError: a name is missing or a shape differs.
    """
    for name in [*tensors, *masks]:
        if name in tensors and name in masks:
            continue
        where = "no mask" if name in tensors else "a mask but no tensor"
        raise MaskError(f"{name!r} has {where}: masks and tensors must have the same names")
    for name, shape in shapes_of(tensors).items():
        mask = masks[name]
        if mask.shape != shape or mask.dtype != torch.bool:
            raise MaskError(
                f"the mask of {name!r} is {mask.dtype} of shape {tuple(mask.shape)}, "
                f"the tensor has shape {tuple(shape)}: masks are torch.bool of equal shape"
            )
