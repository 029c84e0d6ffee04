"""The loss of a real model as a function of its prunable weights: float64, twice differentiable."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from pins.importance.curvature.fisher import empirical_fisher
from pins.models.batches import Batch
from pins.models.inference import evaluation_mode
from pins.models.parameters import prunable_parameters
from pins.models.pretrained import load_model
from verification.experiments.model_snapshot import TASK, ModelSnapshot, remembered_task
from verification.experiments.taylor_remainders import Loss
from verification.experiments.training import loss_gradient, per_example_losses

MAX_LENGTH = 8  # tokens of a row: the loss is evaluated dozens of times


@dataclass(frozen=True)
class SmoothLoss:
    """θ ↦ L(θ) of one model on a few rows, observed at one θ.

    Attributes:
        observed: θ, g and the diagonal empirical Fisher h, in float64.
        loss: L as a function of the prunable weights by name; all other parameters are constant.
    """

    observed: ModelSnapshot
    loss: Loss = field(repr=False)


def observe_loss(model: str, *, rows: int = 4, seed: int = 0) -> SmoothLoss:
    """The loss of the pre-trained model with a fresh head, without dropout.

    L is computed on one batch and g on two batches of unequal size: both must agree.

    Raises:
        ModelError, TaskError: the model or the task is missing.
    """
    task = remembered_task(TASK)
    classifier = load_model(model, task.heads, task.labels, seed=seed)
    drawn = task.sample(task.train, rows, seed)
    examples = task.encode(drawn, classifier.tokenizer, MAX_LENGTH, classifier.head, train=True)
    network = classifier.model.double()
    parameters = prunable_parameters(network).parameters
    batches = examples.batches(max(rows - 1, 1))
    with twice_differentiable():
        observed = ModelSnapshot(
            description=f"{model}, pre-trained, loss of {rows} rows of {TASK} in float64",
            before={name: parameter.detach() for name, parameter in parameters.items()},
            gradient=loss_gradient(network, batches, parameters),
            curvature=empirical_fisher(parameters, per_example_losses(network, batches)),
        )
    return SmoothLoss(observed, loss_function(network, examples.batch(range(rows))))


def loss_function(model: nn.Module, batch: Batch) -> Loss:
    """θ ↦ L(θ) on one batch: a float64 model, called with other weights than its own."""

    def loss(weights: Mapping[str, Tensor]) -> Tensor:
        with evaluation_mode(model), twice_differentiable():
            value: Tensor = functional_call(model, dict(weights), (), dict(batch)).loss
        return value

    return loss


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Inside the block a model computes in float64, and its attention has second derivatives."""
    # the fused attention kernels have first derivatives only
    with sdpa_kernel(SDPBackend.MATH), _Float64():
        yield


class _Float64(TorchFunctionMode):
    """float64 wherever code asks for float32 by name, as the norms of Llama and T5 do.

    They use it as a wider type than 16 bits; here it would round all later results.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        named = {name: _widened(value) for name, value in (kwargs or {}).items()}
        called = Tensor.double if func is Tensor.float else func
        return called(*map(_widened, args), **named)


def _widened(argument: Any) -> Any:
    return torch.float64 if argument is torch.float32 else argument
