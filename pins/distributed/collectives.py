"""Collectives that give every rank the same: an answer or tensor of one, an error, a sum."""

import json
import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from pins import errors
from pins.distributed.process_group import Group

Value = TypeVar("Value")


def gather_json(group: Group, value: Any) -> list[Any]:
    """The JSON value of every rank, in the order of the ranks; floats keep their bits."""
    text = bytearray(json.dumps(value).encode())
    gathered = group.gathered(torch.frombuffer(text, dtype=torch.uint8))
    return [json.loads(bytes(each.tolist())) for each in gathered]


def on_rank_zero(group: Group, work: Callable[[], Value]) -> Value:
    """Run `work()` on rank 0 alone and return its result on every rank; the others wait.

    Args:
        group: every rank of it calls this.
        work: returns JSON values.

    Raises:
        PinsError: `work` raised it; every rank raises the same.
    """
    if group.size == 1:
        return work()
    failure: Exception | None = None
    answer = None
    if group.rank == 0:
        try:
            answer = work()
        except Exception as error:  # of any class: the other ranks must not wait for ever
            failure = error
    raise_together(group, failure)
    value: Value = gather_json(group, answer)[0]
    return value


def raise_together(group: Group, failure: Exception | None) -> None:
    """Raise an error on every rank if one has one: its own, or that of the first which has one.

    Args:
        group: every rank of it calls this.
        failure: of this rank.

    Raises:
        PinsError: another rank has it; one that is no error of PINS is told as a `DeviceError`.
    """
    if group.size > 1:
        own = None if failure is None else (type(failure).__name__, str(failure))
        told = [each for each in gather_json(group, own) if each is not None]
        if failure is None and told:
            name, message = told[0]
            raise getattr(errors, name, errors.DeviceError)(message)
    if failure is not None:
        raise failure


def from_rank_zero(group: Group, values: Tensor) -> Tensor:
    """The tensor of rank 0 on every rank; each gives one of its shape and dtype."""
    if group.size == 1:
        return values
    own = values.reshape(-1)
    return group.gathered(own if group.rank == 0 else own[:0])[0].view(values.shape)


def sum_over_ranks(value: float, group: Group) -> float:
    """Σ of a float64 over the ranks, rounded once: the same bits on every rank, in any order."""
    if group.size == 1:
        return value
    own = torch.tensor([value], dtype=torch.float64)
    return math.fsum(float(each) for each in group.gathered(own))
