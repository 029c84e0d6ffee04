"""Criteria on the same sample of weights: their masks, overlaps, and regret under PINS' scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from pins.importance.criteria import CRITERIA
from pins.importance.criterion import Criterion, Reads
from pins.importance.trust_region.criterion import OF_FEW_ROWS, TrustRegion
from pins.importance.trust_region.multiplier import largest_multiplier
from pins.importance.trust_region.sample import sample as sample_of
from pins.masks import compare
from pins.runs.weight_sample import WeightSample, subsample
from pins.selection.constraints import Cardinality, keep_count
from pins.selection.select import select
from solvers.exact import FloatArray, exact_sum
from solvers.formulation import CardinalityFormulation
from solvers.relaxation import Relaxation, dual_value
from verification.certificates.regret import regret
from verification.laws import flat

SPARSITIES = (0.001, 0.01, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97)
RELAXED = 4096  # weights in the LP relaxation, which HiGHS solves in about a second
DEFAULT_SHARE = TrustRegion().radius  # the reduction that is predicted, as a share of the loss


@dataclass(frozen=True)
class RegretPoint:
    """One criterion's mask at one sparsity, under the scores of PINS.

    Attributes:
        regret: s·m* − s·m as a share of Σ|s|; exact until this division.
        bound: upper bound of the regret by the LP relaxation, without m*: (D(λ) − s·m)/Σ|s| with
            the λ that HiGHS returns; exact until this division.
    """

    criterion: str
    sparsity: float
    regret: float
    bound: float


def criteria_of(sample: WeightSample, loss: float | None = None) -> dict[str, Criterion]:
    """The criteria whose observations the sample contains, by name.

    Args:
        sample: some weights.
        loss: the model's loss; with it the trust region is fitted to the run's sparsity.
    """
    known = {
        name: criterion
        for name, criterion in CRITERIA.items()
        if not criterion.adaptive
        and (Reads.CURVATURE not in criterion.reads or sample.curvature is not None)
    }
    if loss is not None and sample.curvature is not None:
        constraint = Cardinality(keep_count(sample.sparsity, sample.total))
        region = TrustRegion(damping=OF_FEW_ROWS).damped(sample.observations())
        program = region.at(sample.observations(), constraint)
        # the sample has this share of the weights, and about this share of the reduction
        share = sample.total / sum(shape.numel() for shape in sample.shapes.values())
        multiplier = largest_multiplier(sample_of(program), DEFAULT_SHARE * loss * share)
        known[TrustRegion.name] = replace(region, multiplier=multiplier)
    return known


def masks_of(
    sample: WeightSample, criteria: Mapping[str, Criterion], sparsity: float
) -> dict[str, dict[str, Tensor]]:
    """Criterion → its optimal mask, one ranking over all tensors."""
    keep = keep_count(sparsity, sample.total)
    return {name: select(sample.importance(each), keep) for name, each in criteria.items()}


def regrets(
    sample: WeightSample,
    criteria: Mapping[str, Criterion],
    sparsities: Sequence[float] = SPARSITIES,
) -> list[RegretPoint]:
    """The regret of each criterion at each sparsity, and its bound by the LP relaxation.

    Uses at most `RELAXED` weights of the sample.
    """
    scores = {name: subsample(sample.importance(each), RELAXED) for name, each in criteria.items()}
    importance = {"sample": subsample(sample.importance("pins"), RELAXED)}
    values = _flat(importance)
    scale = float(exact_sum(np.abs(values)))
    points = []
    for sparsity in sparsities:
        keep = keep_count(sparsity, values.size)
        relaxed = Relaxation().solve(CardinalityFormulation(importance, keep).program)
        assert relaxed.multipliers is not None, "a cardinality row alone is always feasible"
        dual = dual_value(values, keep, float(relaxed.multipliers[0]))
        for name, ranked in scores.items():
            mask = select(ranked, keep)
            exact = regret(importance, {"sample": mask}).exact
            bound = dual - exact_sum(values[mask.numpy()])
            points.append(RegretPoint(name, sparsity, float(exact) / scale, float(bound) / scale))
    return points


def overlaps(
    sample: WeightSample, criteria: Mapping[str, Criterion], sparsity: float
) -> dict[str, dict[str, float]]:
    """|A∩B| / |A∪B| for each pair of criteria, A and B the sets that they prune, by both names."""
    masks = masks_of(sample, criteria, sparsity)
    return {
        first: {second: compare(m, n).pruned_jaccard for second, n in masks.items()}
        for first, m in masks.items()
    }


def spread_weights(sample: WeightSample, number: int) -> list[float]:
    """The PINS scores of a few weights, of similar magnitude, for a figure.

    Real scores span many orders of magnitude. These are evenly spaced ranks of |s| in the sample,
    from the median to the 0.9-quantile.
    """
    scores = _flat(sample.importance("pins"))
    order = np.argsort(np.abs(scores), kind="stable")
    places = np.linspace(0.5 * (order.size - 1), 0.9 * (order.size - 1), number)
    return [float(score) for score in scores[order[places.round().astype(int)]]]


def _flat(tensors: Mapping[str, Tensor]) -> FloatArray:
    values: FloatArray = flat(tensors).double().numpy()
    return values
