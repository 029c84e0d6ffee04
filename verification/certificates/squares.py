"""Transposable N:M in a certificate: potentials of each M × M square, and the gap that they prove.

With t_ij = (a_i + b_j)·2^e every mask m′ with N ones in each row and each column of a square has

    s·m′ = Σ m′_ij (s_ij − t_ij) + N(Σa + Σb)·2^e,
    s·m′ − s·m  ≤  V  =  Σ_pruned (s_ij − t_ij)⁺ + Σ_kept (t_ij − s_ij)⁺
"""

from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from pins.errors import CertificateError
from pins.selection.transposable.constraint import TransposableNofM
from pins.selection.transposable.proof import ROOM, cut
from pins.selection.transposable.select import transposable
from solvers.exact import exact_sum

LARGEST = 970  # e, as the format allows: then no t_ij overflows


def potentials_of(importance: Mapping[str, Tensor], pattern: TransposableNofM) -> dict[str, Tensor]:
    """a, b and e of each square, int64 of shape (squares, 2M + 1), of each tensor that has squares.

    Raises:
        CertificateError: a score is near the largest float64.
        CardinalityError, ImportanceError: as `transposable`.
    """
    found = {}
    for name, scores in importance.items():
        if not pattern.divides(scores.shape):
            continue
        proof = transposable(scores, pattern.n, pattern.m, name=repr(name)).proof
        parts = (proof.row_potentials, proof.column_potentials, proof.exponents[..., None])
        found[name] = torch.cat(parts, -1).reshape(-1, 2 * pattern.m + 1).cpu()
        if found[name][:, -1].max() > LARGEST:
            raise CertificateError(
                f"{name!r} has scores of {float(scores.abs().max()):.3g}, and their thresholds "
                "would overflow float64: scale the scores down"
            )
    return found


def gap_of_squares(
    importance: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    potentials: Mapping[str, Tensor],
    pattern: TransposableNofM,
) -> Fraction:
    """V of all squares, without rounding.

    Raises:
        CertificateError: a row or a column of a square has not N ones.
    """
    gap, m = Fraction(0), pattern.m
    for name, lines in potentials.items():
        start = 0
        strips = (cut(each[name].cpu(), m, ROOM) for each in (importance, masks))
        for given, own in zip(*strips, strict=True):
            a, b, e = torch.split(lines[start : start + own.shape[2]].T, [m, m, 1])
            start += own.shape[2]
            if ((own.sum(0) != pattern.n) | (own.sum(1) != pattern.n)).any():
                raise CertificateError(
                    f"the mask is not allowed: {name!r} has {m} × {m} squares whose rows or "
                    f"columns keep not exactly {pattern.n}; certify it under another constraint"
                )
            s, kept = given.double().numpy(), own.numpy()
            t = np.ldexp((a[:, None] + b).double().numpy(), e.numpy())
            for more, less, where in ((s, t, ~kept & (s > t)), (t, s, kept & (t > s))):
                gap += exact_sum(more[where]) - exact_sum(less[where])
    return gap
