"""Which scores are ranked with each other: the whole model, each tensor, or each run of L weights.

A segment is a set of scores with its own k. Segments that are large, or that several ranks share,
are searched one by one in pieces; all others are rows of equal length that lie on one rank, for
which there is no object each. Groups of four of an (m, n) matrix are runs of 4, its rows runs of n.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pins.distributed.process_group import Group

LONGEST_ROW = 1 << 16  # scores that are sorted at once; longer runs are searched


class Piece(NamedTuple):
    """The scores [start, stop) of a tensor, by flat index: this rank's part of one segment."""

    name: Any
    start: int
    stop: int
    segment: int = 0

    @property
    def size(self) -> int:
        """Number of scores."""
        return self.stop - self.start


class Rows(NamedTuple):
    """The scores [start, stop) of a tensor: segments of `length`, numbered from `first`.

    The last one is shorter where the tensor ends.
    """

    name: Any
    start: int
    stop: int
    first: int
    length: int


@dataclass(frozen=True)
class Segments:
    """The scores of this rank by segment.

    Attributes:
        sizes: number of scores by segment, of all ranks together.
        pieces: of the segments that are searched, in the order of flat indices. Every rank has the
            same ones, some of which are empty.
        rows: all other segments of this rank.
    """

    sizes: NDArray[np.int64]
    pieces: Sequence[Piece]
    rows: Sequence[Rows] = ()

    @functools.cached_property
    def searched(self) -> NDArray[np.int64]:
        """The segments of the pieces, ascending."""
        return np.unique(np.array([piece.segment for piece in self.pieces], dtype=np.int64))


def whole_model(sizes: Mapping[Any, int], group: Group) -> Segments:
    """One segment.

    Args:
        sizes: number of scores of this rank by tensor name.
        group: the ranks.
    """
    return segments_of(dict.fromkeys(sizes, 0), sizes, group)


def each_tensor(sizes: Mapping[Any, int], group: Group) -> Segments:
    """A segment for each tensor, in their order; arguments as for `whole_model`."""
    return segments_of({name: number for number, name in enumerate(sizes)}, sizes, group)


def segments_of(owner: Mapping[Any, int], sizes: Mapping[Any, int], group: Group) -> Segments:
    """Segments of whole tensors.

    Args:
        owner: the number of each tensor's segment, by name; numbers from 0, none left out.
        sizes: as for `whole_model`.
        group: as for `whole_model`.
    """
    totals = np.zeros(max(owner.values(), default=0) + 1, dtype=np.int64)
    own = torch.tensor([*sizes.values()], dtype=torch.int64)
    np.add.at(totals, [owner[name] for name in sizes], group.total(own).tolist())
    pieces = [Piece(name, 0, size, owner[name]) for name, size in sizes.items()]
    return Segments(totals, sorted(pieces, key=lambda piece: piece.segment))


def runs(length: int, sizes: Mapping[Any, int], group: Group) -> Segments:
    """A segment for every `length` consecutive weights of a tensor; its last one may be shorter."""
    own = torch.tensor([*sizes.values()], dtype=torch.int64)
    ends = torch.stack(group.gathered(own)).cumsum(0).numpy()  # (ranks, tensors)
    numbers = -(-ends[-1] // length)
    firsts = numbers.cumsum() - numbers
    of_segments = np.full(numbers.sum(), length, dtype=np.int64)
    last = numbers > 0
    of_segments[(firsts + numbers - 1)[last]] = (ends[-1] - (numbers - 1) * length)[last]
    pieces: list[Piece] = []
    rows: list[Rows] = []
    for tensor, (name, size) in enumerate(sizes.items()):
        cuts, total, first = ends[:-1, tensor], int(ends[-1, tensor]), int(firsts[tensor])
        end = int(ends[group.rank, tensor])
        start = end - size
        searched, whole = np.arange(numbers[tensor]), (0, 0)
        if length <= LONGEST_ROW:  # all but those that another rank has a part of
            searched = np.unique(cuts[(cuts % length > 0) & (cuts < total)] // length)
            whole = min(-start % length, size), size if end == total else size - end % length
        if whole[0] < whole[1] or not searched.size:  # an empty tensor has no rows
            rows.append(Rows(name, *whole, first + (start + whole[0]) // length, length))
        for number in searched.tolist():
            a, b = (min(max(i * length - start, 0), size) for i in (number, number + 1))
            pieces.append(Piece(name, a, b, first + number))
    return Segments(of_segments, pieces, rows)
