"""Seconds of some work; methods that take turns."""

import gc
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.harness.results import describe

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
    rows: dict[str, dict[str, Any]] = {name: {"seconds": [], "error": None} for name in names}
    turns: dict[str, Callable[[], float]] = {}
    for number in range(rounds + 1):
        backwards = number > 0 and number % 2 == 0
        for name, row in reversed(rows.items()) if backwards else rows.items():
            if row["error"]:
                continue
            try:
                if number == 0:
                    turns[name] = start(name)
                else:
                    row["seconds"].append(turns[name]())
            except Exception as error:  # a failure is a result
                turns.pop(name, None)  # frees its memory
                row.update(seconds=None, error=describe(error))
    return rows
