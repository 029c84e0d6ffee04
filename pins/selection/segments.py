"""Which scores are ranked with each other: those of the whole model, or of each tensor.

A segment is a set of scores with its own k, in pieces. Parts of a tensor are for
`pins.selection.runs`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pins.distributed.process_group import Group


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


@dataclass(frozen=True)
class Segments:
    """The scores of this rank by segment.

    Attributes:
        sizes: number of scores by segment, of all ranks together.
        pieces: of the segments, in the order of flat indices. Every rank has the same ones, some of
            which are empty.
    """

    sizes: NDArray[np.int64]
    pieces: Sequence[Piece]

    @property
    def owners(self) -> NDArray[np.int64]:
        """The segment of each piece."""
        return np.array([piece.segment for piece in self.pieces], dtype=np.int64)


def whole_model(sizes: Mapping[Any, int], group: Group) -> Segments:
    """One segment.

    Args:
        sizes: number of scores of this rank by tensor name.
        group: the ranks.
    """
    total = group.total(torch.tensor([sum(sizes.values())]))
    return Segments(np.array(total.tolist()), [Piece(name, 0, n) for name, n in sizes.items()])


def each_tensor(sizes: Mapping[Any, int], group: Group) -> Segments:
    """A segment for each tensor, in their order; arguments as for `whole_model`."""
    totals = group.total(torch.tensor([*sizes.values()], dtype=torch.int64)).tolist()
    owner = {name: number for number, name in enumerate(sizes)}
    return segments_of(owner, sizes, dict(zip(sizes, totals, strict=True)))


def segments_of(
    owner: Mapping[Any, int], sizes: Mapping[Any, int], totals: Mapping[Any, int]
) -> Segments:
    """Segments of whole tensors.

    Args:
        owner: the number of each tensor's segment, by name; numbers from 0, none left out.
        sizes: number of scores of this rank by tensor name.
        totals: of all ranks.
    """
    found = np.zeros(max(owner.values(), default=0) + 1, dtype=np.int64)
    np.add.at(found, [owner[name] for name in sizes], [totals[name] for name in sizes])
    pieces = [Piece(name, 0, size, owner[name]) for name, size in sizes.items()]
    return Segments(found, sorted(pieces, key=lambda piece: piece.segment))
