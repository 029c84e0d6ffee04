"""A kernel sent to a GPU for many tensors at once, without waiting for what was sent before."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pins.selection.scan import triton_kernels
from pins.selection.scan.triton_kernels import TYPES
from pins.selection.segments import Piece

BLOCK = 4096  # scores of a program; < 2¹⁵, for a place in it in 16 bits, two counts in 32

Portion = Mapping[Any, tuple[Tensor, Sequence[int]]]
"""By name: a tensor, and the numbers of its pieces."""


@dataclass(frozen=True)
class Launch:
    """Pieces of tensors of one type that a kernel looks at together.

    Attributes:
        scores: contiguous; a kernel knows their addresses alone, so they are held until it is sent.
        pieces: numbers of the pieces.
        table: (pieces, COLUMNS) int64, see `pins.selection.scan.triton_kernels`.
        rows: of each block, its piece's row in the table.
    """

    scores: Sequence[Tensor]
    pieces: Sequence[int]
    table: Tensor
    rows: Tensor

    def types(self, common: torch.dtype) -> dict[str, Any]:
        """The constants of a kernel."""
        return {"SOURCE": TYPES[self.scores[0].dtype], "COMMON": TYPES[common], "BLOCK": BLOCK}


class Launcher:
    """One GPU, and the blocks of the pieces of a pass, numbered piece by piece.

    Attributes:
        device: the GPU.
        blocks: how many there are.
    """

    def __init__(
        self, device: torch.device, pieces: Sequence[Piece], *asked: NDArray[np.int64]
    ) -> None:
        """Number the blocks.

        Args:
            device: the GPU.
            pieces: of the tensors.
            asked: the last columns of the table by piece: low, high, every; 0 where left out.
        """
        self.device = device
        self._pieces, self._asked = pieces, asked
        self._firsts = [0, *accumulate(programs(piece.size) for piece in pieces)]
        self.blocks = self._firsts[-1]

    def launches(
        self, portion: Portion, masks: Mapping[Any, Tensor] | None = None
    ) -> Iterator[Launch]:
        """One of each type.

        Args:
            portion: scores and pieces to look at.
            masks: by name, on the device and contiguous; None for kernels that use none.
        """
        kinds: dict[torch.dtype, list[Any]] = {}
        for name, (scores, _) in portion.items():
            kinds.setdefault(scores.dtype, []).append(name)
        for names in kinds.values():
            held = self.here({name: portion[name][0] for name in names})
            pieces = [i for name in names for i in portion[name][1] if self._pieces[i].size]
            blocks = [programs(self._pieces[i].size) for i in pieces]
            if not pieces:
                continue
            table = [
                self._row(i, first, held, masks)
                for i, first in zip(pieces, [0, *accumulate(blocks[:-1])], strict=True)
            ]
            yield Launch([*held.values()], pieces, self.sent(table), self.spread(blocks))

    def _row(
        self, i: int, first: int, held: Mapping[Any, Tensor], masks: Mapping[Any, Tensor] | None
    ) -> list[int]:
        piece = self._pieces[i]
        scores = held[piece.name]
        asked = [int(of[i]) for of in self._asked]
        return [
            scores.data_ptr() + piece.start * scores.element_size(),
            masks[piece.name].data_ptr() + piece.start if masks is not None else 0,
            *(piece.size, first, self._firsts[i], i),
            *(asked or (0, 0, 0)),
        ]

    def mark(
        self,
        launch: Launch,
        common: torch.dtype,
        counters: Tensor,
        buffers: tuple[int, Tensor, Tensor, Tensor, Tensor] | None = None,
        *,
        write: bool = False,
    ) -> None:
        """Counts of each piece; masks where they are to be written; gathered scores in buffers.

        Args:
            launch: the pieces.
            common: the type in which scores are compared.
            counters: (pieces, COUNTERS), changed.
            buffers: room, and the kernel's `used`, `runs`, `lanes_inside`, `keys_inside`.
            write: whether to write masks.
        """
        if buffers is None:
            nothing = self.empty(0, torch.int32)
            runs = self.empty(self.blocks * triton_kernels.RUN, torch.int64)
            buffers = 0, counters, runs, nothing, nothing
        room, *rest = buffers
        types = launch.types(common)
        self._run(triton_kernels.mark, launch, room, counters, *rest, **types, WRITE=write)

    def order(
        self, runs: Tensor, lanes: Tensor, found: Tensor, positions: Tensor, values: Tensor
    ) -> None:
        """Write what `mark` has gathered to positions and values, block after block."""
        targets = runs[:, 1].cumsum(0) - runs[:, 1]
        arguments = runs, targets, lanes, found, positions, values
        self._launch(triton_kernels.order, self.blocks, *arguments, BLOCK=BLOCK)

    def count(self, launch: Launch, common: torch.dtype, counters: Tensor) -> None:
        """Add to counters, (pieces, COUNTS), what masks keep and prune against `high`."""
        self._run(triton_kernels.count, launch, counters, **launch.types(common))

    def draw(self, launch: Launch, draws: Sequence[int], seed: int) -> dict[int, Tensor]:
        """Scores at random places, by number of the piece.

        Args:
            launch: the pieces.
            draws: how many of each piece of the pass.
            seed: of the places.
        """
        numbers = [draws[i] for i in launch.pieces]
        rows, size = self.spread(numbers), sum(numbers)
        generator = torch.Generator(self.device).manual_seed(seed)
        places = torch.randint(1 << 62, (size,), generator=generator, device=self.device)
        drawn = self.empty(size, launch.scores[0].dtype)
        self._launch(
            triton_kernels.draw,
            programs(size),
            *(launch.table, rows, places % launch.table[rows, 2], size, drawn),
            SOURCE=TYPES[drawn.dtype],
            BLOCK=BLOCK,
        )
        return dict(zip(launch.pieces, torch.split(drawn, numbers), strict=True))

    def _run(self, kernel: Any, launch: Launch, *arguments: Any, **constants: Any) -> None:
        """A program for each block of a launch."""
        self._launch(kernel, len(launch.rows), launch.table, launch.rows, *arguments, **constants)

    def _launch(self, kernel: Any, grid: int, *arguments: Any, **constants: Any) -> None:
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
