"""The criterion of the trust region: its formula, its multiplier, and the memory it needs."""

import weakref
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pins.errors import CriterionError, ImportanceError, ObservationError
from pins.importance.criteria import CRITERIA, find_criterion
from pins.importance.criterion import Observation
from pins.importance.smoothing import SMOOTHINGS, default_smoothing, require_averageable
from pins.importance.trust_region.criterion import TrustRegion
from pins.importance.trust_region.program import Terms, TrustRegionProgram
from pins.pruning.pruner import Pruner
from pins.pruning.schedules import OneShotSchedule
from pins.selection.constraints import Cardinality, LayerBounds
from pins.selection.select import decide
from tests.pins.importance.fitting import fit_region
from tests.pins.networks import loss_on_rows, losses, perceptron

KEEP = Cardinality(20)


def drawn(seed: int, *sizes: int, dtype: torch.dtype = torch.float64) -> dict[str, Observation]:
    """Weights, gradients of both signs and curvatures of tensors."""
    generator = torch.Generator().manual_seed(seed)

    def normal(size: int) -> Tensor:
        return torch.randn(size, generator=generator, dtype=dtype)

    return {
        f"layer.{at}": Observation(
            after=normal(size), gradient=normal(size), curvature=normal(size).square()
        )
        for at, size in enumerate(sizes)
    }


def drop(program: TrustRegionProgram, multiplier: float) -> float:
    """The drop of the optimum of μ beyond the drop of μ = 0."""
    return program.solve(multiplier).drop - program.solve(0.0).drop


# the formula


def test_terms_and_scores_are_the_formula() -> None:
    after, gradient = [2.5, 1.25, -3.75, -0.5], [2.0, -1.0, 0.5, -4.0]
    momentum, curvature = [-1.0, 0.5, 2.0, 0.25], [1.0, 8.0, 0.5, 0.0]
    observation = Observation(
        torch.tensor(after),
        gradient=torch.tensor(gradient),
        curvature=torch.tensor(curvature),
        momentum=torch.tensor(momentum),
    )
    criterion = TrustRegion(multiplier=0.5, offset=0.25)
    terms = criterion.terms(observation)
    s = [-m * w for m, w in zip(momentum, after, strict=True)]
    c = [0.5 * (h + 0.25) * w * w for h, w in zip(curvature, after, strict=True)]
    assert terms.importance.tolist() == s
    assert terms.cost.tolist() == c
    assert criterion.importance(observation).tolist() == [
        cost + 0.5 * saved for cost, saved in zip(c, s, strict=True)
    ]
    # the observation is left as it was
    assert observation.after.tolist() == after
    assert observation.curvature.tolist() == curvature


def test_without_a_multiplier_and_without_damping_it_is_optimal_brain_damage() -> None:
    for observation in drawn(0, 30).values():
        plain = CRITERIA["obd"].importance(observation)
        torch.testing.assert_close(TrustRegion().importance(observation), plain, rtol=1e-14, atol=0)
        damped = TrustRegion(offset=0.5).importance(observation)
        added = 0.25 * observation.after.square()
        torch.testing.assert_close(damped, plain + added, rtol=1e-14, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_curvature_of_another_precision_is_read_in_that_of_the_weights(
    dtype: torch.dtype,
) -> None:
    other = {torch.float32: torch.float64, torch.float64: torch.float32}[dtype]
    after, curvature = torch.tensor([1.5, -2.0], dtype=dtype), torch.tensor([2.0, 4.0], dtype=other)
    observation = Observation(after, gradient=after, curvature=curvature)
    for criterion in (TrustRegion(), TrustRegion(multiplier=1.0)):
        assert criterion.importance(observation).dtype == dtype
    assert TrustRegion().importance(observation).tolist() == [2.25, 8.0]


# what it is fitted to


@given(st.integers(0, 999), st.integers(1, 59), st.floats(2.0**-8, 2.0**8))
def test_the_multiplier_is_the_largest_whose_reduction_is_within_the_radius(
    seed: int, keep: int, tolerance: float
) -> None:
    observations, constraint = drawn(seed, 20, 40), Cardinality(keep)
    fitted = fit_region(TrustRegion(radius=0.5), observations, constraint, tolerance)
    program = fitted.at(observations, constraint)
    assert drop(program, fitted.multiplier) <= 0.5 * tolerance
    # twice the multiplier predicts too much, or every multiplier is within the radius
    if fitted.multiplier:
        twice = drop(program, 2 * fitted.multiplier)
        assert twice > 0.5 * tolerance or drop(program, 2.0**40) <= 0.5 * tolerance


def test_plain_pins_predicts_more_than_a_radius() -> None:
    # the negative control: without the search for μ, the radius is left
    observations = drawn(0, 200, 400)
    fitted = fit_region(TrustRegion(radius=0.5), observations, KEEP, 40.0)
    program = fitted.at(observations, KEEP)
    assert 0 < drop(program, fitted.multiplier) <= 20.0 < drop(program, 2.0**40)


@given(st.floats(2.0**-6, 2.0**6), st.floats(2.0**-6, 2.0**6))
def test_a_larger_radius_has_no_smaller_a_multiplier(first: float, second: float) -> None:
    less, more = sorted((first, second))
    observations = drawn(1, 30, 30)
    multipliers = [
        fit_region(TrustRegion(radius=radius), observations, KEEP, tolerance).multiplier
        for radius, tolerance in ((less, 1.0), (1.0, less), (more, 1.0), (1.0, more))
    ]
    assert multipliers[0] == multipliers[1] <= multipliers[2] == multipliers[3]


@pytest.mark.parametrize("tolerance", [0.0, -1.0, float("nan"), float("inf"), float("-inf")])
def test_a_tolerance_that_is_not_positive_and_finite_gives_no_multiplier(tolerance: float) -> None:
    fitted = fit_region(TrustRegion(), drawn(0, 60), KEEP, tolerance)
    assert fitted.multiplier == 0.0
    assert fitted.offset > 0
    assert fit_region(TrustRegion(), drawn(0, 60), KEEP).multiplier == 0.0
    assert fit_region(TrustRegion(radius=0.0), drawn(0, 60), KEEP, 1.0).multiplier == 0.0


def test_damping_is_a_share_of_the_mean_curvature_of_all_tensors() -> None:
    ones = torch.ones(4)
    observations = {
        "small": Observation(ones[:1], gradient=ones[:1], curvature=torch.tensor([16.0])),
        "large": Observation(ones, gradient=ones, curvature=torch.tensor([0.0, 1.0, 3.0, 5.0])),
    }
    for damping in (0.0, 0.25, 2.0):
        fitted = fit_region(TrustRegion(damping=damping), observations, Cardinality(2), 1.0)
        assert fitted.offset == damping * 5.0  # not the mean of the tensors' means, 9.125
    # fitted to another decision, nothing is left of the one before
    again = fit_region(replace(fitted, multiplier=7.0), observations, Cardinality(2), 0.0)
    assert (again.offset, again.multiplier) == (10.0, 0.0)


def test_fitting_changes_only_a_copy() -> None:
    fit_region(TrustRegion(), drawn(0, 60), KEEP, 1.0)
    assert CRITERIA["trust-region"] == TrustRegion()


def test_it_is_fitted_to_minimums_too() -> None:
    observations = drawn(3, 20, 40)
    constraint = Cardinality(20) & LayerBounds({"layer.0": 15})
    fitted = fit_region(TrustRegion(), observations, constraint, 1.0)
    decision = fitted.at(observations, constraint).solve(fitted.multiplier)
    assert decision.proof.holds
    assert int(decision.masks["layer.0"].sum()) >= 15
    assert decision.masks["layer.0"].sum() + decision.masks["layer.1"].sum() == 20


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"radius": -1.0}, "radius of the trust region is -1.0: it is at least 0"),
        ({"damping": float("nan")}, "damping of the trust region is nan"),
        ({"multiplier": float("inf")}, "multiplier of the trust region is inf"),
        ({"offset": -0.5}, r"offset of the trust region is -0\.5"),
    ],
)
def test_a_number_that_is_none_is_refused(given_: dict[str, Any], message: str) -> None:
    with pytest.raises(CriterionError, match=message):
        TrustRegion(**given_)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -9.0])
def test_a_curvature_that_is_none_is_named(bad: float) -> None:
    observations = drawn(0, 4, 4)
    observations["layer.1"].curvature[2] = bad
    with pytest.raises(
        ObservationError, match=r"the curvature of 'layer\.1' adds up to .*: a trust region needs"
    ):
        fit_region(TrustRegion(), observations, Cardinality(2), 1.0)


def test_a_gradient_that_is_no_number_is_named_by_the_decision() -> None:
    observations = drawn(0, 4, 4)
    observations["layer.1"].momentum[2] = float("nan")
    fitted = fit_region(TrustRegion(), observations, Cardinality(2), 1.0)
    scores = {name: fitted.importance(each) for name, each in observations.items()}
    with pytest.raises(ImportanceError, match=r"importance\['layer\.1'\] at index \(2\) is nan"):
        decide(scores, Cardinality(2))


# what it holds on to


class Counted(Mapping[str, Observation]):
    """Observations made anew whenever they are asked for, and how many of them are alive."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self._sizes = sizes
        self.alive: weakref.WeakSet[Observation] = weakref.WeakSet()
        self.most = 0

    def __getitem__(self, name: str) -> Observation:
        size = self._sizes[name]
        ones = torch.ones(size) + torch.arange(size) / size
        found = Observation(ones, gradient=-ones, curvature=ones.square())
        self.alive.add(found)
        self.most = max(self.most, len(self.alive))
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._sizes)

    def __len__(self) -> int:
        return len(self._sizes)


def test_terms_are_computed_when_they_are_asked_for_and_not_held() -> None:
    observations = Counted({f"layer.{at}": 10 for at in range(6)})
    fitted = fit_region(TrustRegion(), observations, KEEP, 1.0)
    program = fitted.at(observations, KEEP)
    assert list(program.terms) == list(observations)
    assert len(program.terms) == 6
    decision = program.solve(fitted.multiplier)
    program.drop(decision.masks)
    assert not observations.alive
    assert observations.most <= 2  # the one that is made, and at most the one before it
    held = [observations[name] for name in observations]
    assert len(observations.alive) == 6  # what a list would have held
    assert held
    first, second = program.terms["layer.0"], program.terms["layer.0"]
    assert first.cost.data_ptr() != second.cost.data_ptr()
    assert isinstance(first, Terms)


def test_terms_see_the_weights_as_they_are_when_they_are_asked_for() -> None:
    after = torch.tensor([1.0, 2.0])
    observation = Observation(after, gradient=torch.ones(2), curvature=torch.ones(2))
    program = TrustRegion().at({"w": observation}, Cardinality(1))
    assert program.terms["w"].importance.tolist() == [-1.0, -2.0]
    after.zero_()
    assert program.terms["w"].importance.tolist() == [0.0, 0.0]


# what goes with it


def test_none_of_its_scores_are_averaged() -> None:
    for criterion in CRITERIA.values():
        assert default_smoothing(criterion) == ("none" if criterion.adaptive else "uncertainty")
        smoothing = SMOOTHINGS[default_smoothing(criterion)]()
        require_averageable(criterion, smoothing)
        for kind in SMOOTHINGS.values():
            if criterion.adaptive and kind().every_step:
                with pytest.raises(
                    CriterionError, match=r"'trust-region' was given smoothing .* leave the smooth"
                ):
                    require_averageable(criterion, kind())
            else:
                require_averageable(criterion, kind())


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_under_sgd_it_reads_the_gradient(momentum: float) -> None:
    model = perceptron(dtype=torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=momentum)
    seen: list[str] = []

    def listen(_: object, program: TrustRegionProgram, __: object) -> None:
        for name, terms in program.terms.items():
            parameter = model.get_parameter(name)
            assert parameter.grad is not None
            assert torch.equal(terms.importance, -parameter.grad * parameter)
            seen.append(name)

    pruner = Pruner(
        model,
        optimizer,
        find_criterion("trust-region"),
        OneShotSchedule(0.5, at=2),
        curvature=lambda: {n: torch.ones_like(p) for n, p in model.named_parameters()},
        loss=loss_on_rows(model, dtype=torch.float64),
        on_trust_region=listen,
    )
    for loss in losses(model, 2, dtype=torch.float64):
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        pruner.step()
    assert seen == ["0.weight", "2.weight"]
