"""Seconds of some work; methods that take turns."""

import gc
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from benchmarks.harness.results import describe

T = TypeVar("T")


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished all work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(work: Callable[[], Any], device: torch.device | None = None) -> float:
    """Seconds until the work is done, on the device too; its result is freed outside the time."""
    gc.collect()
    device = device or torch.device("cpu")
    synchronize(device)
    start = time.perf_counter()
    result = work()
    synchronize(device)
    taken = time.perf_counter() - start
    del result
    return taken


def in_turns(
    names: Sequence[str], rounds: int, first: Callable[[str], T], turn: Callable[[str, T], float]
) -> dict[str, tuple[T, list[float]] | str]:
    """Time several methods round by round.

    Every second round is in reverse order, so a machine that slows down slows all methods alike.

    Args:
        names: of the methods.
        rounds: number of timed turns of each method.
        first: the untimed first turn of a method; returns its state.
        turn: method, state ↦ seconds.

    Returns:
        By method its state and the seconds of each round; the text of the error if it failed.
    """
    found: dict[str, tuple[T, list[float]] | str] = {}
    for name in names:
        try:
            found[name] = (first(name), [])
        except Exception as error:  # a failure is a result; the other methods are still measured
            found[name] = describe(error)
    for number in range(rounds):
        for name in list(names)[:: 1 if number % 2 == 0 else -1]:
            now = found[name]
            if isinstance(now, str):
                continue
            try:
                now[1].append(turn(name, now[0]))
            except Exception as error:
                found[name] = describe(error)
    return found
