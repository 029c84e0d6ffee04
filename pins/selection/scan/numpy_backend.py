"""Passes over scores on the CPU by numpy, in as many threads as PyTorch has.

numpy compares floats with a bound at about twice the speed of PyTorch, and lets go of Python's lock
meanwhile. A block fits a processor's own cache, so that all that is done with it reads it once from
memory. The bits are those of a `Scan`, which is asked where numpy has no such floats.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pins.selection.scan.reference import Compared, Marked, Scan, empty_mask, shaped
from pins.utils import bit_packing
from pins.utils.lazy_tensors import Scores

ARRAYS = (torch.float32, torch.float64)  # 16-bit floats numpy has not, or slowly
BLOCK = 1 << 19  # scores
_FEW = 4  # blocks, for which no thread is worth starting

Found = TypeVar("Found")


@dataclass(frozen=True)
class _Block:
    """Some scores of a tensor and the bools of its mask, in whole words but at its end."""

    name: Any
    start: int
    scores: Tensor
    mask: Tensor

    @property
    def index(self) -> type[np.integer[Any]]:
        """The shorter type for flat indices, where it is long enough for this block's."""
        return np.int32 if self.start + BLOCK <= 1 << 31 else np.int64

    def array(self, dtype: torch.dtype) -> NDArray[Any]:
        return self.scores.to(dtype).numpy()


@dataclass(frozen=True)
class _Inside:
    """Of a block: numbers of scores above and inside an interval, and what was gathered."""

    above: int
    inside: int
    positions: NDArray[Any]
    values: NDArray[Any]


class _Room:
    """How many scores may still be gathered, by all threads together."""

    def __init__(self, left: int, every: int) -> None:
        self._left, self._every = left, every
        self._lock = threading.Lock()
        self.complete = every == 1 and left > 0

    def take(self, inside: int) -> bool:
        """Whether there is room for every so-many-th of them; then it is taken."""
        with self._lock:
            fits = 0 < inside <= self._left * self._every
            if fits:
                self._left -= -(-inside // self._every)
            elif inside:
                self.complete = False
            return fits


class ArrayScan(Scan):
    """The scores of this process on the CPU."""

    def mark(self, low: float | None, high: float, *, every: int = 1, room: int = 0) -> Marked:
        """As `Scan.mark`."""
        if not self._arrays:
            return super().mark(low, high, every=every, room=room)
        masks: dict[Any, Tensor] = {}
        found: dict[Any, list[_Inside]] = {name: [] for name in self.sizes}
        left = _Room(room, every)

        def look(block: _Block, buffer: NDArray[Any]) -> _Inside:
            return self._inside(block, buffer, low, high, every, left)

        for portion in self._portions():
            own = {name: empty_mask(flat) for name, (flat, _) in portion.items()}
            blocks = [b for name, (flat, _) in portion.items() for b in _cut(name, flat, own[name])]
            for block, one in zip(blocks, _each(look, blocks), strict=True):
                found[block.name].append(one)
            masks |= {name: shaped(own[name], shape) for name, (_, shape) in portion.items()}
        above, inside, positions, values = [], [], [], []
        for name in self.sizes:
            parts = found.pop(name)  # let go of, tensor by tensor
            above.append(sum(part.above for part in parts))
            inside.append(sum(part.inside for part in parts))
            positions.append(_together([part.positions for part in parts]))
            values.append(_together([part.values for part in parts]))
        return Marked(
            {name: masks[name] for name in self.sizes},
            torch.tensor(above),
            torch.tensor(inside),
            positions,
            values,
            left.complete,
        )

    def compared(self, masks: Mapping[Any, Tensor], value: float) -> Compared:
        """As `Scan.compared`."""
        if not self._arrays:
            return super().compared(masks, value)
        counts = np.zeros(4, dtype=np.int64)

        def compare(block: _Block, buffer: NDArray[Any]) -> Compared:
            return _compared(block.array(self.dtype), block.mask.numpy(), value, buffer)

        for portion in self._portions():
            blocks = [
                block
                for name, (flat, _) in portion.items()
                for block in _cut(name, flat, masks[name].reshape(-1))
            ]
            counts += np.array(_each(compare, blocks), dtype=np.int64).reshape(-1, 4).sum(0)
        return Compared(*counts.tolist())

    @property
    def _arrays(self) -> bool:
        """Whether numpy can read them."""
        return self.dtype in ARRAYS and not self._as_keys and self.devices <= {"cpu"}

    def _portions(self) -> Iterator[dict[Any, tuple[Tensor, torch.Size]]]:
        """Flat scores and shapes that are read together: all that are held, computed ones alone."""
        held: dict[Any, tuple[Tensor, torch.Size]] = {}
        computed = isinstance(self._importance, Scores)
        for name, scores in self._tensors():
            flat = scores.detach().reshape(-1)
            if computed or not scores.is_contiguous():
                yield {name: (flat, scores.shape)}
            else:
                held[name] = (flat, scores.shape)
        if held:
            yield held

    def _inside(
        self,
        block: _Block,
        buffer: NDArray[Any],
        low: float | None,
        high: float,
        every: int,
        left: _Room,
    ) -> _Inside:
        scores, mask = block.array(self.dtype), block.mask.numpy()
        size = len(scores)
        np.greater(scores, high, out=mask[:size])
        candidates = buffer[: len(mask)]
        candidates[size:] = False
        if low is None:
            np.less_equal(scores, high, out=candidates[:size])
        else:
            np.greater_equal(scores, low, out=candidates[:size])
            candidates.view(np.uint64)[:] ^= mask.view(np.uint64)
        above, inside = int(np.count_nonzero(mask)), int(np.count_nonzero(candidates))
        if not left.take(inside):
            return _Inside(above, inside, np.empty(0, block.index), scores[:0])
        found = _positions(candidates)
        if every > 1:
            found = found[(found + block.start) % every == 0]
        return _Inside(above, inside, (found + block.start).astype(block.index), scores[found])


def _positions(candidates: NDArray[Any]) -> NDArray[Any]:
    """Where the ones are, word by word: they are few."""
    words = candidates.view(np.uint64)
    some = np.flatnonzero(words)
    found = np.flatnonzero(words[some].view(np.bool_))
    positions: NDArray[Any] = (some[found >> 3] << 3) | (found & 7)
    return positions


def _compared(
    scores: NDArray[Any], kept: NDArray[Any], value: float, buffer: NDArray[Any]
) -> Compared:
    reaches = np.greater_equal(scores, value, out=buffer[: len(scores)])
    all_kept = int(np.count_nonzero(kept))
    whole = len(kept) // bit_packing.WORD * bit_packing.WORD
    same = np.array_equal(reaches[:whole].view(np.uint64), kept[:whole].view(np.uint64))
    if same and np.array_equal(reaches[whole:], kept[whole:]):
        return Compared(all_kept, 0, 0, 0)
    above = int(np.count_nonzero((scores > value) & ~kept))
    equal = int(np.count_nonzero(reaches & ~kept)) - above
    return Compared(all_kept, int(np.count_nonzero(kept & ~reaches)), above, equal)


def _cut(name: Any, flat: Tensor, mask: Tensor) -> list[_Block]:
    return [
        _Block(name, start, flat[start : start + BLOCK], mask[start : start + BLOCK])
        for start in range(0, max(flat.numel(), 1), BLOCK)  # one of an empty tensor, too
    ]


def _each(work: Callable[[_Block, NDArray[Any]], Found], blocks: list[_Block]) -> list[Found]:
    """What comes of each block, in their order; `work` gets bools for one block besides."""

    def run(some: list[_Block]) -> list[Found]:
        buffer = np.empty(bit_packing.padded(BLOCK), dtype=np.bool_)
        return [work(block, buffer) for block in some]

    threads = min(torch.get_num_threads(), len(blocks))
    if threads <= 1 or len(blocks) <= _FEW:
        return run(blocks)
    # threads of this pass alone: they compare as the one that starts them, denormals too
    ends = [len(blocks) * number // threads for number in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        runs = pool.map(run, (blocks[a:b] for a, b in pairwise(ends)))
        return [found for each in runs for found in each]


def _together(parts: list[NDArray[Any]]) -> Tensor:
    return torch.from_numpy(np.concatenate(parts))
