"""The acceptance test of a trust region, and algorithm 4.1 of Nocedal & Wright for its radius."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pins.importance.criteria import CRITERIA
from pins.importance.trust_region.criterion import TrustRegion
from pins.importance.trust_region.program import TrustRegionDecision, TrustRegionProgram
from pins.pruning.acceptance import (
    GOOD,
    GROW,
    LARGEST,
    POOR,
    SHRINK,
    TRIALS,
    Reduction,
    Solution,
    TrialLoss,
    accepted_solution,
    loss_with,
    next_radius,
)
from pins.pruning.observations import StepObservations
from pins.pruning.pruner import Pruner
from pins.pruning.schedules import OneShotSchedule
from pins.selection.constraints import Cardinality
from pins.selection.select import decide
from tests.pins.importance.fitting import fit_region
from tests.pins.networks import loss_on_rows, losses, perceptron, tiny, tiny_batch

KEEP = Cardinality(40)
UNLIMITED = 1e9  # a tolerance that allows the largest predicted reduction


@dataclass
class Step:
    """A step of a small network."""

    model: nn.Module
    parameters: Mapping[str, nn.Parameter]
    observations: StepObservations

    def solution(
        self,
        trial_loss: TrialLoss,
        *,
        criterion: TrustRegion | None = None,
        tolerance: float = 1.0,
        factor: float = 1.0,
    ) -> Solution:
        return accepted_solution(
            criterion or TrustRegion(),
            self.observations,
            KEEP,
            tolerance=tolerance,
            factor=factor,
            trial_loss=trial_loss,
        )

    def masked(self, loss: Callable[[], float]) -> TrialLoss:
        return lambda masks: loss_with(masks, self.parameters, loss)

    def fitted(self, tolerance: float) -> TrustRegionDecision:
        """The decision without an acceptance test."""
        criterion = fit_region(TrustRegion(), self.observations, KEEP, tolerance)
        return criterion.at(self.observations, KEEP).solve(criterion.multiplier)


def a_step() -> Step:
    """After three steps of AdamW in float64."""
    model = perceptron(dtype=torch.float64)
    parameters = {name: model.get_parameter(name) for name in ("0.weight", "2.weight")}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    for loss in losses(model, 3, dtype=torch.float64):
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return Step(
        model, parameters, StepObservations(TrustRegion(), parameters, optimizer, before={})
    )


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    assert first.keys() == second.keys()
    return all(torch.equal(mask, second[name]) for name, mask in first.items())


def program_of(solution: Solution) -> TrustRegionProgram:
    assert solution.program is not None
    return solution.program


def reduction_of(solution: Solution) -> Reduction:
    assert solution.reduction is not None
    return solution.reduction


def plain(solution: Solution) -> Mapping[str, Tensor]:
    """The masks of optimal brain damage with the same damping."""
    return program_of(solution).solve(0.0).masks


def linear(step: Step) -> Callable[[], float]:
    """The linear model itself as loss: every predicted reduction is exact."""
    slopes = {name: each.momentum.clone() for name, each in step.observations.items()}

    def loss() -> float:
        return sum(float((slopes[n] * p).sum()) for n, p in step.parameters.items())

    return loss


def scripted(*losses: float) -> tuple[TrialLoss, list[Mapping[str, Tensor]]]:
    """A trial loss with these values in order, and the masks it was called with."""
    left = iter(losses)
    asked: list[Mapping[str, Tensor]] = []

    def trial_loss(masks: Mapping[str, Tensor]) -> float:
        asked.append({name: mask.clone() for name, mask in masks.items()})
        return next(left)

    return trial_loss, asked


# a trial step changes nothing


def bits(parameters: Mapping[str, Tensor]) -> Iterator[Tensor]:
    """As integers, so that NaN equals NaN, and −0 differs from +0."""
    for parameter in parameters.values():
        yield parameter.detach().clone().view(torch.int64)


@pytest.mark.parametrize("fails", [False, True])
def test_a_trial_loss_leaves_weights_and_gradients_bit_for_bit(fails: bool) -> None:
    step = a_step()
    with torch.no_grad():
        step.parameters["0.weight"][0, :3] = torch.tensor([float("nan"), -0.0, float("-inf")])
    masks = {name: torch.zeros_like(p, dtype=torch.bool) for name, p in step.parameters.items()}
    before, seen = list(bits(step.parameters)), []
    gradients = [p.grad for p in step.parameters.values()]

    def loss() -> float:
        assert not torch.is_grad_enabled()
        seen.append([int(p.count_nonzero()) for p in step.parameters.values()])
        if fails:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 1.5

    if fails:
        with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
            loss_with(masks, step.parameters, loss)
    else:
        assert loss_with(masks, step.parameters, loss) == 1.5
    assert seen == [[0, 0]]  # the loss is computed with masked weights
    for now, then in zip(bits(step.parameters), before, strict=True):
        assert torch.equal(now, then)
    for parameter, gradient in zip(step.parameters.values(), gradients, strict=True):
        assert parameter.grad is gradient


def test_trial_steps_of_a_transformer_change_only_the_pruned_weights() -> None:
    model = tiny("Bert", "ForSequenceClassification").eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)

    def loss() -> Tensor:
        found: Tensor = model(**tiny_batch()).loss
        return found

    pruner = Pruner(
        model, optimizer, "trust-region", OneShotSchedule(0.5), loss=lambda: loss().item()
    )
    torch.autograd.backward(loss())
    optimizer.step()
    after = {name: p.detach().clone() for name, p in model.named_parameters()}
    dense = loss().item()
    decision, change = pruner.step(), pruner.loss_change
    assert isinstance(decision, TrustRegionDecision)
    assert change is not None
    assert change.reduction is not None
    for name, parameter in model.named_parameters():
        if name in decision.masks:
            assert torch.equal(parameter, torch.where(decision.masks[name], after[name], 0.0))
        else:
            assert torch.equal(parameter, after[name])
    assert change.measured == loss().item() - dense


# the acceptance test


def test_on_a_linear_loss_the_actual_reduction_is_the_predicted_one() -> None:
    step = a_step()
    solution = step.solution(step.masked(linear(step)))
    assert reduction_of(solution).predicted > 0
    assert reduction_of(solution).ratio == pytest.approx(1.0, rel=1e-9)
    assert solution.factor == 2.0
    assert step.solution(step.masked(linear(step)), factor=LARGEST).factor == LARGEST


def test_predicted_and_actual_reduction_are_as_measured() -> None:
    step, predicted = a_step(), 0
    trial_loss = step.masked(loss_on_rows(step.model, dtype=torch.float64))
    for tolerance in (0.5, 1.0, 2.0, 4.0, 8.0):
        solution = step.solution(trial_loss, tolerance=tolerance)
        found, masks, obd = reduction_of(solution), solution.decision.masks, plain(solution)
        if found.accepted:
            drops = [program_of(solution).drop(each) for each in (masks, obd)]
            assert found.predicted == drops[0] - drops[1] >= 0
            assert found.actual == trial_loss(obd) - trial_loss(masks)
            predicted += found.predicted > 0
        else:
            assert same(masks, obd)
    assert predicted


@pytest.mark.parametrize(
    ("share", "factor"),
    [(0.01, SHRINK), (0.24, SHRINK), (0.26, 1.0), (0.74, 1.0), (0.76, 2.0), (3.0, 2.0)],
)
def test_a_partial_reduction_is_accepted_and_sets_the_radius(share: float, factor: float) -> None:
    step = a_step()
    fitted, obd = step.fitted(1.0), step.fitted(0.0)
    trial_loss, asked = scripted(10.0, 10.0 - share * (fitted.drop - obd.drop))
    solution = step.solution(trial_loss)
    assert same(solution.decision.masks, fitted.masks)
    assert same(asked[1], fitted.masks)
    assert same(asked[0], obd.masks)
    assert solution.factor == factor


def test_rejected_steps_shrink_the_radius_until_one_is_accepted() -> None:
    step = a_step()
    trial_loss, asked = scripted(10.0, 11.0, 10.5, 9.0)
    solution = step.solution(trial_loss, tolerance=80.0)
    assert reduction_of(solution).actual == 1.0
    # each trial step has a quarter of the previous radius
    trials = [step.fitted(80.0 * shrunk) for shrunk in (1.0, SHRINK, SHRINK**2)]
    assert len(asked) == 4
    assert all(same(a, b.masks) for a, b in zip(asked[1:], trials, strict=True))
    multipliers = [each.multiplier for each in trials]
    assert multipliers[0] > multipliers[1] > multipliers[2] == solution.multiplier
    assert multipliers[2] > 0
    # the third trial step sets the next radius
    share = 1.0 if reduction_of(solution).ratio >= 0.25 else SHRINK
    assert solution.factor == SHRINK**2 * share


@pytest.mark.parametrize("worse", [11.0, 10.0, float("nan"), float("inf")])
def test_after_enough_rejected_steps_the_decision_is_damped_optimal_brain_damage(
    worse: float,
) -> None:
    step = a_step()
    trial_loss, asked = scripted(10.0, *[worse] * TRIALS)
    solution = step.solution(trial_loss, tolerance=UNLIMITED)
    assert len(asked) == 1 + TRIALS
    assert solution.multiplier == 0.0
    assert solution.factor == SHRINK**TRIALS
    assert same(solution.decision.masks, plain(solution))
    assert isinstance(solution.decision, TrustRegionDecision)
    assert solution.decision.proof.holds
    damped = TrustRegion().damped(step.observations)
    for name, scores in solution.importance.items():
        assert torch.equal(scores, damped.importance(step.observations[name]))
    assert not reduction_of(solution).accepted
    # the rejected masks are others
    assert not same(solution.decision.masks, asked[1])


def test_without_damping_the_fallback_is_optimal_brain_damage() -> None:
    step = a_step()
    trial_loss, _ = scripted(10.0, *[11.0] * TRIALS)
    solution = step.solution(trial_loss, criterion=TrustRegion(damping=0.0), tolerance=UNLIMITED)
    obd = {n: CRITERIA["obd"].importance(each) for n, each in step.observations.items()}
    assert same(solution.decision.masks, decide(obd, KEEP).masks)


def test_without_a_tolerance_there_is_no_trial_step() -> None:
    trial_loss, asked = scripted()
    solution = a_step().solution(trial_loss, tolerance=0.0)
    assert not asked
    assert (solution.multiplier, solution.reduction, solution.factor) == (0.0, None, 1.0)
    assert same(solution.decision.masks, plain(solution))


@pytest.mark.parametrize("tolerance", [0.0, 0.5, UNLIMITED])
def test_the_decision_has_its_multiplier_drop_and_cost(tolerance: float) -> None:
    step = a_step()
    solution = step.solution(step.masked(linear(step)), tolerance=tolerance)
    decision, program = solution.decision, program_of(solution)
    assert isinstance(decision, TrustRegionDecision)
    assert decision.multiplier == solution.multiplier
    assert decision.drop == program.drop(decision.masks)
    assert decision.cost == program.cost(decision.masks)
    for name, scores in program.scores(decision.multiplier).items():
        assert torch.equal(solution.importance[name], scores)


def test_parameters_of_another_decision_are_replaced() -> None:
    step = a_step()
    stale = replace(TrustRegion(), multiplier=123.0, offset=45.0)
    found = [step.solution(step.masked(linear(step)), criterion=c) for c in (stale, None)]
    assert found[0].multiplier == found[1].multiplier


# the rule of the radius

Rule = Callable[[float, Reduction], float]

FACTORS = st.integers(-10, 1).map(lambda octave: 2.0**octave)
PREDICTED = st.integers(-20, 20).map(lambda octave: 2.0**octave)
RATIOS = st.integers(-64, 64).map(lambda eighths: eighths / 8)


def never_falls(rule: Rule, factor: float, ratios: Sequence[float]) -> bool:
    """A better ratio gives no smaller radius."""
    found = [rule(factor, Reduction(1.0, ratio)) for ratio in sorted(ratios)]
    return all(less <= more for less, more in pairwise(found))


def shrinks(rule: Rule, factor: float) -> bool:
    """Without an actual reduction, the radius falls."""
    return rule(factor, Reduction(1.0, 0.0)) < factor


def is_bounded(rule: Rule, factor: float) -> bool:
    """For any ratios, the radius stays below a bound."""
    for _ in range(20):
        factor = rule(factor, Reduction(1.0, 1.0))
    return factor <= LARGEST


def knows_no_unit(rule: Rule, factor: float, ratio: float, unit: float) -> bool:
    """Another unit of the loss changes nothing."""
    return rule(factor, Reduction(1.0, ratio)) == rule(factor, Reduction(unit, unit * ratio))


@given(FACTORS, st.lists(RATIOS, min_size=2, max_size=5), RATIOS, PREDICTED)
def test_the_laws_of_the_radius(
    factor: float, ratios: list[float], ratio: float, unit: float
) -> None:
    assert never_falls(next_radius, factor, ratios)
    assert knows_no_unit(next_radius, factor, ratio, unit)
    assert shrinks(next_radius, factor)
    assert is_bounded(next_radius, factor)


def test_other_rules_break_a_law_each() -> None:
    assert not shrinks(lambda factor, _: factor, 1.0)
    assert not is_bounded(lambda factor, _: factor * GROW, 1.0)
    assert not never_falls(
        lambda factor, r: factor * (SHRINK if r.ratio > GOOD else 1), 1.0, [0, 1]
    )
    assert not knows_no_unit(lambda factor, r: factor * (1 + (r.actual > POOR)), 1.0, 0.5, 0.25)


@given(FACTORS, PREDICTED, RATIOS)
def test_the_radius_of_a_ratio(factor: float, predicted: float, ratio: float) -> None:
    reduction = Reduction(predicted, ratio * predicted)  # products and quotients are exact
    assert reduction.ratio == ratio
    expected = factor
    if ratio < 0.25:
        expected = factor / 4
    elif ratio > 0.75:
        expected = min(2 * factor, 2.0)
    assert next_radius(factor, reduction) == expected
    assert reduction.accepted == (ratio > 0)


@pytest.mark.parametrize("predicted", [0.0, -1.0])
@pytest.mark.parametrize("actual", [-1.0, 0.0, 1.0])
def test_without_a_predicted_reduction_the_step_is_accepted_and_the_radius_stays(
    predicted: float, actual: float
) -> None:
    reduction = Reduction(predicted, actual)
    assert reduction.accepted
    assert next_radius(0.5, reduction) == 0.5


@pytest.mark.parametrize("actual", [float("nan"), float("-inf")])
def test_a_nan_or_infinite_loss_is_rejected(actual: float) -> None:
    reduction = Reduction(1.0, actual)
    assert not reduction.accepted
    assert next_radius(1.0, reduction) == SHRINK


def test_a_radius_recovers_from_rejected_steps() -> None:
    factor = 1.0
    for _ in range(TRIALS):
        factor = next_radius(factor, Reduction(1.0, -1.0))
    assert factor == SHRINK**TRIALS
    for _ in range(2 * TRIALS + 1):
        factor = next_radius(factor, Reduction(1.0, 1.0))
    assert factor == LARGEST
