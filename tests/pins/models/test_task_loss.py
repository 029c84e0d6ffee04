"""The task's loss in plain operations, against the mixed loss without a teacher."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from pins.errors import ModelError
from pins.models.batches import IGNORED
from pins.models.distillation_loss import mixed_loss
from pins.models.heads import CAUSAL, CLASSIFICATION
from pins.models.task_loss import (
    auxiliary_loss,
    example_losses,
    prediction_losses,
    step_loss,
    step_losses,
)
from tests.pins.headed import HEADED, head_of, padded
from tests.pins.networks import BagClassifier, examples, tiny


@pytest.fixture(params=HEADED)
def name(request: pytest.FixtureRequest) -> str:
    assert isinstance(request.param, str)
    return request.param


def test_the_loss_of_a_step_is_that_of_training(name: str) -> None:
    model, batch, head = HEADED[name].model(), HEADED[name].batch(), head_of(name)
    (loss,) = step_losses(model, [batch], head)
    expected = mixed_loss(head.rows(model(**head.inputs(model, batch)), batch), None)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    weights = [p for p in model.parameters() if p.requires_grad]
    for ours, theirs in zip(
        torch.autograd.grad(loss, weights, materialize_grads=True),
        torch.autograd.grad(expected, weights, materialize_grads=True),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_the_loss_as_the_weights_stand_is_that_with_its_graph(name: str) -> None:
    model, batch, head = HEADED[name].model().double(), HEADED[name].batch(), head_of(name)
    first = {key: tensor[:2] for key, tensor in batch.items()}
    last = padded({key: tensor[2:] for key, tensor in batch.items()}, 2)
    for batches in ([batch], [first, last]):
        for given in (head, None):
            expected = sum(loss.item() for loss in step_losses(model, batches, given))
            assert step_loss(model, batches, given) == pytest.approx(expected, rel=1e-12)
    assert step_loss(model, [first], head) != pytest.approx(step_loss(model, [batch], head))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_head_is_found(name: str) -> None:
    model, batch = HEADED[name].model(), HEADED[name].batch()
    (found,), (given) = step_losses(model, [batch]), step_losses(model, [batch], head_of(name))
    assert [found.item()] == [loss.item() for loss in given]


def test_parts_of_a_step_add_up_to_it(name: str) -> None:
    model, batch, head = HEADED[name].model().double(), HEADED[name].batch(), head_of(name)
    first = {key: tensor[:2] for key, tensor in batch.items()}
    last = padded({key: tensor[2:] for key, tensor in batch.items()}, 2)
    (whole,) = step_losses(model, [batch], head)
    torch.testing.assert_close(
        sum(step_losses(model, [first, last], head)), whole, rtol=1e-12, atol=0
    )


def test_an_example_is_a_step_of_one_row(name: str) -> None:
    model, batch, head = HEADED[name].model().double(), HEADED[name].batch(), head_of(name)
    losses = list(example_losses(model, [batch], head))
    assert len(losses) == 3
    for row, loss in enumerate(losses):
        alone = {key: tensor[row : row + 1] for key, tensor in batch.items()}
        expected = mixed_loss(head.rows(model(**head.inputs(model, alone)), alone), None)
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    assert len({loss.item() for loss in losses}) == 3  # they can be told apart


def test_unknown_targets_cost_nothing_and_do_not_count() -> None:
    model, batch, head = HEADED["tokens"].model(), HEADED["tokens"].batch(), head_of("tokens")
    losses, known = prediction_losses(model(**head.inputs(model, batch)), batch, head)
    assert torch.equal(known, batch["labels"] != IGNORED)
    assert not known.all()
    assert bool((losses[~known] == 0).all())
    assert bool((losses[known] > 0).all())


def test_a_row_without_predictions_makes_no_loss() -> None:
    model, batch = HEADED["tokens"].model(), HEADED["tokens"].batch()
    batch["labels"][1] = IGNORED
    assert len(list(example_losses(model, [batch]))) == 2
    batch["labels"][:] = IGNORED
    assert not list(example_losses(model, [batch]))
    (loss,) = step_losses(model, [batch])
    assert loss.item() == step_loss(model, [batch]) == 0.0


def test_the_second_derivative_is_the_slope_of_the_first() -> None:
    model, batch = BagClassifier(), examples(rows=4).batch(range(4))
    weight = model.hidden.weight
    direction = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)).double()

    def gradient(*, graph: bool = False) -> Tensor:
        (loss,) = step_losses(model, [batch], CLASSIFICATION)
        return torch.autograd.grad(loss, weight, create_graph=graph)[0]

    def moved(length: float) -> Tensor:
        with torch.no_grad():
            weight.add_(length * direction)
        found = gradient()
        with torch.no_grad():
            weight.sub_(length * direction)
        return found

    (second,) = torch.autograd.grad((gradient(graph=True) * direction).sum(), weight)
    step = 1e-5
    slope = (moved(step) - moved(-step)) / (2 * step)
    # the difference errs by the square of the step, and by roundings of 1e-16 over the step
    torch.testing.assert_close(second, slope, rtol=1e-6, atol=1e-9)
    assert second.abs().max() > 1e-2


@pytest.mark.parametrize("losses", [example_losses, step_losses])
def test_losses_are_without_dropout_and_leave_the_model_as_it_was(
    losses: Callable[..., Iterator[Tensor]],
) -> None:
    model, batch = BagClassifier(), examples(rows=4).batch(range(4))
    model.hidden.eval()
    first = losses(model, [batch], CLASSIFICATION)
    expected = [next(first).item()]
    assert model.dropout.training  # already now
    expected += [loss.item() for loss in first]
    assert [loss.item() for loss in losses(model, [batch], CLASSIFICATION)] == expected
    assert model.dropout.training
    assert not model.hidden.training


def test_a_wrapped_model_gives_the_losses_of_the_model_itself() -> None:
    model, batch = HEADED["classification"].model(), HEADED["classification"].batch()
    wrapped = nn.DataParallel(model)
    assert next(step_losses(wrapped, [batch])).item() == next(step_losses(model, [batch])).item()


def mixture(*, routers: bool) -> nn.Module:
    """A causal model with four experts; with `routers` it computes the loss that balances them."""
    return tiny(
        "Mixtral", "ForCausalLM", num_local_experts=4, num_key_value_heads=2,
        output_router_logits=routers, router_aux_loss_coef=0.5,
    )  # fmt: skip


def test_the_loss_of_the_routers_is_added_as_the_model_does() -> None:
    tokens = torch.arange(1, 9).reshape(2, 4)
    batch = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": tokens}
    losses = {}
    for routers in (True, False):
        model = mixture(routers=routers).eval()
        output = model(**CAUSAL.inputs(model, batch))
        own = mixed_loss(CAUSAL.rows(output, batch), None)
        losses[routers] = own + auxiliary_loss(model, output)
        torch.testing.assert_close(losses[routers], model(**batch).loss)
    assert losses[True] > losses[False] + 0.1  # and without it nothing is added


def test_a_loss_of_routers_in_another_form_is_refused() -> None:
    model = mixture(routers=False)
    with pytest.raises(ModelError, match=r"MixtralForCausalLM computes .* output_router_logits"):
        auxiliary_loss(model, SimpleNamespace(encoder_aux_loss=torch.ones(())))
