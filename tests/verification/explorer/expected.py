"""What the page must tell, computed by PINS."""

import math
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from pins.importance.criterion import Criterion
from pins.importance.trust_region.criterion import TrustRegion
from pins.runs.weight_sample import WeightSample
from pins.selection.select import decide, select
from solvers.exact import exact_sum
from verification.certificates.regret import regret
from verification.explorer.data import offset


@dataclass(frozen=True)
class Settings:
    """Where the controls stand."""

    criterion: str = "path"
    keep: int = 5
    rate: float = 0.03
    multiplier: float = math.inf
    precision: str = "float64"
    ties: str = "lower"

    def in_the_page(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Answer:
    """A decision: scores that rank, scores of PINS, mask, λ and its interval, exact values."""

    ranking: Tensor
    objective: Tensor
    kept: Tensor
    multiplier: float
    low: float
    high: float
    primal: Fraction
    dual: Fraction
    regret: Fraction
    scale: Fraction

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, Answer)
        return (
            all(
                torch.equal(
                    getattr(self, name).view(torch.int64), getattr(other, name).view(torch.int64)
                )
                for name in ("ranking", "objective")
            )
            and torch.equal(self.kept, other.kept)
            and all(
                getattr(self, name) == getattr(other, name)
                for name in ("multiplier", "low", "high", "primal", "dual", "regret", "scale")
            )
        )

    __hash__ = None  # type: ignore[assignment]  # compared, never kept in a set


def rounded(scores: Tensor, precision: str) -> Tensor:
    """Rounded as the control says, and float64 again."""
    if precision == "float64":
        return scores
    narrow = scores.float()
    return (narrow.bfloat16() if precision == "bfloat16" else narrow).double()


def scores_of(sample: WeightSample, name: str, settings: Settings) -> Tensor:
    """The scores that rank, in float64, by the criteria of PINS."""
    criterion: str | Criterion = settings.criterion
    if criterion == "path":
        criterion = "pins"
        if settings.multiplier != math.inf:
            assert sample.curvature is not None
            criterion = TrustRegion(
                multiplier=settings.multiplier, offset=offset(sample.curvature[name])
            )
    return sample.importance(criterion, settings.rate)[name]


def mask_of(scores: Tensor, keep: int, ties: str) -> Tensor:
    """The mask of a tie rule; all but the first are not those of PINS."""
    if ties == "lower":
        return select(scores, keep)
    if ties == "higher":
        return select(scores.flip(0), keep).flip(0)
    low, high = interval(scores, keep)
    return scores >= high if ties == "kept" else scores > low


def interval(scores: Tensor, keep: int) -> tuple[float, float]:
    """[s₍ₖ₊₁₎, s₍ₖ₎]."""
    ordered = scores.sort(descending=True).values.tolist()
    return (
        ordered[keep] if keep < len(ordered) else -math.inf,
        ordered[keep - 1] if keep else math.inf,
    )


def expected(sample: WeightSample, name: str, settings: Settings) -> Answer:
    """The decision by PINS, its values by exact sums."""
    ranking = rounded(scores_of(sample, name, settings), settings.precision)
    objective = rounded(sample.importance("pins", settings.rate)[name], settings.precision)
    kept = mask_of(ranking, settings.keep, settings.ties)
    low, high = interval(ranking, settings.keep)
    multiplier = decide({name: ranking}, settings.keep).proof.dual_multiplier
    above = (Fraction(score) - Fraction(multiplier) for score in ranking.tolist())
    return Answer(
        ranking=ranking,
        objective=objective,
        kept=kept,
        multiplier=multiplier,
        low=low,
        high=high,
        primal=exact_sum(ranking[kept].numpy()),
        dual=settings.keep * Fraction(multiplier)
        + sum((max(a, Fraction(0)) for a in above), Fraction(0)),
        regret=regret({name: objective}, {name: kept}).exact,
        scale=exact_sum(objective.abs().numpy()),
    )
