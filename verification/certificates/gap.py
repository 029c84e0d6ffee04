"""An upper bound of the gap to the optimum of a trust region, in rational arithmetic.

Theorem 5 (`pins.importance.trust_region.program`): let best be an optimum for the scores
r = c + μs, μ > 0, among the masks of a tree. Then each mask m′ of it with c·(1−m′) ≤ ρ satisfies

    s·m′  ≤  s·best + (ρ − c·(1−best)) / μ

Here r is exact: c, s and μ are floats, hence rational, and nothing is rounded (`exact_ranks`). A
decision that ranked rounded scores may be another mask; its gap is larger by s·best − s·m.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pins.errors import CriterionError, ImportanceError
from pins.importance.trust_region.program import Terms, TrustRegionDecision
from pins.masks import require_same_tensors
from pins.selection.blocks import by_block, from_blocks, is_blocked, tree_block
from pins.selection.exact_order import exact_ranks
from pins.selection.optimality import optimality
from pins.selection.scan.reference import label, require_finite
from pins.selection.select import select
from pins.selection.tree import Node, View
from solvers.exact import exact_sum
from verification.certificates.denormals import require_denormals
from verification.certificates.regret import shortfall


@dataclass(frozen=True)
class TrustRegionGap:
    """The numbers of Theorem 5, exactly.

    Attributes:
        best: an optimum for r; the mask itself if it is one.
        slack: ρ − c·(1−best), the part of the radius that it leaves.
        gap: s·best − s·m + slack/μ, at least s·m′ − s·m for all masks m′ within the radius.
    """

    best: Mapping[str, Tensor]
    slack: Fraction
    gap: Fraction


def trust_region_gap(
    terms: Mapping[str, Terms],
    masks: Mapping[str, Tensor],
    multiplier: float,
    tree: Node,
    radius: Fraction | None = None,
) -> TrustRegionGap:
    """Best mask, slack and gap of a mask at μ for the radius ρ.

    Args:
        terms: s and c by tensor name, finite.
        masks: bool masks of the same names and shapes, True = keep.
        multiplier: μ, finite and > 0.
        tree: the competing masks, apart from the radius.
        radius: ρ; None for c·(1−m), the mask's own cost.

    Raises:
        CriterionError: μ is not > 0, or not finite.
        CertificateError: this process flushes denormals.
        ImportanceError: a term is not finite, or s and c have different shapes.
        MaskError: names or shapes differ.
    """
    require_denormals()
    if not 0 < multiplier < float("inf"):
        raise CriterionError(
            f"trust_region_gap: the multiplier is {multiplier}: a gap needs one > 0, and finite"
        )
    require_same_tensors({name: both.importance for name, both in terms.items()}, masks)
    ranks = exact_scores(terms, multiplier, tree)
    best: Mapping[str, Tensor] = masks
    if not optimality(ranks, masks, tree=tree).holds:
        best = select(ranks, tree)
    importance = {name: both.importance for name, both in terms.items()}
    radius = removed_cost(terms, masks) if radius is None else radius
    slack = radius - removed_cost(terms, best)
    gap = shortfall(importance, best, masks) + slack / Fraction(multiplier)
    return TrustRegionGap(best, slack, gap)


def decision_gap(
    terms: Mapping[str, Terms], decision: TrustRegionDecision, radius: Fraction | None = None
) -> TrustRegionGap:
    """The gap of a decision with μ > 0.

    Raises:
        CriterionError: μ is 0: the decision is optimal brain damage, without a gap.
    """
    return trust_region_gap(terms, decision.masks, decision.multiplier, decision.tree, radius)


def exact_scores(
    terms: Mapping[str, Terms], multiplier: float, tree: Node | None = None
) -> dict[str, Tensor]:
    """The ranks of r = c + μs over all tensors: the order of r without rounding.

    Where the elements of the tree are blocks, those of its sums: the first weight of a block has
    its rank, and the others 0.
    """
    for name, both in terms.items():
        if both.importance.shape != both.cost.shape:
            raise ImportanceError(
                f"trust_region_gap: {name!r} has s of shape {tuple(both.importance.shape)} and c "
                f"of shape {tuple(both.cost.shape)}: both have the shape of the tensor"
            )
        require_finite(label(name), both.importance)
        require_finite(f"the cost of {name!r}", both.cost)
    if tree is None or not is_blocked(tree):
        size, views = 1, {name: View(1, 1, both.cost.numel()) for name, both in terms.items()}
    else:
        size, views = tree_block(tree), {node.name: node.view for node in tree.tensors}
    s, c = (
        np.concatenate(
            [np.zeros((size, 0)), *(_by_block(view, terms[n][i]) for n, view in views.items())], 1
        )
        for i in (0, 1)
    )
    first = np.zeros_like(c)
    first[0] = exact_ranks([*c, *s], [1.0] * size + [multiplier] * size)
    split = torch.split(torch.from_numpy(first), [view.size for view in views.values()], 1)
    return {
        name: from_blocks(view, own).view(terms[name].cost.shape)
        for (name, view), own in zip(views.items(), split, strict=True)
    }


def removed_cost(terms: Mapping[str, Terms], masks: Mapping[str, Tensor]) -> Fraction:
    """c·(1−m), without rounding."""
    pruned = (
        _flat(both.cost)[~masks[name].cpu().reshape(-1).numpy()] for name, both in terms.items()
    )
    return sum(map(exact_sum, pruned), Fraction(0))


def _by_block(view: View, part: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    return by_block(view, view.weights.apply(part.detach().cpu().double())).numpy()


def _flat(part: Tensor) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    flat: np.ndarray[tuple[int], np.dtype[np.float64]] = (
        part.detach().cpu().to(torch.float64).reshape(-1).numpy()
    )
    return flat
