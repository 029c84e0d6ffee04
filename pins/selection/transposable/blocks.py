"""The M × M blocks of a matrix, and their scores as integers times a power of two.

A block's scores are s = r·2^e, with |r| ≤ 2^L (`precision`) and e from its largest |s|, but at
least −1074: all float64s are multiples of 2^−1074, so (a_i + b_j)·2^e is a float64 too. All that a
solver adds up are integers below 2^53, which float64 adds without rounding, in any order: masks and
potentials have the same bits for any chunking, on any number of threads and on any device. A score
that is no multiple of 2^e is rounded to the nearest one and counted: each adds at most 2^e to a
regret.

The bits are read as integers, so nothing depends on how a processor treats denormals.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pins.selection.scan.float_keys import DTYPES

WIDEST = 64  # M for which sums over a block of potentials fit 63 bits
LEAST = -1074  # exponent of the least positive float64


def precision(m: int) -> int:
    """L = min(47 − ℓ, 57 − 3ℓ) bits for the scores of a block, ℓ = ⌈log₂ M⌉.

    A path through the 2M rows and columns has a length of at most 2^(L+ℓ+2), which also bounds
    what `pins.selection.transposable.augmentation` adds to a potential. So potentials are at most
    2^(L+ℓ+3) and |s − a − b| ≤ 2^(L+ℓ+5), exact in float64; its sum over M² entries is at most
    2^62.
    """
    width = (m - 1).bit_length()
    return min(47 - width, 57 - 3 * width)


class Blocks(NamedTuple):
    """Blocks as integers; the last dimension, of length B, counts the blocks.

    Attributes:
        scores: r, float64 of shape (M, M, B): rows, columns, blocks.
        exponents: e, int64 of shape (B,).
        rounded: number of scores of the block that are no multiple of 2^e, int64 of shape (B,).
    """

    scores: Tensor
    exponents: Tensor
    rounded: Tensor

    @classmethod
    def of(cls, scores: Tensor) -> "Blocks":
        """The integers of finite scores of shape (M, M, B)."""
        info = torch.finfo(scores.dtype)
        digits = -round(math.log2(info.eps))  # of the significand, without the leading one
        bits = scores.contiguous().view(DTYPES[scores.dtype])
        magnitude = (bits & torch.iinfo(bits.dtype).max).long()
        significand, exponent = _decoded(magnitude, digits)
        largest, top = _decoded(magnitude.amax((0, 1)), digits)
        length = torch.frexp(largest.double()).exponent  # of an integer, in bits
        units = round(math.log2(info.tiny)) - digits  # exponent of the least positive score
        lowest = (top + length - precision(len(scores))).clamp(min=LEAST - units)
        shift = exponent - lowest
        shifted = significand << shift.clamp(min=0)
        right = (-shift).clamp(0, 62)
        nearest = (shifted + ((1 << right) >> 1)) >> right
        rounded = (nearest << right != shifted).sum((0, 1))
        return cls(torch.where(bits < 0, -nearest, nearest).double(), lowest + units, rounded)


def _decoded(magnitude: Tensor, digits: int) -> tuple[Tensor, Tensor]:
    """Bits of |s| → integers x and y ≥ 0 with |s| = x·2^y in units of the least positive score."""
    field, fraction = magnitude >> digits, magnitude & ((1 << digits) - 1)
    return torch.where(field > 0, fraction + (1 << digits), fraction), (field - 1).clamp(min=0)


def split(matrix: Tensor, m: int) -> Tensor:
    """(outputs, inputs) → (M, M, B); the blocks are counted along the rows of blocks."""
    outputs, inputs = matrix.shape
    cut = matrix.reshape(outputs // m, m, inputs // m, m)
    return cut.permute(1, 3, 0, 2).reshape(m, m, -1)


def join(blocks: Tensor, inputs: int) -> Tensor:
    """(M, M, B) → (outputs, inputs): the inverse of `split`."""
    m = len(blocks)
    return blocks.view(m, m, -1, inputs // m).permute(2, 0, 3, 1).reshape(-1, inputs)
