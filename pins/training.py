"""Plain training and evaluation of a model that maps a batch to `.loss` and `.logits`."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from pins.batches import Batch, Encoded
from pins.errors import ModelError
from pins.precision import widened
from pins.pruner import Pruner


@dataclass(frozen=True)
class Evaluation:
    """Mean loss and accuracy over `rows` rows."""

    loss: float
    accuracy: float
    rows: int


def training_steps(
    model: nn.Module,
    batches: Iterable[Batch],
    optimizer: Optimizer,
    *,
    scheduler: LRScheduler | None = None,
    pruner: Pruner | None = None,
    max_gradient_norm: float = 1.0,
) -> Iterator[float]:
    """Take one step per batch and yield its loss: backward, clip, step, prune, clear.

    Raises:
        ModelError: the loss is not finite.
    """
    for number, batch in enumerate(batches, start=1):
        model.train()
        loss = model(**batch).loss
        value = loss.item()
        if not math.isfinite(value):
            raise ModelError(f"the loss of step {number} is {value}: lower the learning rate")
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_gradient_norm)
        optimizer.step()
        if pruner is not None:
            pruner.step()
        optimizer.zero_grad()
        if scheduler is not None:
            scheduler.step()
        yield value


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Without dropout inside the block; every part as it was after it."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode


def compute_activations_twice(model: nn.Module) -> None:
    """Keep few activations for the backward pass, and compute the others again in it.

    Raises:
        ModelError: the model cannot.
    """
    # its name since transformers 5.20 or so; the earlier one goes in 6
    enable: Any = getattr(model, "activation_checkpointing_enable", None)
    try:
        (enable or model.gradient_checkpointing_enable)()  # type: ignore[operator]
    except (ValueError, AttributeError) as error:
        raise ModelError(
            f"{type(model).__name__} cannot compute activations twice: leave "
            "gradient_checkpointing out"
        ) from error


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The same batch on another device."""
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def device_of(model: nn.Module) -> torch.device:
    """Where the first parameter of a model is."""
    return next(model.parameters()).device


def outputs(
    model: nn.Module, encoded: Encoded, batch_size: int
) -> Iterator[tuple[list[int], Batch, Any]]:
    """Row numbers, batch and output of every row once, without dropout and without gradients."""
    device = device_of(model)
    with evaluation_mode(model), torch.no_grad():
        for rows in encoded.by_length(batch_size):
            batch = to_device(encoded.batch(rows), device)
            yield rows, batch, model(**batch)


@torch.no_grad()
def evaluate(model: nn.Module, batches: Sequence[Batch]) -> Evaluation:
    """Mean loss and accuracy over all rows, without dropout, summed in float64."""
    loss, right, rows = 0.0, 0, 0
    with evaluation_mode(model):
        for batch in batches:
            output = model(**batch)
            size = len(batch["labels"])
            loss += output.loss.item() * size
            right += int((output.logits.argmax(-1) == batch["labels"]).sum())
            rows += size
    return Evaluation(loss / rows, right / rows, rows)


def loss_gradient(
    model: nn.Module, batches: Sequence[Batch], parameters: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """g = ∇L, L the mean loss over all rows, without dropout, by parameter name.

    The `.grad` fields of the model are left as they are.
    """
    rows = sum(len(batch["labels"]) for batch in batches)
    total = {name: torch.zeros_like(widened(p.detach())) for name, p in parameters.items()}
    with evaluation_mode(model):
        for batch in batches:
            loss = model(**batch).loss * (len(batch["labels"]) / rows)
            gradients = torch.autograd.grad(loss, list(parameters.values()))
            for sum_, gradient in zip(total.values(), gradients, strict=True):
                sum_ += gradient
    return total


def per_example_losses(model: nn.Module, batches: Sequence[Batch]) -> Iterator[Tensor]:
    """The loss of each row alone, with its graph, without dropout: for `empirical_fisher`."""
    with evaluation_mode(model):
        for batch in batches:
            for row in range(len(batch["labels"])):
                length = int(batch["attention_mask"][row].sum())
                single = {
                    key: value[row : row + 1, :length]
                    for key, value in batch.items()
                    if key != "labels"
                }
                yield model(**single, labels=batch["labels"][row : row + 1]).loss
