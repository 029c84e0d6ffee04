"""Collectives that give every rank the same result: one rank's answer, a sum of floats."""

import json
import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch

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
    answer: dict[str, Any] = {}
    if group.rank == 0:
        try:
            answer = {"value": work()}
        except Exception as error:  # of any class: the other ranks must not wait for ever
            failure, answer = error, {"error": type(error).__name__, "message": str(error)}
    answer = gather_json(group, answer)[0]
    if failure is not None:
        raise failure
    if "error" in answer:
        raise getattr(errors, answer["error"], errors.DeviceError)(answer["message"])
    value: Value = answer["value"]
    return value


def sum_over_ranks(value: float, group: Group) -> float:
    """Σ of a float64 over the ranks, rounded once: the same bits on every rank, in any order."""
    if group.size == 1:
        return value
    own = torch.tensor([value], dtype=torch.float64)
    return math.fsum(float(each) for each in group.gathered(own))
