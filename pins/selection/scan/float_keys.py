"""Integers in the order of the scores: sᵢ < sⱼ ⇔ keyᵢ < keyⱼ, and sᵢ = sⱼ ⇔ keyᵢ = keyⱼ.

IEEE floats are sign and magnitude; flipping the magnitude bits of the negative ones makes
two's-complement integers of the same order. Nothing lies between two neighbouring keys, so an
interval of keys can be halved until one is left.

Nothing here lets a processor do arithmetic on denormals: it may have been told to flush them.
"""

import functools
import struct
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

DTYPES = {
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
    torch.float32: torch.int32,
    torch.float64: torch.int64,
}

_GRAIN = 1 << 15  # elements for which torch uses one more thread


def keys(scores: Tensor) -> Tensor:
    """The key of each score, an integer of the same size; −0.0 has the key of 0.0, its equal."""
    integer = DTYPES[scores.dtype]
    bits = scores.view(integer)
    # not by adding 0.0, which a processor told to flush denormals would make of them as well
    return _flipped(bits.masked_fill(bits == torch.iinfo(integer).min, 0))


def key(score: float) -> int:
    """The key of a Python float, by which floats of all types compare."""
    bits: int = struct.unpack("<q", struct.pack("<d", score))[0]
    return bits if bits >= 0 else -(bits & 0x7FFF_FFFF_FFFF_FFFF)


def scores(found: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert keys back to their scores."""
    return _flipped(found.to(DTYPES[dtype])).view(dtype)


def array_scores(found: NDArray[np.int64], dtype: torch.dtype) -> NDArray[Any]:
    """As `scores`, of a few keys of a type that numpy has: a tenth of the calls' time."""
    width = dtype.itemsize
    bits = found.astype(f"i{width}")
    flipped: NDArray[Any] = bits ^ ((bits >> (8 * width - 1)) & np.iinfo(bits.dtype).max)
    return flipped.view(f"f{width}")


def above(bits: NDArray[Any], key: int, out: NDArray[np.bool_]) -> None:
    """out ← keyᵢ > key, from the bits of the floats as signed integers; no keys are made.

    Where key ≥ 0 that is the order of the integers: negative floats are negative. Below, it is the
    reverse order of the unsigned integers; −0.0, the least of the negative ones, is above key −1.
    """
    if key >= 0:
        np.greater(bits, key, out=out)
        return
    width = 8 * bits.itemsize
    limit = (key ^ ((1 << (width - 1)) - 1)) % (1 << width) + (key == -1)
    np.less(bits.view(f"u{bits.itemsize}"), limit, out=out)


def equal(scores: Tensor, key: int) -> Tensor:
    """keyᵢ = key, from the bits of the scores; no keys are made."""
    bits = scores.view(DTYPES[scores.dtype])
    magnitude = torch.iinfo(bits.dtype).max
    if key == 0:  # 0.0 and −0.0
        return bits & magnitude == 0
    return bits == (key if key > 0 else key ^ magnitude)


def widened(scores: Tensor, dtype: torch.dtype) -> Tensor:
    """The scores in a type that has them all."""
    wide = scores.to(dtype)
    if dtype != torch.float64 or scores.dtype == torch.float64:
        return wide
    # the only step at which denormals are converted as numbers, not as bits
    single = torch.finfo(torch.float32)
    bits = scores.float().view(torch.int32)
    magnitude = bits & torch.iinfo(torch.int32).max
    steps = torch.where(bits < 0, -magnitude, magnitude)
    # below the least normal number floats are evenly spaced
    return wide.where(magnitude >= int(1 / single.eps), steps.double() * (single.tiny * single.eps))


@functools.cache
def finite(dtype: torch.dtype) -> tuple[int, int]:
    """The keys of the least and of the largest finite score."""
    largest = torch.finfo(dtype).max
    least, most = keys(torch.tensor([-largest, largest], dtype=dtype)).tolist()
    return least, most


def denormals_compare() -> bool:
    """Whether this thread, and those that it starts, tell the least positive number from 0."""
    return bool(np.array([1]).view(np.float64) > 0)


def denormals_compare_everywhere() -> bool:
    """`denormals_compare` in this thread and in each of those that torch computes with.

    A thread that was started while denormals were flushed goes on flushing them.
    """
    least = torch.ones(_GRAIN * torch.get_num_threads(), dtype=torch.int64).view(torch.float64)
    return denormals_compare() and bool((least > 0).all())


def _flipped(bits: Tensor) -> Tensor:
    """The magnitude bits of negative integers flipped: floats' bits to keys, and back."""
    info = torch.iinfo(bits.dtype)
    return bits ^ ((bits >> (info.bits - 1)) & info.max)
