"""Criteria on the same sampled weights: what each keeps, and its regret under PINS' scores."""

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
RELAXED = 4096  # weights that the LP relaxation is solved for
DEFAULT_SHARE = TrustRegion().radius  # of the loss, that a decision may promise


@dataclass(frozen=True)
class RegretPoint:
    """One criterion's mask at one sparsity, under the scores of PINS.

    Attributes:
        regret: s·m* − s·m as a share of Σ|s|; exact until this division.
        bound: what the LP relaxation proves of it without m*: (D(λ) − s·m)/Σ|s| with the λ that
            HiGHS returns for the relaxation, likewise.
    """

    criterion: str
    sparsity: float
    regret: float
    bound: float


def criteria_of(sample: WeightSample, loss: float | None = None) -> dict[str, Criterion]:
    """The criteria that the sample has everything for, by name.

    Args:
        sample: some weights.
        loss: of the model there; with it the trust region is fitted to the run's sparsity.
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
        # a sample's drop stands for that of all weights
        share = sample.total / sum(shape.numel() for shape in sample.shapes.values())
        multiplier = largest_multiplier(sample_of(program), DEFAULT_SHARE * loss * share)
        known[TrustRegion.name] = replace(region, multiplier=multiplier)
    return known


def masks_of(
    sample: WeightSample, criteria: Mapping[str, Criterion], sparsity: float
) -> dict[str, dict[str, Tensor]]:
    """The optimal mask of each criterion by its name, one ranking over all tensors."""
    keep = keep_count(sparsity, sample.total)
    return {name: select(sample.importance(each), keep) for name, each in criteria.items()}


def regrets(
    sample: WeightSample,
    criteria: Mapping[str, Criterion],
    sparsities: Sequence[float] = SPARSITIES,
) -> list[RegretPoint]:
    """The regret of each criterion at each sparsity, and its bound by the LP relaxation.

    Of the sample's weights no more than HiGHS solves in a second or so are taken.
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
            value = exact_sum(values[mask.numpy()])
            points.append(
                RegretPoint(
                    criterion=name,
                    sparsity=sparsity,
                    regret=float(regret(importance, {"sample": mask}).exact) / scale,
                    bound=float(dual - value) / scale,
                )
            )
    return points


def overlaps(
    sample: WeightSample, criteria: Mapping[str, Criterion], sparsity: float
) -> dict[str, dict[str, float]]:
    """|A∩B| / |A∪B| of the sets that each two criteria prune, by both names."""
    masks = masks_of(sample, criteria, sparsity)
    return {
        first: {second: compare(m, n).pruned_jaccard for second, n in masks.items()}
        for first, m in masks.items()
    }


def spread_weights(sample: WeightSample, number: int) -> list[float]:
    """The scores of PINS of some weights that a figure can tell apart.

    Real scores span many orders of magnitude. From the sample's, in the order of their size, those
    between the middle and the uppermost tenth are taken, evenly.
    """
    scores = _flat(sample.importance("pins"))
    order = np.argsort(np.abs(scores), kind="stable")
    places = np.linspace(0.5 * (order.size - 1), 0.9 * (order.size - 1), number)
    return [float(score) for score in scores[order[places.round().astype(int)]]]


def _flat(tensors: Mapping[str, Tensor]) -> FloatArray:
    values: FloatArray = flat(tensors).double().numpy()
    return values
