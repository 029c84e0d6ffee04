"""What a step lets a criterion see: what it declares to read, when it is asked for, no copies."""

from collections.abc import Mapping
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pins.errors import ObservationError
from pins.importance.criteria import CRITERIA
from pins.importance.criterion import Criterion, Observation, Reads
from pins.pruning.observations import StepObservations, require_sources
from tests.pins.networks import losses, perceptron

RATE = 0.05


class ReadsAll(Criterion):
    """A criterion that may read everything."""

    name = "all"
    program = "none"
    reads: ClassVar[frozenset[Reads]] = frozenset(Reads)

    def importance(self, observation: Observation) -> Tensor:
        return observation.gradient


def stepped(kind: str, steps: int = 3) -> tuple[nn.Sequential, Optimizer]:
    """A network after some steps, its gradients not cleared."""
    model = perceptron(dtype=torch.float64)
    optimizer: Optimizer = (
        torch.optim.AdamW(model.parameters(), lr=RATE)
        if kind == "adamw"
        else torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9)
    )
    for loss in losses(model, steps, dtype=torch.float64):
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return model, optimizer


def seen(
    model: nn.Module,
    optimizer: Optimizer,
    criterion: Criterion | None = None,
    *,
    before: Mapping[str, Tensor] | None = None,
    curvature: Mapping[str, Tensor] | None = None,
) -> StepObservations:
    return StepObservations(
        criterion or ReadsAll(),
        dict(model.named_parameters()),
        optimizer,
        before=before or {},
        curvature=curvature,
    )


def test_of_adam_curvature_and_average_are_its_moments() -> None:
    model, optimizer = stepped("adamw")
    observations = seen(model, optimizer)
    assert list(observations) == [name for name, _ in model.named_parameters()]
    assert len(observations) == 4
    for name, parameter in model.named_parameters():
        state, found = optimizer.state[parameter], observations[name]
        assert torch.equal(found.after, parameter)
        assert torch.equal(found.before, parameter)  # none was remembered
        assert parameter.grad is not None
        assert torch.equal(found.gradient, parameter.grad)
        torch.testing.assert_close(found.momentum, state["exp_avg"] / (1 - 0.9**3))
        torch.testing.assert_close(found.curvature, state["exp_avg_sq"] / (1 - 0.999**3))
        assert not torch.allclose(found.momentum, found.gradient)


def test_of_another_optimiser_the_average_is_the_gradient() -> None:
    model, optimizer = stepped("sgd")
    given = {name: torch.full_like(p, 2.0) for name, p in model.named_parameters()}
    observations = seen(model, optimizer, curvature=given)
    for name, parameter in model.named_parameters():
        found = observations[name]
        assert parameter.grad is not None
        assert torch.equal(found.momentum, parameter.grad)
        # the buffer of SGD's own momentum is a sum, not an average
        assert not torch.allclose(found.momentum, optimizer.state[parameter]["momentum_buffer"])
        assert torch.equal(found.curvature, given[name])


def test_a_curvature_that_is_given_comes_before_adams() -> None:
    model, optimizer = stepped("adamw")
    given = {"0.weight": torch.full((8, 6), 3.0)}
    observations = seen(model, optimizer, curvature=given)
    assert torch.equal(observations["0.weight"].curvature, given["0.weight"])
    with pytest.raises(ObservationError, match="reads a diagonal curvature, and there is none"):
        _ = observations["2.weight"].curvature


def test_weights_before_the_step_are_those_that_were_remembered() -> None:
    model, optimizer = stepped("adamw")
    before = {"0.weight": torch.zeros(8, 6, dtype=torch.float64)}
    observations = seen(model, optimizer, before=before)
    assert torch.equal(observations["0.weight"].before, before["0.weight"])
    assert torch.equal(observations["2.weight"].before, model.get_parameter("2.weight"))


@pytest.mark.parametrize("criterion", CRITERIA.values(), ids=CRITERIA)
def test_only_what_is_declared_is_looked_at(criterion: Criterion) -> None:
    # an optimiser that has taken no step has no moments: to look at them is an error
    model = perceptron()
    optimizer = torch.optim.AdamW(model.parameters())
    torch.autograd.backward(next(losses(model, 1)))
    moments = criterion.reads & {Reads.CURVATURE, Reads.MOMENTUM}
    observations = seen(model, optimizer, criterion)
    if moments:
        with pytest.raises(ObservationError, match="AdamW holds no exp_avg"):
            _ = observations["0.weight"]
    else:
        criterion.importance(observations["0.weight"])


@pytest.mark.parametrize("criterion", CRITERIA.values(), ids=CRITERIA)
def test_a_gradient_that_was_cleared_is_missed_by_those_that_read_one(
    criterion: Criterion,
) -> None:
    model, optimizer = stepped("adamw")
    optimizer.zero_grad()
    if criterion.reads & {Reads.GRADIENT, Reads.MOMENTUM}:
        with pytest.raises(
            ObservationError, match=r"found no gradient of any weight: call it after optimizer"
        ):
            seen(model, optimizer, criterion)
    else:
        criterion.importance(seen(model, optimizer, criterion)["0.weight"])


@pytest.mark.parametrize("criterion", CRITERIA.values(), ids=CRITERIA)
@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_a_weight_without_a_gradient_in_the_step_has_gradient_0(
    kind: str, criterion: Criterion
) -> None:
    model, optimizer = stepped(kind)
    first = model.get_parameter("0.weight")
    first.grad = None
    given = {name: torch.ones_like(p) for name, p in model.named_parameters()}
    observations = seen(model, optimizer, criterion, curvature=given)
    found = observations["0.weight"]
    reads = criterion.reads
    assert ("0.weight" in observations.observed) == reads.isdisjoint(
        {Reads.GRADIENT, Reads.MOMENTUM}
    )
    assert "2.weight" in observations.observed
    if Reads.GRADIENT in reads:
        assert torch.equal(found.gradient, torch.zeros_like(first))
        assert not criterion.importance(found).any()
        assert criterion.importance(observations["2.weight"]).any()
    if Reads.MOMENTUM in reads:  # Adam's average remembers the steps that had one
        assert bool(found.momentum.any()) == (kind == "adamw")


def test_a_weight_that_never_had_a_gradient_has_moments_0() -> None:
    model = perceptron()
    optimizer = torch.optim.AdamW(model.parameters())
    second = model.get_parameter("2.weight")
    torch.autograd.backward(model[0](torch.ones(1, 6)).sum())
    optimizer.step()
    found = seen(model, optimizer)["2.weight"]
    for zero in (found.gradient, found.momentum, found.curvature):
        assert torch.equal(zero, torch.zeros_like(second))
    assert seen(model, optimizer)["0.weight"].curvature.all()


def test_nothing_is_held_but_what_the_step_left() -> None:
    model, optimizer = stepped("adamw")
    observations = seen(model, optimizer)
    parameter = model.get_parameter("0.weight")
    first = observations["0.weight"]
    assert first.after.data_ptr() == parameter.data_ptr()
    assert parameter.grad is not None
    assert first.gradient.data_ptr() == parameter.grad.data_ptr()
    # moments are divided by their weights anew each time, and seen as they are then
    optimizer.state[parameter]["exp_avg"].zero_()
    assert bool(first.momentum.any())
    assert not observations["0.weight"].momentum.any()


def adam(model: nn.Module) -> Optimizer:
    return torch.optim.AdamW(model.parameters())


@pytest.mark.parametrize("criterion", CRITERIA.values(), ids=CRITERIA)
def test_every_criterion_has_its_sources_with_adam_and_a_loss(criterion: Criterion) -> None:
    require_sources(criterion, adam(perceptron()), None, lambda: 0.0)
    require_sources(
        criterion, torch.optim.SGD(perceptron().parameters(), lr=1.0), dict, lambda: 0.0
    )


def test_a_source_that_is_missing_is_named() -> None:
    model = perceptron()
    sgd = torch.optim.SGD(model.parameters(), lr=1.0)
    for name, criterion in CRITERIA.items():
        if Reads.CURVATURE in criterion.reads:
            with pytest.raises(
                ObservationError,
                match=f"criterion '{name}' reads a diagonal curvature and SGD keeps none: use Adam",
            ):
                require_sources(criterion, sgd, None, lambda: 0.0)
        else:
            require_sources(criterion, sgd, None, lambda: 0.0)
        if Reads.LOSS in criterion.reads:
            with pytest.raises(
                ObservationError,
                match=f"criterion '{name}' reads the loss and was given none: give loss= a functi",
            ):
                require_sources(criterion, adam(model), None, None)
        else:
            require_sources(criterion, adam(model), None, None)
