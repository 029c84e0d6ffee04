"""Inference: outputs of a model without dropout, and its device."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from pins.models.batches import Batch, Encoded
from pins.models.heads import Head


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Inside the block every module is in evaluation mode; afterwards in its earlier mode."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The same batch on another device."""
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def device_of(model: nn.Module) -> torch.device:
    """The device of the first parameter of a model."""
    return next(model.parameters()).device


def outputs(
    model: nn.Module, encoded: Encoded, head: Head, batch_size: int
) -> Iterator[tuple[list[int], Batch, Any]]:
    """Yield row numbers, batch and output; every row once, without dropout and gradients.

    The model is given no targets: it would compute a loss of its own, by its own configuration.
    """
    device = device_of(model)
    with evaluation_mode(model), torch.no_grad():
        for rows in encoded.by_length(batch_size):
            batch = to_device(encoded.batch(rows), device)
            yield rows, batch, model(**head.inputs(model, batch))
