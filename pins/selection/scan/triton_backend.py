"""Scores on a GPU: read by Triton's kernels, one launch for all tensors of a pass.

PyTorch's operations would ask much of a GPU's host: kernels for every tensor, and a wait for each
whose scores in an interval are gathered. Here a kernel reads every score once and does all of it;
scores that are computed when they are asked for are a launch each, without a wait in between.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pins.selection.scan import float_keys
from pins.selection.scan.reference import (
    Integers,
    Partition,
    Scan,
    label,
    mask_of,
    require_finite,
    require_rankable,
)
from pins.selection.scan.triton_kernels import COUNTERS, COUNTS, RUN
from pins.selection.scan.triton_launch import Launcher, Portion
from pins.selection.segments import Piece
from pins.utils.lazy_tensors import Scores

_SEED = 0  # of the sample: another one finds the same mask


class TritonScan(Scan):
    """The scores of this process on one GPU."""

    def __init__(self, importance: Mapping[Any, Tensor], *, device: torch.device) -> None:
        """Read nothing yet.

        Args:
            importance: as for `Scan`.
            device: where to look at them; scores from elsewhere are copied there.
        """
        super().__init__(importance)
        self._device = device

    def validate_and_sample(
        self, pieces: Sequence[Piece], draws: Sequence[int]
    ) -> list[NDArray[Any]]:
        """As `Scan.validate_and_sample`."""
        tensors = [Piece(name, 0, size) for name, size in self.sizes.items()]
        low, high, none = (np.zeros(len(tensors), dtype=np.int64) for _ in range(3))
        gpu = Launcher(self._device, tensors, low, high, none)
        drawer = Launcher(self._device, pieces)
        counters = gpu.zeros(len(tensors), COUNTERS)
        drawn: dict[int, Tensor] = {}
        kinds = set()
        for portion in self._portions(tensors):
            for name, (scores, numbers) in portion.items():
                require_rankable(label(name), scores)
                kinds.add(scores.dtype)
                self._devices[name] = scores.device
                # a score is finite iff its key is one of a finite score
                low[numbers], high[numbers] = float_keys.finite(scores.dtype)
            for launch in gpu.launches(portion):
                gpu.mark(launch, launch.scores[0].dtype, counters)
            own = {
                name: (scores, [i for i, p in enumerate(pieces) if p.name == name and draws[i]])
                for name, (scores, _) in portion.items()
            }
            for launch in drawer.launches(own):
                drawn |= drawer.draw(launch, draws, _SEED)
        self._set_dtype(kinds)
        finite = counters[:, 1].tolist()
        for (name, total), number in zip(self.sizes.items(), finite, strict=True):
            if number != total:
                require_finite(label(name), self._importance[name])
        nothing = torch.empty(0, dtype=self.dtype)
        return [self._keys(drawn.get(i, nothing)).cpu().numpy() for i in range(len(pieces))]

    def partition(
        self,
        pieces: Sequence[Piece],
        low: Integers,
        high: Integers,
        every: Integers,
        masks: dict[Any, Tensor] | None = None,
        room: int = 0,
    ) -> Partition:
        """As `Scan.partition`.

        Where more would be gathered than there is room for, nothing is handed on: which of it were
        there would be a matter of chance.
        """
        gpu = Launcher(self._device, pieces, low, high, every)
        counters, used = gpu.zeros(len(pieces), COUNTERS), gpu.zeros(1)
        runs, lanes = gpu.zeros(gpu.blocks, RUN), gpu.empty(room, torch.int16)
        found = gpu.empty(room, float_keys.DTYPES[self.dtype])
        buffers = room, used, runs, lanes, found
        for portion in self._portions(pieces):
            own = None
            if masks is not None:
                for name, (scores, _) in portion.items():
                    mask_of(masks, name, scores)
                own = gpu.here({name: masks[name] for name in portion})
            for launch in gpu.launches(portion, own):
                gpu.mark(launch, self.dtype, counters, buffers, write=own is not None)
            for name, mask in (own or {}).items():
                if masks is not None and mask is not masks[name]:
                    masks[name].copy_(mask)
        above, inside, gathered = counters.cpu().T.numpy()  # the one time that this pass waits
        total = int(gathered.sum())
        complete = total <= room
        if not complete:
            total, gathered = 0, np.zeros_like(gathered)
        positions, values = gpu.empty(total, torch.int64), gpu.empty(total, found.dtype)
        if total:
            gpu.order(runs, lanes, found, positions, values)
        lengths = gathered.tolist()
        places = [
            part + piece.start if piece.start else part
            for piece, part in zip(pieces, torch.split(positions, lengths), strict=True)
        ]
        by_piece = np.split(values.cpu().numpy(), gathered.cumsum()[:-1])
        return Partition(above, inside, places, by_piece[: len(pieces)], complete)

    def count(
        self, pieces: Sequence[Piece], against: Integers, masks: Mapping[Any, Tensor]
    ) -> Integers:
        """As `Scan.count`."""
        gpu = Launcher(self._device, pieces, against, against, np.zeros_like(against))
        counters = gpu.zeros(len(pieces), COUNTS)
        for portion in self._portions(pieces):
            own = gpu.here({name: masks[name] for name in portion})
            for launch in gpu.launches(portion, own):
                gpu.count(launch, self.dtype, counters)
        return counters.cpu().numpy()

    def _portions(self, pieces: Sequence[Piece]) -> Iterator[Portion]:
        """Tensors to look at together: all that are held; of those that are computed, each one."""
        portion: dict[Any, tuple[Tensor, list[int]]] = {}
        for name, scores, numbers in self._tensors(pieces):
            flat = scores.detach() if isinstance(scores, Tensor) else scores
            portion[name] = flat, numbers
            if isinstance(self._importance, Scores):
                yield portion
                portion = {}
        if portion:
            yield portion
