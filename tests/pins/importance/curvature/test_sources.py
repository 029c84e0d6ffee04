"""The sources of curvature by name: each is its formula, on the rows of the step, in a pruner."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer

from pins.errors import CriterionError, ObservationError
from pins.importance.curvature.adam import adam_second_moment
from pins.importance.curvature.fisher import empirical_fisher, vectorized_fisher
from pins.importance.curvature.hutchinson import hutchinson_diagonal
from pins.importance.curvature.sources import (
    CURVATURES,
    FisherCurvature,
    TrainedStep,
    default_curvature,
    find_curvature,
)
from pins.models.distillation_loss import mixed_loss
from pins.models.heads import CLASSIFICATION
from pins.models.parameters import prunable_parameters
from pins.models.task_loss import example_losses, step_losses
from pins.pruning.pruner import Pruner
from pins.pruning.schedules import OneShotSchedule
from tests.pins.architectures import ARCHITECTURES, TEXTS, batch_for
from tests.pins.headed import HEADED, head_of
from tests.pins.networks import BagClassifier, examples

ADAMW: Callable[..., Optimizer] = torch.optim.AdamW


def trained(
    name: str = "classification", optimizer: Callable[..., Optimizer] = ADAMW
) -> TrainedStep:
    """After a step on three rows, in two batches."""
    model, batch, head = HEADED[name].model().double(), HEADED[name].batch(), head_of(name)
    made = optimizer(model.parameters(), lr=0.01)
    loss = mixed_loss(head.rows(model(**head.inputs(model, batch)), batch), None)
    torch.autograd.backward(loss)
    made.step()
    parts = [
        {key: tensor[rows] for key, tensor in batch.items()} for rows in (slice(2), slice(2, 3))
    ]
    return TrainedStep(
        parameters=prunable_parameters(model).parameters, optimizer=made, model=model, batches=parts
    )


@pytest.mark.parametrize("name", HEADED)
@pytest.mark.parametrize("curvature", CURVATURES)
def test_every_source_has_a_curvature_of_every_weight(curvature: str, name: str) -> None:
    step = trained(name)
    found = CURVATURES[curvature].diagonal(step)
    assert list(found) == list(step.parameters)
    for key, parameter in step.parameters.items():
        assert found[key].shape == parameter.shape
        assert found[key].dtype == parameter.dtype
        assert bool((found[key] >= 0).all())
        assert bool(found[key].isfinite().all())
        assert not found[key].requires_grad
    assert any(bool(h.any()) for h in found.values())


def test_each_is_its_formula() -> None:
    step = trained()
    model, weights, batches = step.model, step.parameters, step.batches
    generator = torch.Generator()
    torch.manual_seed(4)
    generator.set_state(torch.get_rng_state())
    signed = hutchinson_diagonal(weights, step_losses(model, batches), generator=generator)
    expected = {
        "adam": adam_second_moment(step.optimizer, weights),
        "fisher": empirical_fisher(weights, example_losses(model, batches)),
        "hutchinson": {name: h.abs() for name, h in signed.items()},
    }
    assert expected.keys() == CURVATURES.keys()
    for name, curvature in CURVATURES.items():
        found = curvature.diagonal(step)
        for key in weights:
            assert torch.equal(found[key], expected[name][key]), name
    assert any(bool((h < 0).any()) for h in signed.values())
    assert not any(torch.equal(expected["adam"][key], expected["fisher"][key]) for key in weights)


def test_hutchinson_goes_on_with_the_state_of_the_generator() -> None:
    step, curvature = trained(), find_curvature("hutchinson")
    torch.manual_seed(5)
    curvature.diagonal(step)
    state = torch.get_rng_state()
    second = curvature.diagonal(step)
    third = curvature.diagonal(step)
    torch.set_rng_state(state)
    again = curvature.diagonal(step)
    assert all(torch.equal(again[name], second[name]) for name in second)
    assert not all(torch.equal(again[name], third[name]) for name in third)


@pytest.mark.parametrize("vectorize", [None, False, True])
def test_the_fisher_is_the_same_either_way(vectorize: bool | None) -> None:
    step = trained()
    expected = vectorized_fisher(step.model, step.parameters, step.batches)
    found = FisherCurvature(vectorize=vectorize).diagonal(step)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-9, atol=1e-20)
    # one of them is that to the last bit
    same = all(torch.equal(found[name], expected[name]) for name in expected)
    assert same == (vectorize is True)


def test_a_model_that_cannot_be_vectorised_has_a_fisher_all_the_same() -> None:
    model, batch = ARCHITECTURES["T5"].model(TEXTS).double(), batch_for(TEXTS)
    step = TrainedStep(
        parameters=prunable_parameters(model).parameters,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        model=model,
        batches=[batch],
        head=CLASSIFICATION,
    )
    found = FisherCurvature(vectorize=True).diagonal(step)
    expected = FisherCurvature(vectorize=False).diagonal(step)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_default_is_what_the_optimizer_keeps() -> None:
    weight = torch.ones(2, requires_grad=True)
    assert default_curvature(torch.optim.AdamW([weight])).name == "adam"
    assert default_curvature(torch.optim.SGD([weight], lr=0.1)).name == "fisher"
    assert default_curvature(torch.optim.Adamax([weight])).name == "fisher"


@pytest.mark.parametrize("curvature", CURVATURES)
def test_what_a_source_reads_is_what_it_misses(curvature: str) -> None:
    source, step = CURVATURES[curvature], replace(trained(), batches=())
    if source.reads_batches:
        with pytest.raises(
            ObservationError,
            match=f"curvature '{curvature}' reads the rows of the step, and there are none: give",
        ):
            source.diagonal(step)
    else:
        assert source.diagonal(step)


def test_adam_of_another_optimizer_is_missed() -> None:
    with pytest.raises(ObservationError, match="SGD holds no exp_avg_sq"):
        find_curvature("adam").diagonal(trained(optimizer=torch.optim.SGD))


@pytest.mark.parametrize("curvature", CURVATURES)
def test_each_is_a_curvature_for_the_pruner(curvature: str) -> None:
    model, batch = BagClassifier(), examples(rows=6).batch(range(6))
    optimizer = ADAMW(model.parameters(), lr=0.1)
    seen: dict[str, Tensor] = {}

    def source() -> dict[str, Tensor]:
        step = TrainedStep(
            parameters=pruner.parameters,
            optimizer=optimizer,
            model=model,
            batches=[batch],
            head=CLASSIFICATION,
        )
        seen.update(find_curvature(curvature).diagonal(step))
        return seen

    pruner = Pruner(model, optimizer, "obd", OneShotSchedule(0.5), curvature=source)
    torch.autograd.backward(model(**batch).loss)
    optimizer.step()
    before = {name: p.detach().clone() for name, p in pruner.parameters.items()}
    decision = pruner.step()
    assert decision is not None
    kept = torch.cat([mask.flatten() for mask in decision.masks.values()])
    assert len(kept) == 45
    assert int(kept.sum()) == 23  # a half keeps the extra weight
    importance = torch.cat(
        [0.5 * (seen[name] * before[name].square()).flatten() for name in before]
    )
    assert importance[kept].min() >= importance[~kept].max()
    assert model.dropout.training


def test_there_is_no_other_curvature() -> None:
    with pytest.raises(
        CriterionError,
        match="there is no curvature 'gauss': choose one of adam, fisher, hutchinson",
    ):
        find_curvature("gauss")
    assert [find_curvature(name).name for name in CURVATURES] == list(CURVATURES)
