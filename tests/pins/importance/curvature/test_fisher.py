"""The empirical Fisher's diagonal, one example at a time and many, against gradients by hand."""

from collections.abc import Iterator, Mapping
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pins.errors import ModelError, ObservationError, ParameterError, SettingError
from pins.importance.curvature.fisher import empirical_fisher, vectorized_fisher
from pins.models.batches import IGNORED, Batch
from pins.models.heads import CLASSIFICATION, REGRESSION
from pins.models.parameters import prunable_parameters
from pins.models.task_loss import example_losses, step_losses
from tests.pins.architectures import ARCHITECTURES, TEXTS, batch_for, head_of
from tests.pins.headed import HEADED
from tests.pins.networks import BagClassifier, examples
from verification.experiments.training import per_example_losses


def quadratic_losses(weight: Tensor, data: Tensor, target: Tensor) -> Iterator[Tensor]:
    """(w·x − y)² of each example; its gradient is 2(w·x − y) x."""
    for x, y in zip(data, target, strict=True):
        yield (weight @ x - y).square()


def regression(rows: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    data = torch.randn(rows, 4, generator=generator, dtype=torch.float64)
    target = torch.randn(rows, generator=generator, dtype=torch.float64)
    weight = torch.randn(4, generator=generator, dtype=torch.float64, requires_grad=True)
    return weight, data, target


def gradients_by_hand(weight: Tensor, data: Tensor, target: Tensor) -> Tensor:
    return 2 * (data @ weight.detach() - target)[:, None] * data


def assert_same(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Up to the roundings of float64, relative to the largest of a tensor."""
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        largest = float(tensor.abs().max())
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-13 * largest)


def test_empirical_fisher_is_the_mean_of_squared_gradients_per_example() -> None:
    weight, data, target = regression()
    fisher = empirical_fisher({"w": weight}, quadratic_losses(weight, data, target))["w"]
    by_hand = gradients_by_hand(weight, data, target)
    torch.testing.assert_close(fisher, by_hand.square().mean(0), rtol=1e-13, atol=0)
    # the square of the mean gradient is another thing
    assert not torch.allclose(fisher, by_hand.mean(0).square(), rtol=0.1)


def test_empirical_fisher_leaves_the_gradients_alone() -> None:
    weight, data, target = regression()
    empirical_fisher({"w": weight}, quadratic_losses(weight, data, target))
    assert weight.grad is None


def test_empirical_fisher_of_no_example_is_refused() -> None:
    with pytest.raises(ObservationError, match="given no loss: give one per example"):
        empirical_fisher({"w": torch.ones(1, requires_grad=True)}, [])


def test_empirical_fisher_of_a_weight_that_an_example_does_not_read_is_0_there() -> None:
    weight, other = (torch.ones(2, requires_grad=True) for _ in range(2))
    losses = [weight.sum(), (weight + 3 * other).sum()]
    fisher = empirical_fisher({"w": weight, "other": other}, losses)
    assert fisher["w"].tolist() == [1.0, 1.0]
    assert fisher["other"].tolist() == [4.5, 4.5]


def test_empirical_fisher_of_many_examples_in_16_bits_is_still_their_mean() -> None:
    # every per-example gradient is 1, and so is the mean of their squares
    weight = torch.ones(2, dtype=torch.bfloat16, requires_grad=True)
    fisher = empirical_fisher({"w": weight}, (weight.sum() for _ in range(600)))["w"]
    assert fisher.tolist() == [1.0, 1.0]


def test_empirical_fisher_of_small_gradients_in_16_bits_is_not_zero() -> None:
    weight = torch.ones(2, dtype=torch.float16, requires_grad=True)
    fisher = empirical_fisher({"w": weight}, [weight.sum() * 1e-4])["w"]
    assert fisher.tolist() == pytest.approx([1e-8, 1e-8], rel=1e-2)


@pytest.mark.parametrize("name", HEADED)
def test_many_examples_at_once_are_one_after_the_other(name: str) -> None:
    model, batch = HEADED[name].model().double(), HEADED[name].batch()  # of three lengths
    parameters = prunable_parameters(model).parameters
    expected = empirical_fisher(parameters, example_losses(model, [batch]))
    assert_same(vectorized_fisher(model, parameters, [batch]), expected)
    # the loss of the batch is no example: the square of a mean is less than the mean of squares
    of_the_batch = empirical_fisher(parameters, step_losses(model, [batch]))
    name = next(iter(parameters))
    assert float((of_the_batch[name] - expected[name]).max()) < 0.9 * float(expected[name].max())
    assert not torch.allclose(of_the_batch[name], expected[name], rtol=0.1)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_is_vectorised_or_says_that_it_cannot_be(architecture: str) -> None:
    family = ARCHITECTURES[architecture]
    for auto_class in family.auto_classes:
        model, batch, head = family.model(auto_class), batch_for(auto_class), head_of(auto_class)
        model.double().train()
        parameters = prunable_parameters(model).parameters
        # these count the ends of each text in turn, which has as many answers as there are texts
        if auto_class == TEXTS and architecture.startswith(("T5", "BART")):
            with pytest.raises(
                ModelError,
                match=r"for several examples at once .*: use pins\.empirical_fisher, one",
            ):
                vectorized_fisher(model, parameters, [batch], head)
        else:
            found = vectorized_fisher(model, parameters, [batch], head)
            losses = example_losses(model, [batch], head)
            assert_same(found, empirical_fisher(parameters, losses))
        assert model.training


def test_it_is_the_fisher_of_the_losses_that_transformers_computes() -> None:
    model, batch = HEADED["classification"].model().double(), HEADED["classification"].batch()
    parameters = prunable_parameters(model).parameters
    expected = empirical_fisher(parameters, per_example_losses(model, [batch]))
    assert_same(vectorized_fisher(model, parameters, [batch]), expected)


@given(
    ranks=st.lists(st.integers(1, 3), min_size=1, max_size=7),
    cuts=st.lists(st.integers(1, 6), max_size=2),
    chunk_size=st.none() | st.integers(1, 8),
)
def test_neither_chunks_nor_batches_nor_the_order_change_it(
    ranks: list[int], cuts: list[int], chunk_size: int | None
) -> None:
    model, texts = BagClassifier(), examples(rows=7)
    rows = list(range(len(ranks)))
    parameters = dict(model.named_parameters())
    expected = vectorized_fisher(model, parameters, [texts.batch(rows)], CLASSIFICATION)
    ends = sorted({min(cut, len(rows)) for cut in cuts} | {0, len(rows)})
    order = sorted(rows, key=lambda row: ranks[row])
    batches = [texts.batch(order[a:b]) for a, b in pairwise(ends)]
    found = vectorized_fisher(model, parameters, batches, CLASSIFICATION, chunk_size=chunk_size)
    assert_same(found, expected)


def test_the_examples_of_several_batches_count_alike() -> None:
    model, texts = BagClassifier(), examples(rows=5)
    parameters = {"anything": model.out.weight, "else": model.hidden.weight}
    batches = [texts.batch([0, 1, 2, 3]), texts.batch([4])]
    found = vectorized_fisher(model, parameters, batches, CLASSIFICATION)
    expected = empirical_fisher(parameters, example_losses(model, batches, CLASSIFICATION))
    assert_same(found, expected)
    # the mean over batches would give the last row four times its weight
    each = [vectorized_fisher(model, parameters, [batch], CLASSIFICATION) for batch in batches]
    assert not torch.allclose((each[0]["else"] + each[1]["else"]) / 2, expected["else"], rtol=0.01)


def test_rows_without_predictions_do_not_count() -> None:
    model, batch = HEADED["tokens"].model().double(), HEADED["tokens"].batch()
    parameters = prunable_parameters(model).parameters
    two = {name: tensor[:2] for name, tensor in batch.items()}
    expected = vectorized_fisher(model, parameters, [two])
    batch["labels"][2] = IGNORED
    assert_same(vectorized_fisher(model, parameters, [batch]), expected)
    assert_same(empirical_fisher(parameters, example_losses(model, [batch])), expected)
    batch["labels"][:] = IGNORED
    with pytest.raises(ObservationError, match="given no example with a prediction: give rows"):
        vectorized_fisher(model, parameters, [batch])
    with pytest.raises(ObservationError, match="given no example with a prediction"):
        vectorized_fisher(model, parameters, [])


def test_tied_weights_have_the_gradient_of_both_places() -> None:
    model, batch = HEADED["causal"].model().double(), HEADED["causal"].batch()
    words = model.get_parameter("transformer.wte.weight")
    assert words is model.lm_head.weight  # type: ignore[union-attr]
    expected = empirical_fisher({"words": words}, example_losses(model, [batch]))
    assert_same(vectorized_fisher(model, {"words": words}, [batch]), expected)


def test_the_fisher_of_a_frozen_weight_is_0_by_both_methods() -> None:
    model, batch = HEADED["classification"].model().double(), HEADED["classification"].batch()
    parameters = prunable_parameters(model).parameters
    name, frozen = next(iter(parameters.items()))
    assert vectorized_fisher(model, parameters, [batch])[name].any()
    frozen.requires_grad_(False)
    expected = empirical_fisher(parameters, example_losses(model, [batch]))
    assert not expected[name].any()
    assert_same(vectorized_fisher(model, parameters, [batch]), expected)


def test_the_model_is_left_as_it_was() -> None:
    model, batch = BagClassifier(), examples(rows=4).batch(range(4))
    model.hidden.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fisher = vectorized_fisher(model, {"w": model.out.weight}, [batch], CLASSIFICATION)
    assert not fisher["w"].requires_grad
    assert model.dropout.training
    assert not model.hidden.training
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.grad is None


def test_a_wrapped_model_is_the_model_itself() -> None:
    model, batch = HEADED["classification"].model().double(), HEADED["classification"].batch()
    parameters = prunable_parameters(model).parameters
    found = vectorized_fisher(nn.DataParallel(model), parameters, [batch])
    assert_same(found, vectorized_fisher(model, parameters, [batch]))


def test_weights_of_16_bits_are_squared_in_32() -> None:
    class Line(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1, 1, dtype=torch.float16))

        def forward(self, values: Tensor) -> object:
            return type("Output", (), {"logits": nn.functional.linear(values, self.weight)})

    model = Line()
    batch: Batch = {
        "values": torch.full((3, 1), 1e-3, dtype=torch.float16),
        "labels": torch.full((3,), 0.5),
    }
    fisher = vectorized_fisher(model, {"w": model.weight}, [batch], REGRESSION)["w"]
    assert fisher.dtype == torch.float32
    assert fisher.item() == pytest.approx(1e-6, rel=1e-2)  # which float16 has three bits for


def test_a_weight_of_another_model_is_refused() -> None:
    model, batch = BagClassifier(), examples(rows=4).batch(range(4))
    with pytest.raises(
        ParameterError,
        match="given w, which is no parameter of BagClassifier: give the model's own",
    ):
        vectorized_fisher(model, {"w": model.out.weight.clone()}, [batch], CLASSIFICATION)


@pytest.mark.parametrize("chunk_size", [0, -3])
def test_a_chunk_of_no_example_is_refused(chunk_size: int) -> None:
    model, batch = BagClassifier(), examples(rows=4).batch(range(4))
    with pytest.raises(SettingError, match=f"chunk_size is {chunk_size}: it is a number of"):
        vectorized_fisher(
            model, {"w": model.out.weight}, [batch], CLASSIFICATION, chunk_size=chunk_size
        )
