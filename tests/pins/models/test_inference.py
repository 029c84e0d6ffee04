"""The plain loop does what it says: each number against a loop written out."""

import math

import pytest
import torch
from torch import nn

from pins.errors import ModelError
from pins.importance.curvature.fisher import empirical_fisher
from pins.models.inference import evaluation_mode
from pins.pruning.pruner import Pruner
from pins.pruning.schedules import OneShotSchedule
from tests.pins.networks import BagClassifier, examples
from verification.experiments.training import (
    Evaluation,
    evaluate,
    loss_gradient,
    per_example_losses,
    training_steps,
)


def test_a_step_is_backward_clip_step_prune_clear() -> None:
    batches = examples().batches(4)
    norm = 0.05
    by_hand = BagClassifier()
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.5)
    pruner = Pruner(by_hand, optimizer, "movement", OneShotSchedule(0.5, at=2))
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    expected = []
    torch.manual_seed(5)
    for batch in batches:
        loss = by_hand(**batch).loss
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(by_hand.parameters(), norm)
        optimizer.step()
        pruner.step()
        optimizer.zero_grad()
        scheduler.step()
        expected.append(loss.item())

    model = BagClassifier().eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    steps = training_steps(
        model,
        batches,
        optimizer,
        scheduler=torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5),
        pruner=Pruner(model, optimizer, "movement", OneShotSchedule(0.5, at=2)),
        max_gradient_norm=norm,
    )
    torch.manual_seed(5)
    assert list(steps) == expected
    for name, parameter in by_hand.named_parameters():
        assert torch.equal(parameter, model.get_parameter(name))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_steps_are_taken_one_at_a_time() -> None:
    model = BagClassifier()
    before = model.hidden.weight.detach().clone()
    steps = training_steps(
        model, examples().batches(4), torch.optim.SGD(model.parameters(), lr=0.5)
    )
    assert torch.equal(model.hidden.weight, before)
    next(steps)
    assert not torch.equal(model.hidden.weight, before)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_training(bad: float) -> None:
    model = BagClassifier()
    steps = training_steps(
        model, examples().batches(4), torch.optim.SGD(model.parameters(), lr=0.5)
    )
    next(steps)
    with torch.no_grad():
        model.out.bias.fill_(bad)
    before = model.hidden.weight.detach().clone()
    with pytest.raises(ModelError, match="the loss of step 2 is nan: lower the learning rate"):
        next(steps)
    assert torch.equal(model.hidden.weight, before)


def test_evaluation_weighs_every_row_alike_whatever_the_batches() -> None:
    model, rows = BagClassifier(), examples(rows=10)
    whole = evaluate(model, [rows.batch(range(10))])
    parts = evaluate(model, rows.batches(3))  # 3, 3, 3 and 1
    assert whole.rows == parts.rows == 10
    assert whole.accuracy == parts.accuracy
    assert parts.loss == pytest.approx(whole.loss, rel=1e-12)
    model.eval()
    with torch.no_grad():
        output = model(**rows.batch(range(10)))
    right = int((output.logits.argmax(-1) == rows.batch(range(10))["labels"]).sum())
    assert whole == Evaluation(output.loss.item(), right / 10, 10)


def test_evaluation_leaves_no_gradient_and_the_model_in_training() -> None:
    model = BagClassifier().train()
    evaluate(model, examples().batches(4))
    assert model.training
    assert model.dropout.training
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_mode_ends_as_it_began(training: bool) -> None:
    model = BagClassifier().train(training)

    def fail() -> None:
        with evaluation_mode(model):
            assert not model.training
            assert not model.dropout.training
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fail()
    assert model.training is training
    assert model.dropout.training is training


def test_a_part_that_was_in_evaluation_mode_alone_stays_so() -> None:
    model = BagClassifier().train()
    model.dropout.eval()
    with evaluation_mode(model):
        assert not model.training
    assert model.training
    assert not model.dropout.training


def test_loss_gradient_is_that_of_the_mean_loss_over_all_rows() -> None:
    model, rows = BagClassifier(), examples(rows=10)
    parameters = dict(model.named_parameters())
    gradient = loss_gradient(model, rows.batches(3), parameters)
    model.eval()
    loss = model(**rows.batch(range(10))).loss
    expected = torch.autograd.grad(loss, list(parameters.values()))
    for found, wanted in zip(gradient.values(), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-14)
    # batches of different sizes, each taken for the same, would give another mean
    means = [
        torch.autograd.grad(model(**batch).loss, model.out.bias)[0] for batch in rows.batches(3)
    ]
    assert not torch.allclose(torch.stack(means).mean(0), gradient["out.bias"], rtol=1e-6)


def test_loss_gradient_leaves_the_gradients_of_the_training_alone() -> None:
    model, rows = BagClassifier().train(), examples()
    model.hidden.weight.grad = torch.full_like(model.hidden.weight, 7.0)
    loss_gradient(model, rows.batches(4), {"w": model.hidden.weight})
    assert bool((model.hidden.weight.grad == 7).all())
    assert model.out.weight.grad is None
    assert model.training


def test_losses_of_single_rows_have_the_mean_of_the_batch() -> None:
    model, rows = BagClassifier(), examples(rows=7)
    single = [loss.item() for loss in per_example_losses(model, rows.batches(3))]
    assert len(single) == 7
    assert sum(single) / 7 == pytest.approx(evaluate(model, rows.batches(3)).loss, rel=1e-12)


def test_losses_of_single_rows_do_not_see_the_padding() -> None:
    rows = examples(rows=6)

    class Width(BagClassifier):
        def forward(self, **batch: torch.Tensor) -> object:  # type: ignore[override]
            widths.append(batch["input_ids"].shape)
            assert bool(batch["attention_mask"].all())
            return super().forward(**batch)

    widths: list[torch.Size] = []
    for _ in per_example_losses(Width(), [rows.batch(range(6))]):
        pass
    assert widths == [(1, rows.length(row)) for row in range(len(rows))]


def test_losses_of_single_rows_make_the_empirical_fisher() -> None:
    model, rows = BagClassifier(), examples(rows=5)
    fisher = empirical_fisher(
        {"w": model.out.weight}, per_example_losses(model, [rows.batch(range(5))])
    )["w"]
    model.eval()
    squares = [
        torch.autograd.grad(model(**rows.batch([row])).loss, model.out.weight)[0].square()
        for row in range(5)
    ]
    torch.testing.assert_close(fisher, torch.stack(squares).mean(0), rtol=1e-12, atol=0)
