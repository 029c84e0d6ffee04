"""Gradients against those of the whole text at once in float64; memory against what is held."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pins.errors import CalibrationError, ModelError
from pins.importance.criterion import Reads
from pins.models.heads import CAUSAL
from pins.models.parameters import prunable_parameters, views_of
from pins.models.task_loss import example_losses
from pins.oneshot import decision
from pins.oneshot.decision import require_memory
from pins.oneshot.gradients import batches, gradients, needed_bytes
from pins.oneshot.methods.gradient_method import GradientMethod
from pins.oneshot.methods.registry import METHODS
from tests.pins.oneshot.tiny_decoders import PASSED, WORDS, network

pytest.importorskip("transformers", reason="the models are those of transformers")

BOTH = frozenset({Reads.GRADIENT, Reads.CURVATURE})
KINDS = pytest.mark.parametrize("kind", ["Llama", "GPT2"])


def texts(number: int = 3, length: int = 12) -> list[Tensor]:
    """Windows; the padding token is a token like any other here."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, WORDS, (1, length), generator=generator) for _ in range(number)]


def loss_of(model: Any, tokens: Tensor) -> Tensor:
    logits = model(input_ids=tokens).logits[:, :-1].double()
    return cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def weights_of(model: nn.Module) -> dict[str, nn.Parameter]:
    return prunable_parameters(model).parameters


def far(one: Tensor, other: Tensor) -> float:
    return float((one.double() - other.double()).norm() / other.double().norm())


@KINDS
def test_they_are_those_of_the_whole_text_in_float64(kind: str) -> None:
    model, windows = network(kind), texts()
    done: list[int] = []
    found = gradients(model, weights_of(model), windows, BOTH, lambda: done.append(1))
    exact = network(kind).double()
    weights = weights_of(exact)
    loss = loss_of(exact, torch.cat(windows))
    means = torch.autograd.grad(loss, list(weights.values()))
    each = [torch.autograd.grad(loss_of(exact, w), list(weights.values())) for w in windows]
    assert found.loss == pytest.approx(loss.item(), rel=1e-6)
    assert len(done) == len(windows)
    for name, mean, *own in zip(weights, means, *each, strict=True):
        squares = sum(g.square() for g in own) / len(windows)
        assert found.gradient[name].dtype == torch.float32
        assert far(found.gradient[name], mean) < 1e-5, name
        assert far(found.fisher[name], squares) < 1e-5, name
        assert far(found.fisher[name], mean.square()) > 0.1, "the square of the mean is another"
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_is_not_read_is_not_kept() -> None:
    model = network("Llama")
    weights = weights_of(model)
    one, two = (
        gradients(model, weights, texts(1), frozenset({what}))
        for what in (Reads.MOMENTUM, Reads.CURVATURE)
    )
    assert one.gradient
    assert not one.fisher
    assert two.fisher
    assert not two.gradient


def test_a_loss_that_is_no_number_names_its_window() -> None:
    model, windows = network("Llama"), texts()
    with torch.no_grad():
        model.get_input_embeddings().weight[windows[1][0, 0]] = torch.nan
    windows[0][windows[0] == windows[1][0, 0]] = (windows[1][0, 0] + 1) % WORDS
    with pytest.raises(CalibrationError, match="loss of calibration window 2 of 3 is nan: the mod"):
        gradients(model, weights_of(model), windows, BOTH)


@pytest.mark.parametrize("kind", PASSED)
@pytest.mark.parametrize("length", [8, 32])
def test_the_estimate_covers_what_a_backward_pass_holds(kind: str, length: int) -> None:
    model = network(kind)
    weights = weights_of(model)
    views = views_of(model, weights)
    gradients(model, weights, texts(1, 4), BOTH)  # leaves gradients for these weights alone
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    held: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            held[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = next(example_losses(model, batches(texts(1, length)), CAUSAL))
    assert loss.requires_grad
    sizes = (4 * sum(p.numel() for p in each) for each in (model.parameters(), weights.values()))
    fixed = sum(size * times for size, times in zip(sizes, (1, 2), strict=True))
    needed = needed_bytes(model, views, length, BOTH)
    assert needed >= fixed + sum(held.values())
    long = needed_bytes(model, views, 100 * length, BOTH)
    assert long - fixed < 100 * 4 * sum(held.values()), "of the same size"
    assert long > needed_bytes(model, views, 100 * length, BOTH - {Reads.CURVATURE})


def test_what_does_not_fit_is_refused_with_both_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    model, method = network("Llama"), METHODS["obd"]
    assert isinstance(method, GradientMethod)
    views = views_of(model, weights_of(model))
    needed = needed_bytes(model, views, 16, method.criterion.reads)

    def require(free: int | None) -> None:
        monkeypatch.setattr(decision, "free_bytes", lambda _: free)
        require_memory(method, model, views, 16, torch.device("cpu"))

    require(None)
    require(needed)
    with pytest.raises(ModelError, match=f"{needed:,} bytes, and cpu has {needed - 1:,} free: giv"):
        require(needed - 1)
