"""Training and evaluation of a model that maps a batch to `.loss` and `.logits`."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from pins.errors import ModelError
from pins.models.batches import Batch
from pins.models.inference import evaluation_mode
from pins.pruning.pruner import Pruner
from pins.utils.tensors import upcast_half


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
    """g = ∇L, L the mean loss over all rows, without dropout, by name; 0 where L does not depend.

    The `.grad` fields of the model do not change.
    """
    rows = sum(len(batch["labels"]) for batch in batches)
    total = {name: torch.zeros_like(upcast_half(p.detach())) for name, p in parameters.items()}
    with evaluation_mode(model):
        for batch in batches:
            loss = model(**batch).loss * (len(batch["labels"]) / rows)
            weights = list(parameters.values())
            gradients = torch.autograd.grad(loss, weights, materialize_grads=True)
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
