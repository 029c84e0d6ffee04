"""A kernel sent to a GPU for many tensors at once, without waiting for what was sent before."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from pins.selection.scan.triton_kernels import TYPES

BLOCK = 4096  # scores of a program; < 2¹⁵, for a place in it in 16 bits, two counts in 32


@dataclass(frozen=True)
class Launch:
    """Tensors of one type that a kernel looks at together.

    Attributes:
        scores: contiguous; a kernel knows their addresses alone, so they are held until it is sent.
        table: (tensors, COLUMNS) int64, see `pins.selection.scan.triton_kernels`.
        rows: of each block, its tensor's row in the table.
    """

    scores: Sequence[Tensor]
    table: Tensor
    rows: Tensor

    def types(self, common: torch.dtype) -> dict[str, Any]:
        """The constants of a kernel."""
        return {"SOURCE": TYPES[self.scores[0].dtype], "COMMON": TYPES[common], "BLOCK": BLOCK}


class Launcher:
    """One GPU, and the blocks of the tensors of a pass, numbered tensor by tensor.

    Attributes:
        device: the GPU.
        blocks: how many there are.
    """

    def __init__(self, device: torch.device, sizes: Mapping[Any, int]) -> None:
        """Number the blocks.

        Args:
            device: the GPU.
            sizes: of the tensors, by name.
        """
        self.device = device
        firsts = [0, *accumulate(programs(size) for size in sizes.values())]
        self.blocks = firsts[-1]
        self._places = {name: (firsts[i], i) for i, name in enumerate(sizes)}

    def launches(
        self, portion: Mapping[Any, Tensor], masks: Mapping[Any, Tensor] | None = None
    ) -> Iterator[Launch]:
        """One of each type.

        Args:
            portion: scores by name.
            masks: of these, on the device and contiguous; None for kernels that use none.
        """
        kinds: dict[torch.dtype, list[Any]] = {}
        for name, scores in portion.items():
            if scores.numel():
                kinds.setdefault(scores.dtype, []).append(name)
        for names in kinds.values():
            held = list(self.here({name: portion[name] for name in names}).values())
            blocks = [programs(scores.numel()) for scores in held]
            table = [
                (
                    scores.data_ptr(),
                    masks[name].data_ptr() if masks is not None else 0,
                    scores.numel(),
                    first,
                    *self._places[name],
                )
                for name, scores, first in zip(
                    names, held, [0, *accumulate(blocks[:-1])], strict=True
                )
            ]
            yield Launch(held, self.sent(table), self.spread(blocks))

    def run(self, kernel: Any, launch: Launch, *arguments: Any, **constants: Any) -> None:
        """A program for each block of a launch."""
        self.launch(kernel, len(launch.rows), launch.table, launch.rows, *arguments, **constants)

    def launch(self, kernel: Any, grid: int, *arguments: Any, **constants: Any) -> None:
        """So many programs."""
        device = self.device if self.device.type == "cuda" else -1  # −1: none
        with torch.cuda.device(device):  # Triton's is the current one
            kernel[grid,](*arguments, **constants, num_warps=8)

    def here(self, tensors: Mapping[Any, Tensor]) -> dict[Any, Tensor]:
        """As a kernel reads them: themselves, where they are on the device and contiguous."""
        return {name: tensor.to(self.device).contiguous() for name, tensor in tensors.items()}

    def spread(self, lengths: Sequence[int]) -> Tensor:
        """0 so many times as the first length says, then 1, …"""
        numbers = torch.arange(len(lengths), device=self.device)
        return numbers.repeat_interleave(self.sent(lengths), output_size=sum(lengths))

    def sent(self, numbers: Sequence[Any]) -> Tensor:
        """Integers on the device, without waiting for it: from memory that it reads by itself."""
        integers = torch.tensor(numbers, dtype=torch.int64)
        if self.device.type == "cuda":
            integers = integers.pin_memory()
        return integers.to(self.device, non_blocking=True)

    def zeros(self, *shape: int) -> Tensor:
        """int64 zeros."""
        return torch.zeros(shape, dtype=torch.int64, device=self.device)

    def empty(self, size: int, dtype: torch.dtype) -> Tensor:
        """Room for so many."""
        return torch.empty(size, dtype=dtype, device=self.device)


def programs(size: int) -> int:
    """Blocks of so many numbers."""
    return -(-size // BLOCK)
