"""What the ranks of a group do together, so that all of them go on with the same."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from pins import errors
from pins.distributed.process_group import Group

Value = TypeVar("Value")


def on_rank_zero(group: Group, work: Callable[[], Value]) -> Value:
    """What `work()` returns on rank 0, on every rank: nothing is done by the others but to wait.

    Args:
        group: every rank of it calls this.
        work: returns JSON values; floats come as they are.

    Raises:
        PinsError: `work` raised it: on every rank, the same.
    """
    if group.size == 1:
        return work()
    failure: Exception | None = None
    answer: dict[str, Any] = {}
    if group.rank == 0:
        try:
            answer = {"value": work()}
        except Exception as error:  # whatever it is, the others must not wait for ever
            failure, answer = error, {"error": type(error).__name__, "message": str(error)}
    told = json.dumps(answer).encode() if group.rank == 0 else b""
    sent = torch.frombuffer(bytearray(told), dtype=torch.uint8) if told else torch.empty(0).byte()
    heard = json.loads(bytes(group.gathered(sent)[0].tolist()))
    if failure is not None:
        raise failure
    if "error" in heard:
        kind = getattr(errors, heard["error"], errors.DeviceError)
        raise kind(heard["message"])
    value: Value = heard["value"]
    return value


def summed(group: Group, value: float, device: torch.device) -> float:
    """Σ of a number over the ranks, in float64: the same bits on every rank."""
    if group.size == 1:
        return value
    return float(group.total(torch.tensor(value, dtype=torch.float64, device=device)))
