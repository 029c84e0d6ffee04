"""The pruner in real training loops: exact counts, exact zeros, and the scores it says it uses."""

import copy
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode

from pins.errors import (
    ImportanceError,
    MaskError,
    ObservationError,
    ParameterError,
)
from pins.importance.criteria import CRITERIA
from pins.importance.criterion import Criterion, Observation, Reads
from pins.importance.curvature.fisher import empirical_fisher
from pins.importance.smoothing import SMOOTHINGS, find_smoothing
from pins.importance.trust_region.criterion import TrustRegion
from pins.importance.trust_region.program import TrustRegionDecision
from pins.models.parameters import prunable_parameters
from pins.pruning.pruner import Pruner
from pins.pruning.schedules import CubicSchedule, OneShotSchedule
from pins.selection.constraints import keep_count
from pins.selection.select import Decision, select
from tests.pins.networks import loss_on_rows, losses, perceptron, tiny, tiny_batch

OPTIMIZERS: dict[str, Callable[[nn.Module], Optimizer]] = {
    "sgd": lambda model: torch.optim.SGD(model.parameters(), lr=0.05),
    "momentum": lambda model: torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
    "adamw": lambda model: torch.optim.AdamW(model.parameters(), lr=0.05),
}


class EveryStep:
    """A schedule that decides after every step, always on one sparsity."""

    def __init__(self, sparsity: Fraction) -> None:
        self._sparsity = sparsity

    @property
    def last(self) -> int:
        return 10**6

    @property
    def end(self) -> int:
        return self.last

    def decides(self, step: int) -> bool:
        return step >= 1

    def sparsity(self, step: int) -> Fraction:
        return self._sparsity if step >= 1 else Fraction(0)


def backward(loss: Tensor) -> None:
    torch.autograd.backward(loss)


def train(optimizer: Optimizer, pruner: Pruner, steps: Iterable[Tensor]) -> None:
    """Train and prune; one loss per step."""
    for loss in steps:
        backward(loss)
        optimizer.step()
        pruner.step()
        optimizer.zero_grad()


def squares_of_gradients(model: nn.Module) -> Callable[[], Mapping[str, Tensor]]:
    """A curvature for optimisers that keep none."""

    def curvature() -> Mapping[str, Tensor]:
        found = {}
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            found[name] = parameter.grad.square()
        return found

    return curvature


def pruned_bits(pruner: Pruner) -> list[Tensor]:
    return [p.detach()[~pruner.masks[name]] for name, p in pruner.parameters.items()]


def assert_pruned_are_plus_zero(pruner: Pruner) -> None:
    for pruned in pruned_bits(pruner):
        assert not pruned.any()
        assert not pruned.signbit().any()


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_step_leaves_exact_zeros_and_every_decision_exactly_k(
    optimizer: str, criterion: str
) -> None:
    model = perceptron()
    chosen = OPTIMIZERS[optimizer](model)
    schedule = CubicSchedule(steps=20, final_sparsity=0.83, warmup=2, cooldown=3, interval=4)
    pruner = Pruner(
        model,
        chosen,
        criterion,
        schedule,
        curvature=None if optimizer == "adamw" else squares_of_gradients(model),
        loss=loss_on_rows(model),
    )
    assert pruner.total == 80
    decided = []
    for number, loss in enumerate(losses(model, 20), start=1):
        backward(loss)
        chosen.step()
        decision = pruner.step()
        assert (decision is not None) == schedule.decides(number)
        if decision is not None:
            keep = keep_count(schedule.sparsity(number), 80)
            kept = sum(int(mask.sum()) for mask in pruner.masks.values())
            assert kept == decision.proof.keep == keep
            assert decision.proof.holds
            decided.append(number)
        assert_pruned_are_plus_zero(pruner)
        chosen.zero_grad()
    assert decided == [6, 10, 14, 17]
    assert pruner.steps == 20
    assert pruner.sparsity == 1 - 14 / 80  # 0.17 · 80 = 13.6
    nonzero = sum(int(p.count_nonzero()) for p in pruner.parameters.values())
    assert nonzero <= 14


@pytest.mark.parametrize("criterion", CRITERIA)
def test_a_decision_is_the_selection_by_the_criterion_at_that_step(criterion: str) -> None:
    model = perceptron(dtype=torch.float64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.1)
    heard: list[tuple[int, dict[str, Tensor], Decision]] = []

    def listen(step: int, importance: Mapping[str, Tensor], decision: Decision) -> None:
        heard.append((step, dict(importance), decision))

    pruner = Pruner(
        model,
        optimizer,
        criterion,
        EveryStep(Fraction(1, 2)),
        loss=loss_on_rows(model, dtype=torch.float64),
        on_decision=listen,
    )
    weights = dict(pruner.parameters)
    multipliers: list[float] = []  # of a trust region
    for number, loss in enumerate(losses(model, 4, dtype=torch.float64), start=1):
        backward(loss)
        before = {name: weight.detach().clone() for name, weight in weights.items()}
        optimizer.step()
        observed = {}
        for name, weight in weights.items():
            state = optimizer.state[weight]
            observed[name] = Observation(
                weight.clone(),
                weight.grad,
                before[name],
                curvature=state["exp_avg_sq"] / (1 - 0.999**number),
                momentum=state["exp_avg"] / (1 - 0.9**number),
            )
        decision = pruner.step()
        assert decision is not None
        chosen = CRITERIA[criterion]
        if isinstance(chosen, TrustRegion):
            assert isinstance(decision, TrustRegionDecision)
            mean = sum(float(each.curvature.sum()) for each in observed.values()) / 80
            multipliers.append(decision.multiplier)
            chosen = replace(chosen, offset=0.1 * mean, multiplier=decision.multiplier)
        expected = {name: chosen.importance(each) for name, each in observed.items()}
        optimizer.zero_grad()
        step, importance, told = heard[-1]
        assert step == number
        assert told is decision
        for name, scores in expected.items():
            torch.testing.assert_close(importance[name], scores, rtol=1e-12, atol=0)
        for name, mask in select(expected, 40).items():
            assert torch.equal(mask, decision.masks[name])
            assert torch.equal(mask, pruner.masks[name])
    assert any(multipliers) == (criterion == "trust-region")


def test_a_tiny_bert_is_pruned_exactly() -> None:
    model: Any = tiny("Bert", "ForSequenceClassification")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = CubicSchedule(steps=6, final_sparsity=0.9, interval=2)
    left_alone = {
        name: parameter.detach().clone()
        for name, parameter in model.named_parameters()
        if name not in prunable_parameters(model).parameters
    }
    pruner = Pruner(model, optimizer, "obd", schedule)
    for number in range(1, 7):
        backward(model(**tiny_batch()).loss)
        optimizer.step()
        decision = pruner.step()
        optimizer.zero_grad()
        assert (decision is not None) == (number in (2, 4, 6))
        assert_pruned_are_plus_zero(pruner)
    assert sum(int(mask.sum()) for mask in pruner.masks.values()) == keep_count(0.9, pruner.total)
    zeros = {
        name: int((parameter == 0).sum())
        for name, parameter in model.named_parameters()
        if name in left_alone and not bool((left_alone[name] == 0).any())
    }
    assert zeros
    assert not any(zeros.values())


def two_weights(first: float, second: float) -> nn.Linear:
    layer = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[first, second]]))
    return layer


def test_a_pruned_weight_can_come_back_with_its_value_after_the_step() -> None:
    layer = two_weights(3.0, 1.0)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    pruner = Pruner(layer, optimizer, "magnitude", EveryStep(Fraction(1, 2)))

    def step(*gradient: float) -> list[float]:
        layer.weight.grad = torch.tensor([gradient])
        optimizer.step()
        pruner.step()
        values: list[float] = layer.weight.flatten().tolist()
        return values

    assert step(0.0, 0.0) == [3.0, 0.0]
    assert step(0.0, -2.0) == [3.0, 0.0]  # 2 is less than 3, and is not summed up over steps
    assert step(0.0, -5.0) == [0.0, 5.0]
    assert pruner.masks["weight"].tolist() == [[False, True]]


@pytest.mark.parametrize("gradient", [-100.0, float("nan")])
def test_between_decisions_a_pruned_weight_stays_zero(gradient: float) -> None:
    layer = two_weights(3.0, 1.0)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    pruner = Pruner(layer, optimizer, "magnitude", OneShotSchedule(0.5))
    for second in (0.0, gradient, gradient):
        layer.weight.grad = torch.tensor([[0.0, second]])
        optimizer.step()
        pruner.step()
        assert layer.weight.flatten().tolist() == [3.0, 0.0]


def test_accumulated_gradients_decide_as_the_gradient_of_the_whole_batch() -> None:
    masks = []
    for parts in (1, 4):
        model = perceptron(dtype=torch.float64)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
        pruner = Pruner(model, optimizer, "pins", OneShotSchedule(0.6))
        generator = torch.Generator().manual_seed(2)
        data = torch.randn(8, 6, generator=generator, dtype=torch.float64)
        for part in data.chunk(parts):
            backward(model(part).square().mean() / parts)
        optimizer.step()
        pruner.step()
        masks.append(pruner.masks)
    assert all(torch.equal(masks[0][name], masks[1][name]) for name in masks[0])


def test_scores_see_the_clipped_gradient_that_the_optimizer_used() -> None:
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    heard: list[dict[str, Tensor]] = []
    pruner = Pruner(
        model,
        optimizer,
        "pins",
        OneShotSchedule(0.5),
        on_decision=lambda *told: heard.append(dict(told[1])),
    )
    backward(next(losses(model, 1)))
    raw = {name: p.grad.clone() for name, p in pruner.parameters.items() if p.grad is not None}
    nn.utils.clip_grad_norm_(model.parameters(), 1e-2)
    optimizer.step()
    after = {name: p.detach().clone() for name, p in pruner.parameters.items()}
    pruner.step()
    for name, parameter in pruner.parameters.items():
        assert parameter.grad is not None
        assert torch.equal(heard[0][name], -parameter.grad * after[name])
        assert not torch.allclose(heard[0][name], -raw[name] * after[name])


@pytest.mark.parametrize("criterion", CRITERIA)
def test_weights_before_the_step_are_copied_only_where_a_decision_reads_them(
    criterion: str,
) -> None:
    model = perceptron()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    schedule = OneShotSchedule(0.5, at=3)
    pruner = Pruner(model, optimizer, criterion, schedule, loss=loss_on_rows(model))
    for number, loss in enumerate(losses(model, 5), start=1):
        backward(loss)
        optimizer.step()
        reads = Reads.BEFORE in CRITERIA[criterion].reads
        assert bool(pruner._hooks.before) == (reads and number == 3)
        pruner.step()
        assert not pruner._hooks.before
        optimizer.zero_grad()


def test_magnitude_needs_no_gradient() -> None:
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    pruner = Pruner(model, optimizer, "magnitude", OneShotSchedule(0.5))
    assert pruner.step() is not None
    assert pruner.sparsity == 0.5


def frozen(model: nn.Sequential) -> dict[str, nn.Parameter]:
    parameters = prunable_parameters(model).parameters
    model[2].weight.requires_grad_(False)
    return parameters


def tied(model: nn.Sequential) -> dict[str, nn.Parameter]:
    weight = prunable_parameters(model).parameters["0.weight"]
    return {"a": weight, "b": weight}


@pytest.mark.parametrize(
    ("parameters", "trained", "message"),
    [
        (frozen, slice(None), r"2\.weight is to be pruned and is frozen: leave it"),
        (lambda _: None, slice(1), r"2\.weight is to be pruned and is not in the optim"),
        (lambda _: {}, slice(None), "Pruner was given no parameters: leave them out"),
        (tied, slice(None), "b is the same tensor as a: tied weights are pruned"),
    ],
)
def test_parameters_that_cannot_be_pruned_are_named(
    parameters: Callable[[nn.Sequential], Any], trained: slice, message: str
) -> None:
    model = perceptron()
    given = parameters(model)
    optimizer = torch.optim.SGD(model[trained].parameters(), lr=0.5)
    with pytest.raises(ParameterError, match=message):
        Pruner(model, optimizer, "magnitude", OneShotSchedule(0.5), parameters=given)


@pytest.mark.parametrize(
    ("optimizer", "criterion", "message"),
    [
        (torch.optim.SGD, "obd", "'obd' reads a diagonal curvature and SGD keeps none: use AdamW"),
        (torch.optim.Adamax, "obd", "Adamax keeps none"),
        (torch.optim.AdamW, "trust-region", "'trust-region' reads the loss and was given none: gi"),
    ],
)
def test_a_quantity_without_a_source_is_named(
    optimizer: Callable[..., Optimizer], criterion: str, message: str
) -> None:
    model = perceptron()
    with pytest.raises(ObservationError, match=message):
        Pruner(model, optimizer(model.parameters(), lr=0.1), criterion, OneShotSchedule(0.5))


@pytest.mark.parametrize(
    ("criterion", "options", "stepped", "cleared", "message"),
    [
        ("movement", {}, False, False, "SGD has taken no step since the last time: call it once"),
        ("pins", {}, True, True, r"no gradient of any weight: call it after optimizer\.step\(\)"),
        ("obd", {"curvature": dict}, True, False, "reads a diagonal curvature, and there is none"),
    ],
)
def test_a_quantity_that_the_step_did_not_leave_is_named(
    criterion: str, options: dict[str, Any], stepped: bool, cleared: bool, message: str
) -> None:
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    pruner = Pruner(model, optimizer, criterion, OneShotSchedule(0.5), **options)
    backward(next(losses(model, 1)))
    if stepped:
        optimizer.step()
    if cleared:
        optimizer.zero_grad()
    with pytest.raises(ObservationError, match=message):
        pruner.step()


def test_only_the_parameters_given_are_pruned() -> None:
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    parameters = {"second": model.get_parameter("2.weight")}
    pruner = Pruner(model, optimizer, "magnitude", OneShotSchedule(1.0), parameters=parameters)
    pruner.step()
    assert pruner.total == 32
    assert not model.get_parameter("2.weight").any()
    assert bool(model.get_parameter("0.weight").all())


def test_a_curvature_that_is_given_is_asked_at_decisions_only_and_used() -> None:
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    asked = []

    def curvature() -> dict[str, Tensor]:
        asked.append(pruner.steps)
        # the second layer matters a thousand times more
        return {"0.weight": torch.ones(8, 6), "2.weight": torch.full((4, 8), 1e6)}

    pruner = Pruner(
        model, optimizer, "obd", OneShotSchedule(Fraction(48, 80), at=2), curvature=curvature
    )
    train(optimizer, pruner, losses(model, 3))
    assert asked == [2]
    assert not pruner.masks["0.weight"].any()
    assert bool(pruner.masks["2.weight"].all())


def test_the_empirical_fisher_is_a_curvature_for_the_pruner() -> None:
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    pruner = Pruner(
        model,
        optimizer,
        "obd",
        OneShotSchedule(0.5),
        curvature=lambda: empirical_fisher(pruner.parameters, losses(model, 4, seed=9)),
    )
    backward(next(losses(model, 1)))
    optimizer.step()
    decision = pruner.step()
    assert decision is not None
    assert decision.proof.keep == 40


@pytest.mark.parametrize(
    "criterion", [CRITERIA["movement"], TrustRegion(radius=8.0)], ids=lambda each: each.name
)
def test_training_continues_from_a_saved_state_with_the_same_bits(
    criterion: Criterion,
) -> None:
    schedule = CubicSchedule(steps=12, final_sparsity=0.7, interval=3)

    def make() -> tuple[nn.Sequential, Optimizer, Pruner]:
        model = perceptron()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
        loss = loss_on_rows(model, seed=3)
        return model, optimizer, Pruner(model, optimizer, criterion, schedule, loss=loss)

    def seeded(model: nn.Sequential, *numbers: int) -> Iterator[Tensor]:
        return (next(losses(model, 1, seed=number)) for number in numbers)

    model, optimizer, pruner = make()
    train(optimizer, pruner, seeded(model, *range(7)))
    file = io.BytesIO()
    torch.save([model.state_dict(), optimizer.state_dict(), pruner.state_dict()], file)
    file.seek(0)
    train(optimizer, pruner, seeded(model, *range(7, 12)))

    other_model, other_optimizer, other = make()
    states = torch.load(file, weights_only=True)
    other_model.load_state_dict(states[0])
    other_optimizer.load_state_dict(states[1])
    other.load_state_dict(states[2])
    assert other.steps == 7
    assert (other.radius_factor != 1.0) == isinstance(criterion, TrustRegion)
    train(other_optimizer, other, seeded(other_model, *range(7, 12)))
    assert other.steps == pruner.steps == 12
    assert other.sparsity == pruner.sparsity == 0.7
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, other_model.get_parameter(name))
    for name, mask in pruner.masks.items():
        assert torch.equal(mask, other.masks[name])
    assert other.radius_factor == pruner.radius_factor
    assert other.loss_change == pruner.loss_change


def test_a_loaded_state_is_applied_at_once() -> None:
    model = perceptron()
    pruner = Pruner(model, OPTIMIZERS["sgd"](model), "magnitude", OneShotSchedule(0.5))
    pruner.step()
    fresh = perceptron(seed=1)
    other = Pruner(fresh, OPTIMIZERS["sgd"](fresh), "magnitude", OneShotSchedule(0.5))
    other.load_state_dict(pruner.state_dict())
    assert_pruned_are_plus_zero(other)
    assert other.sparsity == 0.5


def test_a_state_does_not_change_with_later_steps() -> None:
    model = perceptron()
    optimizer = OPTIMIZERS["sgd"](model)
    pruner = Pruner(model, optimizer, "magnitude", EveryStep(Fraction(1, 2)))
    pruner.step()
    state = pruner.state_dict()
    kept = copy.deepcopy(state)
    with torch.no_grad():
        model.get_parameter("0.weight").mul_(100)
    pruner.step()
    assert state["steps"] == kept["steps"] == 1
    assert all(torch.equal(state["masks"][name], mask) for name, mask in kept["masks"].items())


def test_a_state_of_another_model_is_refused_and_changes_nothing() -> None:
    model = perceptron()
    pruner = Pruner(model, OPTIMIZERS["sgd"](model), "magnitude", OneShotSchedule(0.5))
    with pytest.raises(MaskError, match=r"'0\.weight' has no mask|a mask but no tensor"):
        pruner.load_state_dict(
            {**pruner.state_dict(), "steps": 3, "masks": {"w": torch.zeros(2, dtype=torch.bool)}}
        )
    assert pruner.steps == 0
    assert pruner.sparsity == 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_is_named(bad: float) -> None:
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    pruner = Pruner(model, optimizer, "abs-pins", OneShotSchedule(0.5))
    backward(next(losses(model, 1)))
    gradient = model.get_parameter("2.weight").grad
    assert gradient is not None
    optimizer.step()
    gradient[1, 3] = bad
    with pytest.raises(
        ImportanceError, match=rf"importance\['2\.weight'\] at index \(1, 3\) is {bad}: importance"
    ):
        pruner.step()


@pytest.mark.parametrize(("sparsity", "kept"), [(0.0, 80), (1.0, 0)])
def test_all_and_nothing_can_be_kept(sparsity: float, kept: int) -> None:
    model = perceptron()
    pruner = Pruner(model, OPTIMIZERS["sgd"](model), "magnitude", OneShotSchedule(sparsity))
    decision = pruner.step()
    assert decision is not None
    assert decision.proof.keep == kept
    assert pruner.sparsity == sparsity


def test_a_criterion_object_serves_as_its_name_does() -> None:
    masks = []
    for criterion in ("magnitude", CRITERIA["magnitude"]):
        model = perceptron()
        pruner = Pruner(model, OPTIMIZERS["sgd"](model), criterion, OneShotSchedule(0.5))
        pruner.step()
        masks.append(pruner.masks)
    assert all(torch.equal(masks[0][name], masks[1][name]) for name in masks[0])


def test_the_callback_sees_the_weights_that_were_decided_on() -> None:
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    seen = []

    def weights() -> dict[str, Tensor]:
        return {name: p.detach().clone() for name, p in model.named_parameters()}

    pruner = Pruner(
        model,
        optimizer,
        "magnitude",
        OneShotSchedule(0.5),
        parameters=prunable_parameters(model),
        on_decision=lambda _, importance, __: seen.append((weights(), dict(importance))),
    )
    backward(next(losses(model, 1)))
    optimizer.step()
    dense = weights()
    pruner.step()
    ((told, importance),) = seen
    for name, scores in importance.items():
        assert torch.equal(told[name], dense[name])
        assert torch.equal(scores, dense[name].abs())
        assert not torch.equal(weights()[name], dense[name])
    assert pruner.sparsity == 0.5


def test_the_callback_sees_the_masks_of_the_decision_before() -> None:
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    in_force: list[dict[str, Tensor]] = []
    decided: list[Mapping[str, Tensor]] = []

    def remember(_: int, __: Any, decision: Decision) -> None:
        in_force.append(pruner.masks)
        decided.append(decision.masks)

    schedule = CubicSchedule(steps=3, final_sparsity=0.5, interval=1)
    pruner = Pruner(
        model,
        optimizer,
        "magnitude",
        schedule,
        parameters=prunable_parameters(model),
        on_decision=remember,
    )
    train(optimizer, pruner, losses(model, 3))
    assert len(decided) == 3
    assert all(mask.all() for mask in in_force[0].values())
    for before, now in zip(decided, in_force[1:], strict=False):
        for name, mask in before.items():
            assert torch.equal(mask, now[name])
            assert not torch.equal(mask, decided[-1][name])


def test_what_is_no_state_is_not_loaded() -> None:
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    pruner = Pruner(model, optimizer, "magnitude", OneShotSchedule(0.5))
    with pytest.raises(
        MaskError,
        match="was given no due and no finished and no masks and no radius_factor and no settings "
        "and no smoothing and no sparsity and no start and no steps: give the result of state_dict",
    ):
        pruner.load_state_dict({})


# ---- What a step without a decision costs --------------------------------------------------------


class Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what a device would be waited for: numbers of tensors as Python's, and indices."""

    WAIT = (
        torch.ops.aten._local_scalar_dense.default,  # .item(), float(), int(), bool()
        torch.ops.aten.nonzero.default,  # and so masks as indices
        torch.ops.aten.equal.default,
    )

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # AdamW counts its steps on the CPU
        self.known = [id(state["step"]) for state in optimizer.state.values() if "step" in state]
        self.seen: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function in self.WAIT and id(args[0]) not in self.known:
            self.seen.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("name", [name for name, each in CRITERIA.items() if not each.adaptive])
def test_no_device_is_waited_for_between_decisions(name: str, smoothing: str) -> None:
    model = perceptron()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = CubicSchedule(20, 0.5, interval=5)
    pruner = Pruner(
        model,
        optimizer,
        name,
        schedule,
        parameters=prunable_parameters(model),
        smoothing=find_smoothing(smoothing)(),
    )
    waited = {True: 0, False: 0}
    for loss in losses(model, 12):
        backward(loss)
        optimizer.step()
        with Waits(optimizer) as waits:
            decided = pruner.step() is not None
        waited[decided] += len(waits.seen)
        optimizer.zero_grad()
    assert waited[False] == 0
    assert waited[True] > 0  # a decision is waited for, and the count sees it
