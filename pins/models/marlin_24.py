"""2:4-sparse quantised weights in the layout marlin-24 of compressed-tensors, read as dense ones.

Of a matrix W (outputs n, inputs K), 64 dividing n and 32 dividing K, each 4 inputs keep 2. Its
entries begin with the name of its module:

    prefix.weight_packed  (K/32, n·b/2) int32, the kept numbers, b = 4 or 8 bits each
    prefix.meta           (K/32, 2n) int16, where in each 4 inputs the two stand, 2 bits each
    prefix.scale_packed   (groups, n), the scale of each output, or of each 128 inputs of it

W is (number − 2^(b−1)) · scale. The two numbers of each 4 inputs stand side by side: S is (n, K/2).

*Numbers.* A row of `weight_packed` has 16 columns of S of all outputs, in chunks of 64 outputs with
1024 numbers each. Number q = 8·(4·lane + j) + 4·block + s of a chunk (lane < 32, j < 4, block < 2,
s < 4) is of

    column 2·(lane mod 4) + s mod 2 + 8·⌊s/2⌋
    output 16·⌊lane/8⌋ + 8·(⌊lane/4⌋ mod 2) + 4·block + j

A word of p = 32/b numbers holds those of even q first, then those of odd q, the lowest bits first.

*Places.* `meta` has an element for output r and each c-th 16 inputs; its four bits at 4i are of the
i-th 4 inputs: the place of the first of the two, then of the second. With the bits r₅…r₀ of r it
stands at row d = 64⌊r/64⌋ + (r₁ r₅ r₄ r₃ r₀ r₂)₂, but the last bit of d and that of c are
exchanged; then columns are taken in pairs: element 2n·⌊c/2⌋ + 2d + c mod 2.

*Scales.* Where K is above 256 and there are groups, each 8 scales are stored in the order
0 4 1 5 2 6 3 7.

compressed-tensors writes this layout and has no reader for it: kernels read it. This is a
description from its effect; the suite compares with what that writer makes.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

FORM = "marlin-24"
PACKED, META, SCALES = "weight_packed", "meta", "scale_packed"


def packed_entries(entries: Iterable[str]) -> dict[str, list[str]]:
    """The names of the packed numbers, places and scales by the name of their module."""
    known = set(entries)
    prefixes = [name.removesuffix(f".{META}") for name in entries if name.endswith(f".{META}")]
    found = {prefix: [f"{prefix}.{part}" for part in (PACKED, META, SCALES)] for prefix in prefixes}
    return {prefix: own for prefix, own in found.items() if known.issuperset(own)}


def shape_of(packed: Sequence[int], meta: Sequence[int], scales: Sequence[int]) -> tuple[int, int]:
    """(outputs, inputs), from the shapes of the entries.

    Raises:
        ValueError: they contradict each other.
    """
    outputs, inputs = meta[-1] // 2, 32 * meta[0]
    words = {bits: [inputs // 32, outputs * bits // 2] for bits in (4, 8)}
    fits = [*packed] in words.values() and len(scales) == 2 and scales[1] == outputs
    if len(meta) != 2 or outputs % 64 or not inputs or inputs % max(scales[0], 1) or not fits:
        raise ValueError(
            f"{FORM} has no entries of the shapes {[*packed]}, {[*meta]} and {[*scales]}"
        )
    return outputs, inputs


def dense(packed: Tensor, meta: Tensor, scales: Tensor) -> Tensor:
    """W as float32, from the entries of a matrix.

    Raises:
        ValueError: their shapes or dtypes are others, or two numbers have one place.
    """
    outputs, inputs = shape_of(packed.shape, meta.shape, scales.shape)
    if (packed.dtype, meta.dtype) != (torch.int32, torch.int16):
        raise ValueError(f"{FORM} has int32 and int16, not {packed.dtype} and {meta.dtype}")
    places = _places(meta, outputs, inputs)
    if (places[..., 0] >= places[..., 1]).any():
        raise ValueError("two numbers of four inputs have one place, or the wrong order")
    numbers = _numbers(packed, outputs, inputs // 2).view(outputs, inputs // 4, 2)
    matrix = torch.zeros(outputs, inputs // 4, 4)
    matrix.scatter_(2, places, numbers)
    groups = _scales(scales.float(), inputs)
    return (matrix.view(outputs, len(groups), -1) * groups.T[:, :, None]).view(outputs, inputs)


def _numbers(packed: Tensor, outputs: int, columns: int) -> Tensor:
    """S, (outputs, columns), less the zero point."""
    bits = 2 * packed.shape[1] // outputs
    size = 32 // bits
    shifts = torch.arange(0, 32, bits, dtype=torch.int32)
    slots = (packed[:, :, None] >> shifts) & (2**bits - 1)  # (rows, words, numbers of a word)
    stored = slots.view(len(packed), -1, 1024)
    # number q of a chunk: the even ones of each word come first
    q = torch.arange(1024)
    within = q % size
    stored = stored[:, :, q - within + within // 2 + (within % 2) * (size // 2)]
    lane, j, block, s = q // 32, q // 8 % 4, q // 4 % 2, q % 4
    column = 2 * (lane % 4) + s % 2 + 8 * (s // 2)
    output = 16 * (lane // 8) + 8 * (lane // 4 % 2) + 4 * block + j
    found = torch.empty(len(packed), outputs // 64, 64, 16)
    found[:, :, output, column] = (stored - 2 ** (bits - 1)).float()
    return found.permute(1, 2, 0, 3).reshape(outputs, columns)


def _places(meta: Tensor, outputs: int, inputs: int) -> Tensor:
    """Where in their four inputs the two numbers stand, (outputs, inputs/4, 2) int64."""
    r, c = torch.arange(outputs)[:, None], torch.arange(inputs // 16)
    bit = [(r >> i) & 1 for i in range(6)]
    row = r // 64 * 64 + 32 * bit[1] + (r >> 3 & 7) * 4 + 2 * bit[0] + bit[2]
    row, column = row - row % 2 + c % 2, c - c % 2 + row % 2
    at = 2 * outputs * (column // 2) + 2 * row + column % 2
    elements = meta.flatten().long()[at]
    shifts = torch.arange(0, 16, 2)
    return ((elements[:, :, None] >> shifts) & 3).view(outputs, inputs // 4, 2)


def _scales(stored: Tensor, inputs: int) -> Tensor:
    """The scales (groups, outputs)."""
    if len(stored) == 1 or inputs <= 256:
        return stored
    return stored.view(len(stored), -1, 4, 2).transpose(2, 3).reshape(stored.shape)
