"""Ranks as threads of one process: a process group without several processes."""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor

from pins.distributed.process_group import Group

T = TypeVar("T")

PATIENCE = 300.0  # seconds that a rank waits for the others, since one of them may have failed


class ThreadRank(Group):
    """One of several threads; all exchange values in the same order.

    Attributes:
        sent: the number of bytes that this rank gave to the others, in all exchanges.
        exchanges: the number of exchanges.
    """

    def __init__(self, rank: int, slots: list[Any], barrier: threading.Barrier) -> None:
        self.rank, self.size = rank, len(slots)
        self.sent = self.exchanges = 0
        self._slots, self._barrier = slots, barrier

    def total(self, counts: Tensor) -> Tensor:
        """Σ of the counts of all threads; every thread computes it."""
        return torch.stack(self._exchanged(counts)).sum(0, dtype=counts.dtype)

    def gathered(self, values: Tensor) -> list[Tensor]:
        """The values of all threads by rank."""
        return self._exchanged(values)

    def leave(self) -> None:
        """Abort every pending and later exchange."""
        self._barrier.abort()

    def _exchanged(self, values: Tensor) -> list[Tensor]:
        self.exchanges += 1
        self.sent += values.numel() * values.element_size()
        self._slots[self.rank] = values
        self._barrier.wait()
        found = list(self._slots)
        self._barrier.wait()  # no thread writes its next value before all have read this one
        return found


def together(size: int, work: Callable[[ThreadRank], T]) -> list[T]:
    """Run `work` on each of `size` ranks; its results by rank.

    If several ranks raise, the lowest rank's own error is raised.

    Raises:
        threading.BrokenBarrierError: a rank exchanges more often than another.
    """
    slots: list[Any] = [None] * size
    barrier = threading.Barrier(size, timeout=PATIENCE)
    ranks = [ThreadRank(rank, slots, barrier) for rank in range(size)]

    def run(rank: ThreadRank) -> T:
        try:
            return work(rank)
        except BaseException:
            rank.leave()
            raise

    with ThreadPoolExecutor(size) as pool:
        futures = [pool.submit(run, rank) for rank in ranks]
    errors = [error for future in futures if (error := future.exception()) is not None]
    own = [error for error in errors if not isinstance(error, threading.BrokenBarrierError)]
    if errors:
        raise (own or errors)[0]
    return [future.result() for future in futures]


def shards(tensors: Mapping[str, Tensor], cuts: Sequence[float]) -> list[dict[str, Tensor]]:
    """Each tensor's flat values, cut at these shares, for `len(cuts) + 1` ranks."""
    parts: list[dict[str, Tensor]] = [{} for _ in range(len(cuts) + 1)]
    for name, tensor in tensors.items():
        flat = tensor.reshape(-1)
        ends = [0, *(int(share * flat.numel()) for share in sorted(cuts)), flat.numel()]
        for part, start, end in zip(parts, ends, ends[1:], strict=False):
            part[name] = flat[start:end]
    return parts
