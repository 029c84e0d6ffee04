"""Segments that are rows of one length: gathered whole, some rows at a time, and sorted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pins.selection.scan.float_keys import finite
from pins.selection.scan.reference import Integers, Scan
from pins.selection.segments import Piece, Rows


@dataclass(frozen=True)
class Batch:
    """Some rows of a tensor.

    Attributes:
        piece: their scores.
        segments: the number of each row.
        keys: (rows, length); below every score where the last row is shorter.
    """

    piece: Piece
    segments: Integers
    keys: NDArray[Any]

    def largest(self, keeps: Integers) -> tuple[Tensor, Integers, Integers]:
        """The k largest scores of each row, ties to the lower index.

        Args:
            keeps: k by segment.

        Returns:
            The mask of the piece; the keys of s₍ₖ₎ and s₍ₖ₊₁₎ by row.
        """
        keep, length = keeps[self.segments, None], self.keys.shape[1]
        ranked = np.sort(self.keys, axis=1)
        kth = np.take_along_axis(ranked, length - np.maximum(keep, 1), 1)
        after = np.take_along_axis(ranked, np.maximum(length - 1 - keep, 0), 1)
        mask, equal = self.keys > kth, self.keys == kth
        left = keep - mask.sum(1, keepdims=True)
        mask |= equal & (equal.cumsum(1) <= left)
        return torch.from_numpy(mask.reshape(-1)[: self.piece.size]), kth[:, 0], after[:, 0]

    def count(self, mask: Tensor, against: Integers) -> Integers:
        """As `Scan.count`, row by row.

        Args:
            mask: of the tensor.
            against: keys by segment.
        """
        kept = np.zeros(self.keys.shape, dtype=np.bool_)
        part = mask.reshape(-1)[self.piece.start : self.piece.stop]
        kept.reshape(-1)[: self.piece.size] = part.cpu().numpy()
        key = against[self.segments, None]
        pruned = ~kept
        pruned.reshape(-1)[self.piece.size :] = False
        below, above, equal = kept & (self.keys < key), pruned & (self.keys > key), self.keys == key
        return np.stack([part.sum(1) for part in (kept, below, above, pruned & equal)], 1)


def batches(
    scan: Scan, rows: Sequence[Rows], room: int, masks: dict[Any, Tensor] | None = None
) -> Iterator[Batch]:
    """All rows, as many at a time as there is room for.

    Args:
        scan: the scores.
        rows: of its tensors.
        room: in scores.
        masks: by name; those of the rows are made, and cleared.
    """
    least, most = finite(scan.dtype)
    for name, begin, end, first, length in rows:
        step = max(room // length, 1) * length
        for start in range(begin, max(end, begin + 1), step):
            piece = Piece(name, start, min(start + step, end))
            low, high, every = np.array([[least], [most], [1]])
            (found,) = scan.partition([piece], low, high, every, masks, piece.size).keys
            keys = np.full((-(-piece.size // length), length), least - 1, dtype=found.dtype)
            keys.reshape(-1)[: piece.size] = found
            segments = first + (start - begin) // length + np.arange(len(keys))
            yield Batch(piece, segments, keys)
