"""Transposable N:M: scores → the optimal mask of each M × M block, and its proof.

    max s·m   s.t.   Σ_j m_ij = Σ_i m_ij = N for each row i and column j of a block,   m ∈ {0,1}

A matrix and its transpose are then both N:M sparse, so sparse units can speed up the forward and
the backward pass. Rows and columns are two laminar families, whose rows together are still totally
unimodular; so potentials a, b of rows and columns prove a mask optimal. For any of them

    optimum − s·m  ≤  V  =  N(Σ a_i + Σ b_j) + Σ_ij max(0, s_ij − a_i − b_j) − s·m               (V)

and V = 0 for the right ones. There is no tie rule: of several optima it is one, and the same one
for any chunking, on any number of threads and on any device.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pins.errors import CardinalityError, ImportanceError, OptimalityError
from pins.selection.scan.reference import require_finite, require_rankable
from pins.selection.transposable.augmentation import augment
from pins.selection.transposable.blocks import WIDEST, Blocks, join
from pins.selection.transposable.enumeration import LARGEST, enumerate_masks
from pins.selection.transposable.potentials import potentials
from pins.selection.transposable.proof import ROOM, Proof, cut, prove


@dataclass(frozen=True, eq=False)
class Transposable:
    """A transposable N:M mask and its proof.

    Attributes:
        mask: bool in the shape of the scores, True = keep.
        proof: its potentials, the bound, and the regret: 0 where the mask is proved optimal.
    """

    mask: Tensor
    proof: Proof


def transposable(
    scores: Tensor, n: int, m: int, *, name: str = "scores", room: int = ROOM
) -> Transposable:
    """argmax s·m over masks with n ones in each row and each column of each m × m block.

    Exact for the scores rounded to multiples of each block's 2^e (`Blocks`): of float16, bfloat16
    and most blocks of float32 these are the scores themselves, and the regret is 0. For m ≤ 4 the
    mask is always exact.

    Args:
        scores: s, larger = keep, of shape (…, outputs, inputs): float16, bfloat16, float32 or
            float64, on any device that has float64. A matrix that is stored transposed has the same
            blocks, transposed.
        n: ones of each row and column of a block, 0 < n < m.
        m: a divisor of outputs and inputs, at most 64.
        name: what messages call the tensor.
        room: number of weights that are solved at once; no influence on the result.

    Raises:
        CardinalityError: n and m are no such numbers, or m does not divide the shape.
        ImportanceError: as `pins.selection.select.select`.
        OptimalityError: a mask is not the optimum, which would be a defect of PINS.

    >>> found = transposable(torch.tensor([[3.0, 2.0], [2.0, 0.0]]), 1, 2)
    >>> found.mask.tolist()  # the largest score first would keep 3 + 0
    [[False, True], [True, False]]
    >>> found.proof.bound, found.proof.gap
    (Fraction(4, 1), 0.0)
    """
    require_rankable(name, scores)
    _require_pattern(scores, n, m, name)
    require_finite(name, scores)
    inputs = scores.shape[-1]
    masks, rows, columns = [], [], []
    for given in cut(scores, m, room):
        blocks = Blocks.of(given)
        integers = blocks.scores.permute(2, 0, 1).contiguous()
        if m <= LARGEST:
            kept, a, b = enumerate_masks(integers, blocks.rounded, given.permute(2, 0, 1), n)
        else:
            a, b = (each.T.contiguous() for each in potentials(blocks.scores, n))
            kept, a, b = augment(integers, a, b, n)
        masks.append(join(kept.permute(1, 2, 0).contiguous(), inputs))
        rows.append(a.long())
        columns.append(b.long())
    shape = (*scores.shape[:-2], scores.shape[-2] // m, inputs // m, m)
    mask = torch.cat(masks).view(scores.shape)
    a, b = (torch.cat(each).view(shape) for each in (rows, columns))
    proof = prove(scores, mask, a, b, n, room=room)
    if proof.regret > 2 * proof.rounding:  # also where the optimum of rounded scores is another
        raise OptimalityError(
            f"the transposable {n}:{m} mask of {name} has a gap of {proof.gap:.3g}, of which "
            f"{float(proof.rounding / proof.regret):.0%} is due to rounding"
        )
    return Transposable(mask, proof)


def _require_pattern(scores: Tensor, n: int, m: int, name: str) -> None:
    """0 < n < m ≤ 64, and m × m blocks fill the matrices."""
    if not 0 < n < m <= WIDEST:
        raise CardinalityError(
            f"transposable {n}:{m} was asked for: it keeps n of m weights, 0 < n < m ≤ {WIDEST}"
        )
    if scores.dim() < 2 or not scores.numel():
        raise ImportanceError(
            f"{name} has the shape {tuple(scores.shape)}: transposable {n}:{m} is for matrices"
        )
    outputs, inputs = scores.shape[-2:]
    if outputs % m or inputs % m:
        width = f"{inputs} columns" if inputs % m else f"{outputs} rows"
        raise CardinalityError(
            f"{name} has {width}, which {m} does not divide: choose an m that divides both sides "
            f"of {outputs} × {inputs}, or leave the tensor dense"
        )
