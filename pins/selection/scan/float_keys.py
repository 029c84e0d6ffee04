"""Integers in the order of the scores: sᵢ < sⱼ ⇔ keyᵢ < keyⱼ, and sᵢ = sⱼ ⇔ keyᵢ = keyⱼ.

IEEE floats are sign and magnitude; flipping the magnitude bits of the negative ones makes
two's-complement integers of the same order. Nothing lies between two neighbouring keys, so an
interval of keys can be halved until one is left.

Nothing here lets a processor do arithmetic on denormals: it may have been told to flush them.
"""

import functools

import torch
from torch import Tensor

_SHARE = 1 << 15  # numbers that PyTorch gives to one thread at least
DTYPES = {
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
    torch.float32: torch.int32,
    torch.float64: torch.int64,
}


def keys(scores: Tensor) -> Tensor:
    """The key of each score, an integer of the same size; −0.0 has the key of 0.0, its equal."""
    integer = DTYPES[scores.dtype]
    least, magnitude = torch.iinfo(integer).min, torch.iinfo(integer).max
    bits = scores.view(integer)
    # not by adding 0.0, which a processor told to flush denormals would make of them as well
    bits = bits.masked_fill(bits == least, 0)
    return bits ^ ((bits >> (torch.iinfo(integer).bits - 1)) & magnitude)


def widened(scores: Tensor, dtype: torch.dtype) -> Tensor:
    """The scores in a type that has them all."""
    wide = scores.to(dtype)
    if dtype != torch.float64 or scores.dtype == torch.float64:
        return wide
    # the only step at which denormals are converted as numbers, not as bits
    bits = scores.float().view(torch.int32)
    magnitude = bits & torch.iinfo(torch.int32).max
    steps = torch.where(bits < 0, -magnitude, magnitude)
    return wide.where(magnitude >= _denormals(torch.float32), steps.double() * _step(torch.float32))


def key(score: float, dtype: torch.dtype) -> int:
    """The key of one score."""
    if dtype != torch.float64 and abs(score) < torch.finfo(dtype).tiny:
        steps = int(abs(score) / _step(dtype))
        return -1 - steps if score < 0 else steps
    return int(keys(torch.tensor([score], dtype=dtype)))


def score(key: int, dtype: torch.dtype) -> float:
    """The score of a key."""
    steps = -1 - key if key < 0 else key
    if dtype != torch.float64 and steps < _denormals(dtype):
        return -steps * _step(dtype) if key < 0 else steps * _step(dtype)
    bits = torch.tensor([key], dtype=DTYPES[dtype])
    magnitude = torch.iinfo(bits.dtype).max
    return float((bits ^ ((bits >> (torch.iinfo(bits.dtype).bits - 1)) & magnitude)).view(dtype))


@functools.cache
def finite(dtype: torch.dtype) -> tuple[int, int]:
    """The keys of the least and of the largest finite score."""
    largest = torch.finfo(dtype).max
    return key(-largest, dtype), key(largest, dtype)


def denormals_compare(size: int) -> bool:
    """Whether all threads that share the work on so many floats tell the least positive from 0.

    `set_flush_denormal` speaks to the thread that calls it and to those that this one starts later,
    which go on flushing when it no longer does.
    """
    asked = max(1, min(size, _SHARE * torch.get_num_threads()))
    least = torch.tensor([1], dtype=torch.int64).view(torch.float64)
    return bool((least.expand(asked) > 0).all())


def _denormals(dtype: torch.dtype) -> int:
    """How many floats from 0.0 on are evenly spaced, short of the least normal one."""
    return int(1 / torch.finfo(dtype).eps)


def _step(dtype: torch.dtype) -> float:
    """Their spacing."""
    return torch.finfo(dtype).tiny * torch.finfo(dtype).eps
