"""Seconds of some work; methods that take turns."""

import gc
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.harness.results import attempt

CPU = torch.device("cpu")


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished all work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(work: Callable[[], Any], device: torch.device = CPU) -> float:
    """Seconds until the device has finished the work; freeing its result does not count."""
    gc.collect()
    synchronize(device)
    start = time.perf_counter()
    result = work()
    synchronize(device)
    taken = time.perf_counter() - start
    del result
    return taken


def in_turns(
    names: Sequence[str], rounds: int, start: Callable[[str], Callable[[], float]]
) -> dict[str, dict[str, Any]]:
    """Time several methods round by round.

    Every second round is in reverse order, so a machine that slows down slows all methods alike.

    Args:
        names: of the methods.
        rounds: number of timed turns of each method.
        start: takes the untimed first turn of a method; returns a function that takes a turn and
            returns its seconds.

    Returns:
        By method `seconds` of each round and `error`, one of which is None: if a method fails, the
        others are still measured.
    """
    turns = {name: attempt(start, name) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for name in list(names)[:: -1 if number % 2 else 1]:
            turn = turns[name]
            if isinstance(turn, str):
                continue
            taken = attempt(turn)
            if isinstance(taken, str):
                turns[name] = taken
            else:
                seconds[name].append(taken)
    failed = {name: turn for name, turn in turns.items() if isinstance(turn, str)}
    return {
        name: {"seconds": None if name in failed else seconds[name], "error": failed.get(name)}
        for name in names
    }
