"""A trust region's decision, rehearsed: kept promises stand, broken ones shrink, weights stay."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor, nn

from pins.importance.criteria import CRITERIA
from pins.importance.criterion import Criterion
from pins.importance.trust_region.criterion import TrustRegion
from pins.importance.trust_region.program import RegionDecision
from pins.pruning.acceptance import LARGEST, SHRINK, TRIALS, Choice, Rehearse, choose, loss_with
from pins.pruning.observations import StepObservations
from pins.pruning.pruner import Pruner
from pins.pruning.schedules import OneShotSchedule
from pins.selection.constraints import Cardinality, Constraint
from pins.selection.select import Decision, decide
from tests.pins.networks import loss_on_rows, losses, perceptron, tiny, tiny_batch

KEEP = 40
WHOLE = 1e9  # an allowance that promises all there is


@dataclass
class Step:
    """A step of a small network, and what was asked of it."""

    model: nn.Module
    parameters: Mapping[str, nn.Parameter]
    observations: StepObservations
    solved: list[Criterion] = field(default_factory=list)

    def solve(self, criterion: Criterion) -> tuple[dict[str, Tensor], Decision]:
        self.solved.append(criterion)
        importance = {name: criterion.importance(each) for name, each in self.observations.items()}
        return importance, decide(importance, self.constraint)

    @property
    def constraint(self) -> Constraint:
        return Cardinality(KEEP)

    def choose(
        self,
        rehearse: Rehearse | None,
        *,
        criterion: Criterion | None = None,
        allowance: float = 1.0,
        factor: float = 1.0,
    ) -> Choice:
        return choose(
            criterion or TrustRegion(),
            self.observations,
            self.constraint,
            allowance=allowance,
            factor=factor,
            solve=self.solve,
            rehearse=rehearse,
        )

    def masked(self, loss: Callable[[], float]) -> Rehearse:
        return lambda masks: loss_with(masks, self.parameters, loss)


def a_step(criterion: Criterion | None = None) -> Step:
    """After three steps of AdamW in float64."""
    model = perceptron(dtype=torch.float64)
    parameters = {name: model.get_parameter(name) for name in ("0.weight", "2.weight")}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    for loss in losses(model, 3, dtype=torch.float64):
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    read = criterion or TrustRegion()
    return Step(model, parameters, StepObservations(read, parameters, optimizer, before={}))


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    assert first.keys() == second.keys()
    return all(torch.equal(mask, second[name]) for name, mask in first.items())


def plain(choice: Choice) -> Mapping[str, Tensor]:
    """The masks of optimal brain damage, as damped as a choice is."""
    assert choice.program is not None
    return choice.program.solve(0.0).masks


def linear(step: Step) -> Callable[[], float]:
    """The loss that the linear model has: it keeps every promise exactly."""
    slopes = {name: each.momentum.clone() for name, each in step.observations.items()}

    def loss() -> float:
        return sum(float((slopes[n] * p).sum()) for n, p in step.parameters.items())

    return loss


def rehearsed(*losses: float) -> tuple[Rehearse, list[Mapping[str, Tensor]]]:
    """Losses in the order that they are asked for, and what they were asked of."""
    left = iter(losses)
    asked: list[Mapping[str, Tensor]] = []

    def rehearse(masks: Mapping[str, Tensor]) -> float:
        asked.append({name: mask.clone() for name, mask in masks.items()})
        return next(left)

    return rehearse, asked


# rehearsing changes nothing


def bits(parameters: Mapping[str, Tensor]) -> Iterator[Tensor]:
    """Two NaNs are no equals, and −0 and +0 are; as integers they are what they are."""
    for parameter in parameters.values():
        yield parameter.detach().clone().view(torch.int64)


def test_after_a_rehearsal_the_weights_are_bit_for_bit_what_they_were() -> None:
    step = a_step()
    with torch.no_grad():
        step.parameters["0.weight"][0, :3] = torch.tensor([float("nan"), -0.0, float("-inf")])
    masks = {name: torch.zeros_like(p, dtype=torch.bool) for name, p in step.parameters.items()}
    before, seen = list(bits(step.parameters)), []
    gradients = [p.grad for p in step.parameters.values()]

    def loss() -> float:
        assert not torch.is_grad_enabled()
        seen.append([int(p.count_nonzero()) for p in step.parameters.values()])
        return 1.5

    assert loss_with(masks, step.parameters, loss) == 1.5
    assert seen == [[0, 0]]  # the loss is that of what is left of the weights
    for now, then in zip(bits(step.parameters), before, strict=True):
        assert torch.equal(now, then)
    for parameter, gradient in zip(step.parameters.values(), gradients, strict=True):
        assert parameter.grad is gradient


def test_they_are_also_where_the_loss_cannot_be_computed() -> None:
    step = a_step()
    before = list(bits(step.parameters))
    masks = {name: torch.zeros_like(p, dtype=torch.bool) for name, p in step.parameters.items()}

    def loss() -> float:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
        loss_with(masks, step.parameters, loss)
    for now, then in zip(bits(step.parameters), before, strict=True):
        assert torch.equal(now, then)


def test_a_rehearsal_of_a_transformer_leaves_it_as_it_was() -> None:
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
    decision, measurement = pruner.step(), pruner.measurement
    assert isinstance(decision, RegionDecision)
    assert measurement is not None
    assert measurement.promise is not None
    for name, parameter in model.named_parameters():
        if name in decision.masks:
            assert torch.equal(parameter, torch.where(decision.masks[name], after[name], 0.0))
        else:
            assert torch.equal(parameter, after[name])
    assert measurement.measured == loss().item() - dense


# promises


def test_what_a_linear_loss_is_promised_it_keeps() -> None:
    step = a_step()
    choice = step.choose(step.masked(linear(step)))
    assert choice.promise is not None
    assert choice.promise.promised > 0
    assert choice.promise.ratio == pytest.approx(1.0, rel=1e-9)
    assert choice.factor == 2.0
    assert len(step.solved) == 2  # of the trust region, and of optimal brain damage
    assert step.choose(step.masked(linear(step)), factor=LARGEST).factor == LARGEST


def test_a_promise_and_what_is_kept_of_it_are_told_as_they_were_measured() -> None:
    step, told = a_step(), 0
    rehearse = step.masked(loss_on_rows(step.model, dtype=torch.float64))
    for allowance in (0.5, 1.0, 2.0, 4.0, 8.0):
        choice = step.choose(rehearse, allowance=allowance)
        assert choice.promise is not None
        assert choice.program is not None
        masks, obd = choice.decision.masks, plain(choice)
        if choice.promise.accepted:
            drops = [choice.program.drop(each) for each in (masks, obd)]
            assert choice.promise.promised == drops[0] - drops[1] >= 0
            assert choice.promise.kept == rehearse(obd) - rehearse(masks)
            told += choice.promise.promised > 0
        else:
            assert same(masks, obd)
    assert told


@pytest.mark.parametrize(
    ("share", "factor"),
    [(0.01, SHRINK), (0.24, SHRINK), (0.26, 1.0), (0.74, 1.0), (0.76, 2.0), (3.0, 2.0)],
)
def test_a_promise_that_is_kept_in_part_stands_and_leads_the_radius(
    share: float, factor: float
) -> None:
    believed = a_step().choose(None)
    assert believed.program is not None
    drop = believed.program.drop
    promised = drop(believed.decision.masks) - drop(plain(believed))
    rehearse, asked = rehearsed(10.0, 10.0 - share * promised)
    choice = a_step().choose(rehearse)
    assert same(choice.decision.masks, believed.decision.masks)
    assert same(asked[1], choice.decision.masks)
    assert same(asked[0], plain(believed))
    assert choice.factor == factor


def test_a_broken_promise_shrinks_until_one_is_kept() -> None:
    step = a_step()
    rehearse, asked = rehearsed(10.0, 11.0, 10.5, 9.0)
    choice = step.choose(rehearse, allowance=80.0)
    assert choice.promise is not None
    assert choice.promise.kept == 1.0
    assert len(asked) == 4
    multipliers = [each.multiplier for each in step.solved if isinstance(each, TrustRegion)]
    assert multipliers[1] == 0.0
    tried = [multipliers[0], *multipliers[2:]]
    assert tried[0] > tried[1] > tried[2] == choice.multiplier
    assert tried[2] > 0
    # each on a quarter of the radius of the one before
    for shrunk, multiplier in zip((1.0, SHRINK, SHRINK**2), tried, strict=True):
        fresh = TrustRegion().fitted(step.observations, step.constraint, 80.0 * shrunk)
        assert fresh.multiplier == multiplier
    # what is kept of the third leads on
    assert choice.factor == SHRINK**2 * (1.0 if choice.promise.ratio >= 0.25 else SHRINK)


@pytest.mark.parametrize("worse", [11.0, 10.0, float("nan"), float("inf")])
def test_after_enough_broken_promises_the_decision_is_damped_optimal_brain_damage(
    worse: float,
) -> None:
    step = a_step()
    rehearse, asked = rehearsed(10.0, *[worse] * TRIALS)
    choice = step.choose(rehearse, allowance=WHOLE)
    assert len(asked) == 1 + TRIALS
    assert choice.multiplier == 0.0
    assert choice.factor == SHRINK**TRIALS
    assert same(choice.decision.masks, plain(choice))
    assert isinstance(choice.decision, RegionDecision)
    assert choice.decision.proof.holds
    damped = TrustRegion().fitted(step.observations, step.constraint)
    for name, scores in choice.importance.items():
        assert torch.equal(scores, damped.importance(step.observations[name]))
    assert choice.promise is not None
    assert not choice.promise.accepted
    # the mask that was promised all along is another
    assert not same(choice.decision.masks, asked[1])


def test_optimal_brain_damage_without_damping_is_another_decision() -> None:
    step = a_step()
    undamped = TrustRegion(damping=0.0)
    rehearse, _ = rehearsed(10.0, *[11.0] * TRIALS)
    choice = step.choose(rehearse, criterion=undamped, allowance=WHOLE)
    obd = {n: CRITERIA["obd"].importance(each) for n, each in step.observations.items()}
    assert same(choice.decision.masks, decide(obd, step.constraint).masks)


def test_a_promise_is_believed_where_nobody_measures() -> None:
    step = a_step()
    choice = step.choose(None, factor=0.5)
    fitted = TrustRegion().fitted(step.observations, step.constraint, 0.5)
    assert (choice.promise, choice.factor) == (None, 0.5)
    assert choice.multiplier == fitted.multiplier > 0
    assert choice.program is not None
    assert same(choice.decision.masks, choice.program.solve(fitted.multiplier).masks)
    assert len(step.solved) == 1


def test_nothing_is_rehearsed_where_nothing_is_promised() -> None:
    rehearse, asked = rehearsed()
    step = a_step()
    choice = step.choose(rehearse, allowance=0.0)
    assert not asked
    assert (choice.multiplier, choice.promise, choice.factor) == (0.0, None, 1.0)
    assert same(choice.decision.masks, plain(choice))


@pytest.mark.parametrize("allowance", [0.0, 0.5, WHOLE])
def test_the_decision_knows_its_multiplier(allowance: float) -> None:
    step = a_step()
    choice = step.choose(step.masked(linear(step)), allowance=allowance)
    assert isinstance(choice.decision, RegionDecision)
    assert choice.decision.multiplier == choice.multiplier
    assert choice.program is not None
    assert choice.decision.drop == choice.program.drop(choice.decision.masks)
    assert choice.decision.cost == choice.program.cost(choice.decision.masks)
    for name, scores in choice.program.scores(choice.decision.multiplier).items():
        assert torch.equal(choice.importance[name], scores)


@pytest.mark.parametrize("name", [name for name, each in CRITERIA.items() if not each.fits])
def test_other_criteria_are_solved_once_and_not_rehearsed(name: str) -> None:
    criterion = CRITERIA[name]
    step = a_step(criterion)
    rehearse, asked = rehearsed()
    choice = step.choose(rehearse, criterion=criterion, factor=0.25)
    assert not asked
    assert step.solved == [criterion]
    assert (choice.multiplier, choice.promise, choice.program) == (None, None, None)
    assert choice.factor == 0.25
    assert not isinstance(choice.decision, RegionDecision)


def test_a_criterion_that_was_fitted_to_another_decision_is_fitted_anew() -> None:
    step = a_step()
    stale = replace(TrustRegion(), multiplier=123.0, offset=45.0)
    assert step.choose(None, criterion=stale).multiplier == step.choose(None).multiplier
