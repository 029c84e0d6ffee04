"""A model in evaluation: its outputs without dropout, and where it is."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from pins.models.batches import Batch, Encoded


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
