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
from pins.selection.constraints import AtMostNofM, Cardinality, Constraint, NofM
from pins.selection.select import decide, select, tree_of
from pins.selection.tree import Node, Runs, TensorNode, View
from solvers.exact import exact_sum
from verification.certificates.regret import regret
from verification.explorer.data import offset

WEIGHTS = "w"


@dataclass(frozen=True)
class Settings:
    """Where the controls stand."""

    criterion: str = "path"
    keep: int = 5
    rate: float = 0.03
    multiplier: float = math.inf
    precision: str = "float64"
    bounds: str = "none"
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


def tree_under(bounds: str, count: int, keep: int) -> Node:
    """The masks of `keep` of so many weights within bounds."""
    groups: dict[str, Constraint] = {
        "none": Cardinality(keep),
        "2:4": NofM(2, 4) & Cardinality(keep),
        "4:8": NofM(4, 8) & Cardinality(keep),
        "at-most-2:4": AtMostNofM(2, 4) & Cardinality(keep),
    }
    if bounds in groups:
        return tree_of(groups[bounds], {WEIGHTS: torch.empty(count)})
    runs = [Runs(count // 2, keep // 2, name="half")]
    runs += [Runs(4, 0, 2, "2:4 group")] * (bounds == "halves-2:4")
    return Node(
        "the layer", (TensorNode(WEIGHTS, View(1, 1, count), runs=tuple(runs)),), keep, keep
    )


def mask_of(scores: Tensor, tree: Node, keep: int, ties: str) -> Tensor:
    """The mask of a tie rule; all but the first are not those of PINS."""
    if ties == "lower":
        return select({WEIGHTS: scores}, tree)[WEIGHTS]
    if ties == "higher":
        return select({WEIGHTS: scores.flip(0)}, tree)[WEIGHTS].flip(0)
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
    tree = tree_under(settings.bounds, ranking.numel(), settings.keep)
    kept = mask_of(ranking, tree, settings.keep, settings.ties)
    proof = decide({WEIGHTS: ranking}, tree).proof
    primal, multiplier = exact_sum(ranking[kept].numpy()), proof.dual_multiplier
    if settings.bounds == "none":
        low, high = interval(ranking, settings.keep)
        above = (Fraction(score) - Fraction(multiplier) for score in ranking.tolist())
        dual = settings.keep * Fraction(multiplier)
        dual += sum((max(a, Fraction(0)) for a in above), Fraction(0))
    else:  # equal, by thresholds that only valid ones make so
        root, dual = proof.nodes[tree.name], primal
        low = -math.inf if root.pruned_max is None else root.pruned_max
        high = math.inf if root.kept_min is None else root.kept_min
    as_many = tree if settings.bounds != "none" else None
    return Answer(
        ranking=ranking,
        objective=objective,
        kept=kept,
        multiplier=multiplier,
        low=low,
        high=high,
        primal=primal,
        dual=dual,
        regret=regret({WEIGHTS: objective}, {WEIGHTS: kept}, as_many).exact,
        scale=exact_sum(objective.abs().numpy()),
    )
