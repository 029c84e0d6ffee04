"""Scores on the CPU: read by numpy, in as many threads as PyTorch has.

numpy compares at the speed of the memory, and lets go of Python's lock meanwhile: floats with the
float of a key; where it has no such type, or the processor flushes denormals, their bits with the
key. A block fits a processor's own cache, so that all that is done with it reads it once from
memory.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pins.selection.scan import float_keys
from pins.selection.scan.reference import Integers, Partition, Scan, mask_of
from pins.selection.segments import Piece
from pins.utils.bit_packing import WORD, padded
from pins.utils.lazy_tensors import Scores

FLOATS = (torch.float32, torch.float64)  # 16-bit floats numpy has not, or slowly
BLOCK = 1 << 19  # scores
_FEW = 4  # blocks, for which no thread is worth starting

Bools = NDArray[np.bool_]
Found = TypeVar("Found")
Block = TypeVar("Block")


class _Block(NamedTuple):
    """Some scores of a piece, from flat index `start` on, and their part of the mask."""

    piece: int
    start: int
    scores: Tensor
    mask: Tensor | None

    @property
    def places(self) -> type[np.integer[Any]]:
        """The shorter type for flat indices, where it is long enough for this block's."""
        return np.int32 if self.start + BLOCK <= 1 << 31 else np.int64


class _Inside(NamedTuple):
    """Of a block: numbers of scores above and inside an interval, and what was gathered."""

    above: int
    inside: int
    positions: NDArray[Any]
    scores: NDArray[Any]


class _Room:
    """How many scores may still be gathered, by all threads together."""

    def __init__(self, left: int) -> None:
        self._left, self._lock = left, threading.Lock()
        self.complete = True

    def take(self, inside: int, every: int) -> bool:
        """Whether some of them are to be gathered and there is room; then it is taken."""
        if not (inside and every):
            return False
        with self._lock:
            fits = inside <= self._left * every
            self._left -= -(-inside // every) if fits else 0
            self.complete &= fits
            return fits


class _Comparison:
    """Which scores are above a key, each compared as a float or as the integer of its bits."""

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._floats = dtype in FLOATS and float_keys.denormals_compare()

    def array(self, scores: Tensor) -> NDArray[Any]:
        """Scores as they are compared."""
        wide = float_keys.widened(scores, self._dtype)
        return (wide if self._floats else wide.view(float_keys.DTYPES[self._dtype])).numpy()

    def bounds(self, *of: Integers) -> list[list[float]]:
        """Lists of keys as scores are compared with them."""
        every = np.stack(of)
        if self._floats:
            # no score has key −1: it would be that of −0.0, which is not below 0.0
            found: list[list[float]] = float_keys.array_scores(
                every - (every == -1), self._dtype
            ).tolist()
            return found
        return [[*map(int, each)] for each in every]

    def above(self, scores: NDArray[Any], bound: float, out: Bools) -> None:
        """out ← keyᵢ > key."""
        if self._floats:
            np.greater(scores, bound, out=out)
        else:
            float_keys.above(scores, int(bound), out)


class ArrayScan(Scan):
    """The scores of this process on the CPU."""

    def partition(
        self,
        pieces: Sequence[Piece],
        low: Integers,
        high: Integers,
        every: Integers,
        masks: dict[Any, Tensor] | None = None,
        room: int = 0,
    ) -> Partition:
        """As `Scan.partition`."""
        left, comparison = _Room(room), _Comparison(self.dtype)
        bounds = comparison.bounds(low - 1, high)
        # a score is inside unless it is above the interval, or not above the key below it
        starts = [piece.start for piece in pieces]
        asked = [*zip(bounds[0], bounds[1], every.tolist(), starts, strict=True)]

        def look(block: _Block, buffer: Bools) -> _Inside:
            return _inside(block, buffer, comparison, *asked[block.piece], left)

        found: list[list[_Inside]] = [[] for _ in pieces]
        for blocks in self._portions(pieces, masks):
            for block, one in zip(blocks, _each(look, blocks), strict=True):
                found[block.piece].append(one)
        counts = np.array([[sum(b[i] for b in bs) for bs in found] for i in (0, 1)], dtype=np.int64)
        positions, gathered = [], []
        for number, blocks_of_piece in enumerate(found):
            positions.append(
                torch.from_numpy(np.concatenate([b.positions for b in blocks_of_piece]))
            )
            scores = torch.from_numpy(np.concatenate([b.scores for b in blocks_of_piece]))
            gathered.append(float_keys.keys(scores.view(self.dtype)).numpy())
            found[number] = []  # let go of, piece by piece
        return Partition(counts[0], counts[1], positions, gathered, left.complete)

    def count(
        self, pieces: Sequence[Piece], against: Integers, masks: Mapping[Any, Tensor]
    ) -> Integers:
        """As `Scan.count`."""
        counts = np.zeros((len(pieces), 4), dtype=np.int64)
        comparison = _Comparison(self.dtype)
        bounds = [*zip(*comparison.bounds(against - 1, against), strict=True)]

        def compare(block: _Block, buffer: Bools) -> tuple[int, int, int, int]:
            return _counts(block, buffer, comparison, *bounds[block.piece])

        for blocks in self._portions(pieces, dict(masks)):
            for block, found in zip(blocks, _each(compare, blocks), strict=True):
                counts[block.piece] += found
        return counts

    def _portions(
        self, pieces: Sequence[Piece], masks: dict[Any, Tensor] | None
    ) -> Iterator[list[_Block]]:
        """Blocks that are read together: of all tensors that are held; of computed ones, of each.

        A piece has one block at least.
        """
        held: list[_Block] = []
        for name, scores, numbers in self._tensors(pieces):
            flat = scores.detach().reshape(-1)
            mask = None if masks is None else mask_of(masks, name, scores)
            blocks = []
            for number in numbers:
                _, begin, end, _ = pieces[number]
                for start in range(begin, max(end, begin + 1), BLOCK):
                    some = slice(start, min(start + BLOCK, end))
                    part = None if mask is None else mask[some]
                    blocks.append(_Block(number, start, flat[some], part))
            if isinstance(self._importance, Scores) or not scores.is_contiguous():
                yield blocks
            else:
                held += blocks
        yield held


def _inside(
    block: _Block,
    buffer: Bools,
    comparison: _Comparison,
    below: float,
    high: float,
    every: int,
    begin: int,
    left: _Room,
) -> _Inside:
    scores = comparison.array(block.scores)
    size = len(scores)
    within, over = buffer[0, :size], buffer[1, :size]
    if block.mask is not None:
        over = block.mask.numpy()
    comparison.above(scores, high, over)
    if below >= high:  # the interval is empty
        return _Inside(int(np.count_nonzero(over)), 0, np.empty(0, block.places), scores[:0])
    comparison.above(scores, below, within)
    within ^= over
    above, inside = int(np.count_nonzero(over)), int(np.count_nonzero(within))
    if not left.take(inside, every):
        return _Inside(above, inside, np.empty(0, block.places), scores[:0])
    buffer[0, size : padded(size)] = False
    found = _positions(buffer[0, : padded(size)])
    if every > 1:
        found = found[(found + block.start - begin) % every == 0]
    return _Inside(above, inside, (found + block.start).astype(block.places), scores[found])


def _positions(candidates: Bools) -> NDArray[Any]:
    """Where the ones are, word by word: they are few."""
    words = candidates.view(np.uint64)
    some = np.flatnonzero(words)
    found = np.flatnonzero(words[some].view(np.bool_))
    positions: NDArray[Any] = (some[found >> 3] << 3) | (found & 7)
    return positions


def _counts(
    block: _Block, buffer: Bools, comparison: _Comparison, below: float, bound: float
) -> tuple[int, int, int, int]:
    """The numbers of `Scan.count`."""
    scores, mask = comparison.array(block.scores), block.mask
    assert mask is not None
    kept, reaches, spare = mask.numpy(), buffer[0, : len(scores)], buffer[1, : len(scores)]
    comparison.above(scores, below, reaches)
    all_kept = int(np.count_nonzero(kept))
    whole = len(kept) // WORD * WORD
    same = np.array_equal(reaches[:whole].view(np.uint64), kept[:whole].view(np.uint64))
    if same and np.array_equal(reaches[whole:], kept[whole:]):
        return all_kept, 0, 0, 0
    # of two bools the first is greater where it alone is True
    below = int(np.count_nonzero(np.greater(kept, reaches, out=spare)))
    pruned = int(np.count_nonzero(np.greater(reaches, kept, out=spare)))
    comparison.above(scores, bound, spare)
    above = int(np.count_nonzero(np.greater(spare, kept, out=spare)))
    return all_kept, below, above, pruned - above


def _each(work: Callable[[_Block, Bools], Found], blocks: list[_Block]) -> list[Found]:
    """The result for each block, in their order; `work` gets bools for two blocks as well."""

    def run(some: Sequence[_Block]) -> list[Found]:
        buffer = np.empty((2, padded(BLOCK)), dtype=np.bool_)
        return [work(block, buffer) for block in some]

    return in_threads(run, blocks)


def in_threads(
    run: Callable[[Sequence[Block]], list[Found]], blocks: Sequence[Block]
) -> list[Found]:
    """`run` on consecutive parts of the blocks, in as many threads as PyTorch has; in order."""
    threads = min(torch.get_num_threads(), len(blocks))
    if threads <= 1 or len(blocks) <= _FEW:
        return run(blocks)
    # threads of this pass alone: they compare as the one that starts them, denormals too
    ends = [len(blocks) * number // threads for number in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        found = pool.map(run, (blocks[a:b] for a, b in pairwise(ends)))
        return [one for each in found for one in each]
