"""The tiny classifier, sharded with `fully_shard`, and what the tests do with it."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard

from pins.distributed.sharding import reshard, whole
from pins.models.batches import Batch
from tests.pins.ranks import mesh_of
from tests.pins.trainer.trainers import classifier, collated, texts


def sharded_classifier(size: int, *, layers: bool = True, **options: Any) -> nn.Module:
    """A tiny BERT whose parameters are spread over the ranks, layer by layer or all at once."""
    model: Any = classifier()
    options = {"mesh": mesh_of(size), **options}
    if layers:
        for layer in model.bert.encoder.layer:
            fully_shard(layer, **options)
    fully_shard(model, **options)
    assert isinstance(model, nn.Module)
    return model


def batches(count: int, rows: int = 4) -> list[Batch]:
    """The same ones on every rank, so that the mean of their gradients is each of them."""
    every = texts(count * rows)
    return [collated(every[at : at + rows]) for at in range(0, len(every), rows)]


def whole_weights(model: nn.Module) -> dict[str, Tensor]:
    """Copies of all parameters, whole, on every rank."""
    reshard(model)
    return {name: whole(p).detach().clone() for name, p in model.named_parameters()}


def whole_gradients(model: nn.Module) -> dict[str, Tensor]:
    found = {}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        found[name] = whole(parameter.grad).clone()
    return found


def assert_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    """The same names and the same bits."""
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert tensor.dtype == second[name].dtype, name
        assert torch.equal(tensor, second[name]), name
