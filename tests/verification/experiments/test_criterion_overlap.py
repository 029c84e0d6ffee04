"""Criteria on sampled weights: regret and its bound, overlap, and the criteria of a sample."""

import numpy as np
import pytest
import torch

from pins.importance.criteria import CRITERIA
from pins.runs.weight_sample import WeightSample, take
from pins.selection.constraints import keep_count
from pins.selection.select import select
from verification.experiments.criterion_overlap import (
    RELAXED,
    criteria_of,
    masks_of,
    overlaps,
    regrets,
    spread_weights,
)

SPARSITIES = (0.0, 0.1, 0.5, 0.9, 1.0)


def sample(*, curvature: bool = True, size: int = 40) -> WeightSample:
    generator = torch.Generator().manual_seed(1)
    weights, gradient = torch.randn(2, 3, size, generator=generator)
    return take(
        {"a": weights},
        {"a": gradient},
        {"a": gradient.square()} if curvature else None,
        learning_rate=0.1,
        sparsity=0.8,
        description="",
    )


def test_a_criterion_needs_its_observations_in_the_sample() -> None:
    every = {name for name, criterion in CRITERIA.items() if not criterion.adaptive}
    assert set(criteria_of(sample())) == every
    assert set(criteria_of(sample(curvature=False))) == every - {"obd"}
    assert set(criteria_of(sample(), loss=1.0)) == set(CRITERIA)
    assert set(criteria_of(sample(curvature=False), loss=1.0)) == every - {"obd"}


def test_the_regret_of_pins_is_zero_and_no_other_regret_is_negative() -> None:
    points = regrets(sample(), criteria_of(sample(), loss=1.0), SPARSITIES)
    assert {point.criterion for point in points} == set(CRITERIA)
    for point in points:
        assert (point.regret == 0) if point.criterion == "pins" else (point.regret >= 0)
        if point.sparsity in (0.0, 1.0):  # there is one mask alone
            assert point.regret == 0
    assert all(p.regret > 0.01 for p in points if p.criterion == "magnitude" and p.sparsity == 0.5)


def test_the_bound_of_the_relaxation_is_the_regret_up_to_the_solvers_tolerance() -> None:
    points = regrets(sample(), criteria_of(sample()), SPARSITIES)
    for point in points:
        assert point.regret <= point.bound <= point.regret + 1e-6


def test_the_regret_equals_its_definition() -> None:
    few = sample(size=10)
    (point,) = (p for p in regrets(few, criteria_of(few), (0.5,)) if p.criterion == "magnitude")
    scores = few.importance("pins")["a"]
    keep = keep_count(0.5, 30)
    best = scores[select(scores, keep)].sum()
    own = scores[select(few.importance("magnitude")["a"], keep)].sum()
    assert point.regret == pytest.approx(float((best - own) / scores.abs().sum()), rel=1e-12)


def test_a_large_sample_is_reduced_before_it_is_relaxed() -> None:
    many = sample(size=RELAXED)
    assert many.total > RELAXED
    assert len(regrets(many, criteria_of(many), (0.5,))) == len(criteria_of(many))


def test_overlaps_are_symmetric_and_one_on_the_diagonal() -> None:
    shares = overlaps(sample(), criteria_of(sample()), 0.5)
    for first, row in shares.items():
        assert row[first] == 1
        for second, share in row.items():
            assert share == shares[second][first]
            assert 0 <= share <= 1
    masks = masks_of(sample(), criteria_of(sample()), 0.5)
    a, b = (~masks[name]["a"] for name in ("pins", "magnitude"))
    assert shares["pins"]["magnitude"] == int((a & b).sum()) / int((a | b).sum())


def test_the_weights_of_a_figure_are_distinct_and_from_the_sample() -> None:
    scores = sample().importance("pins")["a"].tolist()
    chosen = spread_weights(sample(), 12)
    assert len(set(chosen)) == 12
    assert set(chosen) <= set(scores)
    sizes = np.abs(chosen)
    assert list(sizes) == sorted(sizes)
    assert sizes.min() >= np.median(np.abs(scores)) * 0.9
