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
