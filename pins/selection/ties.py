"""Among scores that are equal to s₍ₖ₎ those of the lower flat index are kept."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pins.distributed.process_group import Group
from pins.selection.scan.reference import Integers, Scan
from pins.selection.segments import Piece


def shared_out(ties: Integers, slot: Integers, left: Integers, group: Group) -> Integers:
    """How many of its ties each piece of this rank keeps.

    Args:
        ties: their number in each piece; every rank has the same pieces.
        slot: the segment of each piece, ascending.
        left: how many are kept of each segment.
        group: the ranks.
    """
    of_all = torch.stack(group.gathered(torch.from_numpy(ties)), 1).numpy()  # (pieces, ranks)
    before = (of_all.cumsum() - of_all.reshape(-1)).reshape(of_all.shape)  # by flat index
    first = np.searchsorted(slot, slot)  # the first piece of each one's segment
    kept: Integers = np.clip(left[slot] - (before[:, group.rank] - before[first, 0]), 0, ties)
    return kept


def apply_threshold(
    mask: Tensor, positions: Tensor, found: NDArray[Any], key: int, allowed: int
) -> None:
    """Keep of gathered scores those above a key, and the first `allowed` that are equal to it."""
    kept = found > key
    kept[np.flatnonzero(found == key)[:allowed]] = True
    mask.view(-1)[positions] = torch.from_numpy(kept).to(mask.device)


def break_ties(
    scan: Scan,
    masks: dict[Any, Tensor],
    pieces: Sequence[Piece],
    keys: Integers,
    ties: Integers,
    allowed: Integers,
) -> None:
    """Keep the first `allowed` of each piece's scores that are equal to a key; none was gathered.

    Args:
        scan: the scores.
        masks: by name, changed; what is above the key is marked already.
        pieces: tensor by tensor.
        keys: one for each piece.
        ties: how many scores of each piece are equal to it.
        allowed: how many of these are kept.
    """
    full = np.flatnonzero((allowed == ties) & (ties > 0))
    if full.size:  # above an empty interval below the key are the key and what is above it
        empty = keys[full], keys[full] - 1
        scan.partition([pieces[i] for i in full.tolist()], *empty, np.zeros_like(full), masks)
    for i in np.flatnonzero((allowed > 0) & (allowed < ties)).tolist():
        scan.mark_equal(masks[pieces[i].name], pieces[i], int(keys[i]), int(allowed[i]))
