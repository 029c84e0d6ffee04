"""Process groups: the ranks of a joint decision; each holds its part of the scores.

A decision sends sums of counts and a few values, never the scores of a whole model.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pins.errors import DeviceError


class Group(ABC):
    """Ranks 0 … size−1. Every rank calls the same methods in the same order.

    Attributes:
        rank: of this process.
        size: number of ranks.
    """

    rank: int
    size: int

    @abstractmethod
    def total(self, counts: Tensor) -> Tensor:
        """Σ over the ranks of integer counts of one shape, the same on every rank."""

    @abstractmethod
    def gathered(self, values: Tensor) -> list[Tensor]:
        """The 1-D values of every rank, in the order of the ranks; of one dtype, of any lengths."""

    def whole(self, own: Tensor) -> Tensor:
        """A tensor of which each rank has a part, contiguous and in their order; 1-D if several."""
        return own if self.size == 1 else torch.cat(self.gathered(own.reshape(-1)))

    def part(self, whole: Tensor, size: int) -> Tensor:
        """This rank's part of a whole 1-D tensor; each rank says the size of its own."""
        if self.size == 1:
            return whole
        sizes = torch.cat(self.gathered(torch.tensor([size]))).tolist()
        return torch.split(whole, sizes)[self.rank]


class SingleProcess(Group):
    """The group of one process: nothing is sent."""

    rank, size = 0, 1

    def total(self, counts: Tensor) -> Tensor:
        """Return the counts."""
        return counts

    def gathered(self, values: Tensor) -> list[Tensor]:
        """Return the values alone."""
        return [values]


class ProcessGroup(Group):
    """The processes of `torch.distributed`: gloo between CPUs, NCCL between GPUs."""

    def __init__(self, group: Any = None) -> None:
        """Join.

        Args:
            group: of `torch.distributed`; default: all processes.

        Raises:
            DeviceError: `torch.distributed` is not initialised.
        """
        if not dist.is_available() or not dist.is_initialized():
            raise DeviceError(
                "ProcessGroup() found no group of processes: call "
                "torch.distributed.init_process_group() first, or start with torchrun"
            )
        self._group = group
        nccl = dist.get_backend(group) == "nccl"
        self._device = torch.device("cuda", torch.cuda.current_device()) if nccl else "cpu"
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)

    def total(self, counts: Tensor) -> Tensor:
        """One all-reduce."""
        sums = counts.to(self._device, copy=True)
        dist.all_reduce(sums, group=self._group)
        return sums.to(counts.device)

    def gathered(self, values: Tensor) -> list[Tensor]:
        """One all-gather of the lengths, one of the bytes, padded to the longest."""
        # as bytes, because no backend sends every dtype
        own = values.to(self._device).contiguous().view(torch.uint8)
        length = torch.tensor([len(own)], device=self._device)
        found = length.new_empty(self.size)
        dist.all_gather(list(found.view(-1, 1).unbind()), length, group=self._group)
        lengths = found.tolist()
        if not max(lengths):
            return [values for _ in lengths]
        padded = nn.functional.pad(own, (0, max(lengths) - len(own)))
        parts = padded.new_empty(self.size, len(padded))
        dist.all_gather(list(parts.unbind()), padded, group=self._group)
        rows = parts.to(values.device)
        # copies, because a row may begin at an address that is not aligned for the dtype
        return [
            row[:each].clone().view(values.dtype) for row, each in zip(rows, lengths, strict=True)
        ]


SINGLE_PROCESS = SingleProcess()


def world() -> Group:
    """All processes of `torch.distributed` if there are several, else `SINGLE_PROCESS`."""
    several = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    return ProcessGroup() if several else SINGLE_PROCESS
