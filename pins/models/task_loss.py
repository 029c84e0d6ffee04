"""The loss of the task, for an example or for a step; torch can differentiate it twice.

    ℓ = −log softmax(z)_y   for a prediction with logits z and target y
    ℓ = (v − y)²            for a predicted number v with target y

`pins.models.distillation_loss` computes the same with a teacher and with less memory; torch can
neither differentiate its hand-written gradient again nor vectorise it over examples. The functions
here call the unwrapped model.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pins.errors import ModelError
from pins.models.batches import IGNORED, Batch
from pins.models.distillation_loss import mixed_loss
from pins.models.heads import Distributions, Head, Regression, find_head
from pins.models.inference import device_of, evaluation_mode, to_device
from pins.models.parameters import unwrapped
from pins.utils.tensors import upcast_half


def prediction_losses(output: Any, batch: Batch, head: Head) -> tuple[Tensor, Tensor]:
    """ℓ of every prediction (0 without target), and whether the batch has a target for it.

    Both have the shape of `head.targets(batch)`, which does not depend on the targets' values.
    """
    if isinstance(head, Regression):
        rows = head.rows(output, batch)
        losses = (upcast_half(rows.values) - rows.targets).square()
        return losses, torch.ones_like(losses, dtype=torch.bool)
    targets = head.targets(batch)
    known = targets != IGNORED
    log_p = upcast_half(head.logits(output, batch)).log_softmax(-1)
    right = targets.masked_fill(~known, 0).unsqueeze(-1)
    losses = -log_p.gather(-1, right).squeeze(-1)
    return losses.masked_fill(~known, 0.0), known


def example_losses(
    model: nn.Module, batches: Sequence[Batch], head: Head | None = None
) -> Iterator[Tensor]:
    """Yield for each row of the batches the mean of ℓ over its predictions, with its graph.

    Without dropout. A row without predictions is skipped.
    """
    model, head = unwrapped(model), head or find_head(model)
    for batch, inputs in _on_device(model, batches, head):
        for row in range(number_of_rows(batch)):
            one = {name: tensor[row : row + 1] for name, tensor in batch.items()}
            if count := head.count(one):
                given = {name: tensor[row : row + 1] for name, tensor in inputs.items()}
                yield _sum(model, given, one, head) / count


def step_losses(
    model: nn.Module,
    batches: Sequence[Batch],
    head: Head | None = None,
    *,
    count: int | None = None,
) -> Iterator[Tensor]:
    """Yield a loss for each batch, with its graph; their sum is the mean of ℓ over all predictions.

    Without dropout. `count` divides the sum of ℓ instead of the number of predictions.
    """
    model, head = unwrapped(model), head or find_head(model)
    count = _number(batches, head) if count is None else max(count, 1)
    for batch, inputs in _on_device(model, batches, head):
        yield _sum(model, inputs, batch, head) / count


@torch.no_grad()
def step_loss(
    model: nn.Module,
    batches: Sequence[Batch],
    head: Head | None = None,
    *,
    count: int | None = None,
) -> float:
    """The mean of ℓ over all predictions of the batches, with the current weights, without dropout.

    `count` divides the sum of ℓ instead of the number of predictions.
    """
    model, head = unwrapped(model), head or find_head(model)
    count = _number(batches, head) if count is None else max(count, 1)
    value = 0.0
    with evaluation_mode(model):
        for batch, inputs in _on_device(model, batches, head):
            rows = head.rows(model(**inputs), batch)
            value += mixed_loss(rows, None, num_items=count).item()
    return value


def auxiliary_loss(model: nn.Module, output: Any) -> Tensor | float:
    """c·(loss that balances the experts of a mixture), where the model computes it; else 0.

    It is a mean over the tokens of the batch; c is `router_aux_loss_coef` of the configuration.

    Raises:
        ModelError: the model computes such losses in another form, which would be dropped.
    """
    found = getattr(output, "aux_loss", None)
    config = getattr(unwrapped(model), "config", None)
    config = config.get_text_config() if config is not None else None
    factor = getattr(config, "router_aux_loss_coef", getattr(config, "aux_loss_coef", None))
    others = [getattr(output, f"{part}_aux_loss", None) for part in ("encoder", "decoder")]
    if any(other is not None for other in others) or (found is not None and factor is None):
        raise ModelError(
            f"{type(unwrapped(model)).__name__} computes a loss of its routers that PINS cannot "
            "add to its own: set output_router_logits to false in its configuration"
        )
    return 0.0 if found is None else factor * found


def number_of_rows(batch: Batch) -> int:
    """The number of examples in a batch."""
    return len(next(iter(batch.values())))


def _number(batches: Sequence[Batch], head: Head) -> int:
    return max(sum(head.count(batch) for batch in batches), 1)


def _sum(model: nn.Module, inputs: Batch, batch: Batch, head: Head) -> Tensor:
    with evaluation_mode(model):  # not around a yield: the caller may change modes there
        output = model(**inputs)
    return prediction_losses(output, batch, head)[0].sum()


def _on_device(
    model: nn.Module, batches: Sequence[Batch], head: Head
) -> Iterator[tuple[Batch, Batch]]:
    """Yield each batch on the model's device, and the inputs of the model in it."""
    for batch in batches:
        moved = to_device(batch, device_of(model))
        yield moved, head.inputs(model, moved)


def summed_loss(head: Head, output: Any, batch: Batch) -> tuple[float, int]:
    """Σ −log p(target) over the predictions with a target, and their number.

    Args:
        head: other than regression.
        output: of the model, for that batch.
        batch: with its targets.
    """
    predicted = head.rows(output, batch)
    assert isinstance(predicted, Distributions)
    loss = cross_entropy(predicted.logits.float(), predicted.targets, reduction="sum")
    return loss.item(), len(predicted.targets)
