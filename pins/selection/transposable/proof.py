"""Potentials of rows and columns as the proof of a transposable mask, in exact arithmetic."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from pins.errors import MaskError
from pins.selection.transposable.blocks import Blocks, precision, split

ROOM = 1 << 18  # weights at a time: 2 MB for each float64 of theirs


@dataclass(frozen=True, eq=False)
class Proof:
    """Potentials of all blocks of a matrix, and what they prove of a mask.

    Attributes:
        row_potentials: a, int64 of shape (…, outputs/M, inputs/M, M), in units of 2^e.
        column_potentials: b, likewise.
        exponents: e, int64 of shape (…, outputs/M, inputs/M).
        bound: no allowed mask has a larger s·m.
        regret: V ≥ optimum − s·m.
        rounding: Σ 2^e over the scores that are no multiple of the 2^e of their block, about 1e-12
            of its largest score each. Bound and regret are exact, rounded up by this much.
    """

    row_potentials: Tensor
    column_potentials: Tensor
    exponents: Tensor
    bound: Fraction
    regret: Fraction
    rounding: Fraction

    @property
    def gap(self) -> float:
        """Regret as a share of the bound, rounded up; ∞ for a regret with a bound ≤ 0."""
        if not self.regret:
            return 0.0
        if self.bound <= 0:
            return math.inf
        return math.nextafter(float(self.regret / self.bound), math.inf)


def prove(
    scores: Tensor, mask: Tensor, rows: Tensor, columns: Tensor, n: int, *, room: int = ROOM
) -> Proof:
    """What any potentials prove of any allowed mask.

    Args:
        scores: s, finite, of shape (…, outputs, inputs).
        mask: bool, of the same shape.
        rows: a, int64 of shape (…, outputs/M, inputs/M, M), in units of the proof's 2^e.
        columns: b, likewise.
        n: ones of each row and column of a block.
        room: number of weights that are read at once; no influence on the result.

    Raises:
        MaskError: the mask has another shape or type, or a row or a column of a block has not n
            ones; names the block.
    """
    if mask.shape != scores.shape or mask.dtype != torch.bool:
        raise MaskError(
            f"the mask is {mask.dtype} of shape {tuple(mask.shape)}: the mask of these scores is "
            f"bool of shape {tuple(scores.shape)}"
        )
    m, inputs = rows.shape[-1], scores.shape[-1]
    limit = 1 << (precision(m) + (m - 1).bit_length() + 3)  # any potentials prove something
    rows, columns = rows.clamp(-limit, limit), columns.clamp(-limit, limit)
    a, b = rows.reshape(-1, m).T, columns.reshape(-1, m).T
    exponents, bound, regret, rounding, start = [], Fraction(0), Fraction(0), Fraction(0), 0
    strips = zip(cut(scores, m, room), cut(mask, m, room), strict=True)
    for blocks, kept in ((Blocks.of(given), kept) for given, kept in strips):
        stop = start + kept.shape[2]
        wrong = ((kept.sum(0) != n) | (kept.sum(1) != n)).any(0)
        if wrong.any():
            row, column = divmod(start + int(wrong.nonzero()[0]), inputs // m)
            raise MaskError(
                f"the mask does not keep {n} weights in each row and each column of the {m} × {m} "
                f"block ({row}, {column}): it proves nothing"
            )
        integers, i, j = blocks.scores.long(), a[:, start:stop], b[:, start:stop]
        above = (integers - i[:, None] - j).clamp(min=0).sum((0, 1))
        dual = n * (i.sum(0) + j.sum(0)) + above
        bound += _total(dual, blocks.exponents)
        regret += _total(dual - integers.where(kept, 0).sum((0, 1)), blocks.exponents)
        rounding += _total(blocks.rounded, blocks.exponents)
        exponents.append(blocks.exponents)
        start = stop
    shape = rows.shape[:-1]
    found = torch.cat(exponents).view(shape)
    return Proof(rows, columns, found, bound + rounding, regret + rounding, rounding)


def cut(matrix: Tensor, m: int, room: int) -> Iterator[Tensor]:
    """The blocks of a matrix of shape (…, outputs, inputs), about `room` weights at a time."""
    flat = matrix.detach().resolve_neg().reshape(-1, matrix.shape[-1])
    height = max(room // (m * flat.shape[1]), 1) * m
    for start in range(0, len(flat), height):
        yield split(flat[start : start + height], m)


def _total(integers: Tensor, exponents: Tensor) -> Fraction:
    """Σ x·2^e, exactly."""
    least, most = (int(each) for each in exponents.aminmax())
    halves = torch.stack([integers >> 32, integers & 0xFFFF_FFFF])  # sums of whole ones overflow
    sums = halves.new_zeros(2, most - least + 1).index_add(1, exponents - least, halves)
    units: int = sum(((high << 32) + low) << i for i, (high, low) in enumerate(sums.T.tolist()))
    return units * Fraction(2) ** least
