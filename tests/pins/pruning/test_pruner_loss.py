"""A pruner that reads the loss: measured loss changes and trust regions."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pins.errors import (
    CriterionError,
)
from pins.importance.criteria import CRITERIA
from pins.importance.smoothing import SMOOTHINGS
from pins.importance.taylor_models import FirstOrderModel
from pins.importance.trust_region.criterion import TrustRegion
from pins.importance.trust_region.program import TrustRegionDecision, TrustRegionProgram
from pins.pruning.loss_change import LossChange
from pins.pruning.pruner import Pruner
from pins.pruning.schedules import CubicSchedule, OneShotSchedule
from pins.selection.allocation import Allocation
from tests.pins.networks import loss_on_rows, losses, perceptron
from tests.pins.pruning.test_pruner import assert_pruned_are_plus_zero, backward, train


@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_decision_is_measured(criterion: str) -> None:
    model = perceptron(dtype=torch.float64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    schedule = CubicSchedule(steps=6, final_sparsity=0.6, interval=2)
    loss = loss_on_rows(model, dtype=torch.float64)
    pruner = Pruner(model, optimizer, criterion, schedule, loss=loss)
    found: list[LossChange] = []
    for step_loss in losses(model, 6, dtype=torch.float64):
        backward(step_loss)
        optimizer.step()
        before = loss()
        after = {name: p.detach().clone() for name, p in pruner.parameters.items()}
        gradients = {n: p.grad.clone() for n, p in pruner.parameters.items() if p.grad is not None}
        generator = torch.get_rng_state()
        decision = pruner.step()
        assert torch.equal(torch.get_rng_state(), generator)
        for name, parameter in pruner.parameters.items():
            assert parameter.grad is not None
            assert torch.equal(parameter.grad, gradients[name])
        if decision is not None:
            measurement = pruner.loss_change
            assert measurement is not None
            assert measurement.measured == loss() - before
            first_order = FirstOrderModel(gradients, after, after)
            expected = first_order.predicted_change(decision.masks)
            assert measurement.predicted == pytest.approx(expected, rel=1e-12)
            found.append(measurement)
        optimizer.zero_grad()
    assert len(found) == 3
    assert len({measurement.measured for measurement in found}) == 3
    assert all((m.multiplier is None) == (criterion != "trust-region") for m in found)


def test_without_a_loss_nothing_is_measured_and_nothing_else_changes() -> None:
    models = []
    for measured in (True, False):
        model = perceptron()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
        schedule = CubicSchedule(steps=6, final_sparsity=0.6, interval=2)
        loss = loss_on_rows(model) if measured else None
        pruner = Pruner(model, optimizer, "abs-pins", schedule, loss=loss)
        train(optimizer, pruner, losses(model, 6))
        assert (pruner.loss_change is not None) == measured
        assert pruner.radius_factor == 1.0
        models.append(model)
    for first, second in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(first, second)


def region_pruner(
    loss: Callable[[], float] | None = None, **given: Any
) -> tuple[nn.Sequential, Optimizer, Pruner]:
    """One decision of a trust region on the whole radius, after one step."""
    model = perceptron()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    pruner = Pruner(
        model,
        optimizer,
        given.pop("criterion", "trust-region"),
        given.pop("schedule", OneShotSchedule(0.5)),
        loss=loss or loss_on_rows(model),
        **given,
    )
    backward(next(losses(model, 1)))
    optimizer.step()
    return model, optimizer, pruner


@pytest.mark.parametrize(
    "allocation", [Allocation(), Allocation("tensor"), Allocation(layer_minimum=0.45)], ids=str
)
def test_a_trust_region_keeps_exactly_k_under_every_allocation(allocation: Allocation) -> None:
    _, _, pruner = region_pruner(allocation=allocation)
    decision = pruner.step()
    assert isinstance(decision, TrustRegionDecision)
    assert decision.multiplier > 0
    assert decision.proof.holds
    kept = {name: int(mask.sum()) for name, mask in pruner.masks.items()}
    assert sum(kept.values()) == 40
    if allocation.scope == "tensor":
        assert kept == {"0.weight": 24, "2.weight": 16}
    if allocation.layer_minimum:
        assert kept["0.weight"] >= 22
        assert kept["2.weight"] >= 15
    assert_pruned_are_plus_zero(pruner)


def test_the_program_of_a_trust_region_is_told_before_the_weights_change() -> None:
    told: list[tuple[dict[str, Tensor], TrustRegionProgram, TrustRegionDecision, int]] = []

    def listen(
        importance: Mapping[str, Tensor], program: TrustRegionProgram, decision: TrustRegionDecision
    ) -> None:
        terms = dict(program.terms)
        for name, (s, c) in terms.items():
            after = weights[name]
            state = optimizer.state[pruner.parameters[name]]
            torch.testing.assert_close(s, -(state["exp_avg"] / 0.1) * after)
            assert torch.equal(importance[name], terms[name].scores(decision.multiplier))
            assert bool((c > 0).all())
        assert decision.drop == program.drop(decision.masks)
        assert decision.cost == program.cost(decision.masks)
        told.append((dict(importance), program, decision, int(pruner._due)))

    _, optimizer, pruner = region_pruner(on_trust_region=listen)
    weights = {name: p.detach().clone() for name, p in pruner.parameters.items()}
    assert pruner.step() is told[0][2]
    assert pruner.decision is not None
    assert pruner.decision.proof is told[0][2].proof
    assert len(told) == 1
    measurement = pruner.loss_change
    assert measurement is not None
    assert measurement.multiplier == told[0][2].multiplier
    assert pruner.finished


def test_a_program_is_told_of_trust_regions_alone() -> None:
    told: list[object] = []
    _, _, pruner = region_pruner(criterion="obd", on_trust_region=lambda *given: told.append(given))
    assert pruner.step() is not None
    assert not told


def test_the_radius_is_shared_out_over_the_steps_to_come() -> None:
    promised, multipliers = [], []
    for left, radius in ((0, 0.5), (9, 5.0), (9, 0.5)):
        schedule = CubicSchedule(steps=1 + left, final_sparsity=0.5, cooldown=left)
        model, _, pruner = region_pruner(criterion=TrustRegion(radius=radius), schedule=schedule)
        limit = radius * loss_on_rows(model)() / (1 + left)
        decision, measurement = pruner.step(), pruner.loss_change
        assert isinstance(decision, TrustRegionDecision)
        assert measurement is not None
        assert measurement.reduction is not None
        promised.append(measurement.reduction.predicted)
        multipliers.append(decision.multiplier)
        assert promised[-1] <= limit
    assert promised[0] == promised[1] > 0
    assert multipliers[0] == pytest.approx(multipliers[1], rel=1e-3)
    assert multipliers[2] < multipliers[0]


def test_a_trust_region_is_not_averaged() -> None:
    model = perceptron()
    optimizer = torch.optim.AdamW(model.parameters())
    averages = [kind for kind in SMOOTHINGS.values() if kind().every_step]
    assert len(averages) == len(SMOOTHINGS) - 1
    for kind in averages:
        smoothing = kind()
        with pytest.raises(
            CriterionError,
            match=f"'trust-region' was given smoothing '{smoothing.name}': its inputs are aver",
        ):
            Pruner(
                model,
                optimizer,
                "trust-region",
                OneShotSchedule(0.5),
                smoothing=smoothing,
                loss=loss_on_rows(model),
            )


def test_a_rejected_step_shrinks_the_radius_of_later_decisions() -> None:
    worse = iter(range(100))
    _, _, pruner = region_pruner(loss=lambda: 1e4 + next(worse))
    decision = pruner.step()
    assert isinstance(decision, TrustRegionDecision)
    assert decision.multiplier == 0.0
    assert pruner.radius_factor == 0.25**4 == pruner.state_dict()["radius_factor"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_gives_no_multiplier(bad: float) -> None:
    _, _, pruner = region_pruner(loss=lambda: bad)
    decision, measurement = pruner.step(), pruner.loss_change
    assert isinstance(decision, TrustRegionDecision)
    assert measurement is not None
    assert (decision.multiplier, measurement.reduction) == (0.0, None)
    assert decision.proof.keep == 40
