"""The scores of one decision in descending order: the curve, and its part at the threshold."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pins.selection.optimality import Optimality
from verification.laws import flat

POINTS = 400  # evenly spaced ranks of the whole curve
AROUND = 20  # ranks shown on each side of the threshold


def score_curve(importance: Mapping[str, Tensor], proof: Optimality) -> dict[str, Any]:
    """The numbers from which a decision is drawn, as JSON values.

    Args:
        importance: s by tensor name, larger = keep.
        proof: the proof of the decision's mask.

    Returns:
        `ranks` (from 0) and `scores` of the whole curve; `near`, the scores of the ranks from
        `first` on, k among them; `tied`, how many scores equal λ; `zeros`, how many are 0.
    """
    together = flat({name: s.detach().cpu() for name, s in importance.items()}).double()
    scores = together.sort(descending=True).values
    total, keep = scores.numel(), proof.keep
    ranks = torch.arange(min(POINTS, total)) * (total - 1) // max(min(POINTS, total) - 1, 1)
    first = max(keep - AROUND, 0)
    threshold = proof.dual_multiplier
    return {
        "ranks": ranks.tolist(),
        "scores": scores[ranks].tolist(),
        "first": first,
        "near": scores[first : keep + AROUND].tolist(),
        "tied": int((scores == threshold).sum()),
        "zeros": int((scores == 0).sum()),
        "lambda": threshold,
        "keep": keep,
        "total": total,
    }
