"""s₍ₖ₎, the k-th largest score of a whole model, and the mask that follows: exact, at memory speed.

An interval of scores that holds s₍ₖ₎ is made smaller until what is inside can be gathered and the
k-th be found among it. A random sample says where to cut, counts of all scores say what is true:

1. Sample. Its order statistics k·m/n ± 3σ make an interval in which s₍ₖ₎ lies but for one time in
   four hundred, and which holds a few times 1/√m of all scores.
2. One pass marks and counts the scores above it and gathers those inside it.
3. The counts say whether s₍ₖ₎ is inside, above or below. When it is inside, and all of them were
   gathered, it is the one of that rank among them, and their marks are set.

Else the next interval lies in what is left. **It ends**: intervals are of integer keys
(`pins.selection.scan.float_keys`), none is empty, and each pass leaves a smaller one, if only in
number of keys: after `SAMPLED` passes it is halved, so float32 takes no more than `SAMPLED` + 33
passes, and one more for s₍ₖ₊₁₎, whatever the scores are. An interval of one key needs nothing
gathered, however many scores are equal to it; so every other pass tries a single one, which ends at
once for the value that half of all scores have.

Among the ranks of a group only counts, samples and gathered values are sent; every rank computes
with the same numbers and so comes to the same threshold. Ties go to the lower flat index: tensor by
tensor, in a tensor rank by rank.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pins.distributed.process_group import Group
from pins.errors import ImportanceError
from pins.selection.scan import float_keys
from pins.selection.scan.reference import Marked, Scan, beside

SAMPLE, LEAST_SAMPLE = 1 << 17, 1 << 10  # scores; of fewer than eight million a 64th
DEVIATIONS = 3.0  # of the sample's order statistics, on both sides
SAMPLED = 8  # passes before intervals are halved; seldom is there a second one
# Scores gathered: a 64th of all, 12 bytes each beside 4 of a score; few enough for every rank
ROOM_SHARE, LEAST_ROOM, MOST_ROOM = 64, 1 << 16, 1 << 24


@dataclass(frozen=True)
class Interval:
    """Keys low ≤ key(s₍ₖ₎) ≤ high, with the numbers of scores above it and inside it."""

    low: int
    high: int
    above: int
    inside: int


@dataclass(frozen=True)
class Cut:
    """The masks of the k largest scores, 0 < k < n, and the two scores between which they are cut.

    Attributes:
        masks: by name, True = keep; of this rank.
        kept_min: s₍ₖ₎.
        pruned_max: s₍ₖ₊₁₎.
        passes: over all scores beside that of the sample.
    """

    masks: dict[Any, Tensor]
    kept_min: float
    pruned_max: float
    passes: int


def survey(scan: Scan, total: int, group: Group) -> Tensor:
    """See that all scores can be ranked, and draw this rank's part of the sample.

    Raises:
        ImportanceError: they cannot, here or on another rank.
    """
    error: ImportanceError | None = None
    sample = torch.empty(0)
    try:
        sample = scan.survey(sample_size(total), total)
    except ImportanceError as found:
        error = found
    failed = int(group.total(torch.tensor(int(error is not None))))
    if error is not None:
        raise error
    if failed:
        raise ImportanceError(
            f"importance cannot be ranked on {failed} of {group.size} ranks, of which this is "
            "none: see their messages"
        )
    return sample


def cut(scan: Scan, own_sample: Tensor, keep: int, total: int, group: Group) -> Cut:
    """The k largest scores, ties to the lower flat index.

    Args:
        scan: the scores of this rank.
        own_sample: of its `survey`.
        keep: k, 0 < k < n.
        total: n, of all ranks.
        group: the ranks.
    """
    room = _room(total)
    interval = Interval(*float_keys.finite(scan.dtype), above=0, inside=total)
    sample = _sorted(own_sample, group)
    passes = 0
    while True:
        low, high = _next(scan, interval, sample, keep, room, passes)
        width = _expected(scan, sample, low, high, interval)
        every = 1 if width <= room else max(1, width // SAMPLE)
        marked = scan.mark(
            None if low == float_keys.finite(scan.dtype)[0] else scan.bound(low),
            scan.bound(high),
            every=every,
            room=0 if low == high else room,
        )
        passes += 1
        complete, above, inside = _totals(marked, group)
        if keep <= above:
            interval = Interval(high + 1, interval.high, interval.above, above - interval.above)
        elif keep > above + inside:
            left = interval.above + interval.inside - above - inside
            interval = Interval(interval.low, low - 1, above + inside, left)
        else:
            interval = Interval(low, high, above, inside)
            if low == high:
                return _at_one_score(scan, marked, interval, keep, passes, group)
            if complete and inside <= room:
                return _among_gathered(scan, marked, interval, keep, passes, group)
            inner = _sorted(_thinned(torch.cat(beside(marked.values)).cpu()), group)
            sample = inner if len(inner) else sample
        del marked  # its masks, before the next are made


def sample_size(total: int) -> int:
    """How many scores are drawn; none, where there is room for all."""
    if total <= _room(total):
        return 0
    return min(SAMPLE, max(total // ROOM_SHARE, LEAST_SAMPLE))


def _room(total: int) -> int:
    return max(LEAST_ROOM, min(total // ROOM_SHARE, MOST_ROOM))


def _thinned(values: Tensor) -> Tensor:
    """No more of a rank's values than make a sample."""
    return values[:: max(1, len(values) // SAMPLE)]


def _next(
    scan: Scan, interval: Interval, sample: NDArray[Any], keep: int, room: int, passes: int
) -> tuple[int, int]:
    """The keys of an interval inside this one, smaller unless it is to be gathered."""
    if interval.inside <= room or interval.low == interval.high:
        return interval.low, interval.high
    if passes >= SAMPLED:
        return interval.low, (interval.low + interval.high) // 2
    low, high = scan.bound(interval.low), scan.bound(interval.high)
    some = sample[np.searchsorted(sample, low) : np.searchsorted(sample, high, side="right")]
    size = len(some)
    if not size:
        return interval.low, (interval.low + interval.high) // 2
    # the rank counts from the largest, the sample from the least
    share = 1 - (keep - interval.above) / interval.inside
    middle = share * size
    if passes % 2:
        one = scan.key(some[min(int(middle), size - 1)])
        return one, one
    spread = DEVIATIONS * math.sqrt(size * share * (1 - share)) + 1
    least, most = math.floor(middle - spread), math.ceil(middle + spread)
    return (
        interval.low if least < 0 else scan.key(some[least]),
        interval.high if most >= size else scan.key(some[most]),
    )


def _expected(scan: Scan, sample: NDArray[Any], low: int, high: int, interval: Interval) -> int:
    """About how many scores there are from low to high."""
    if not len(sample) or (low, high) == (interval.low, interval.high):
        return interval.inside

    def drawn(low: int, high: int) -> int:
        first = np.searchsorted(sample, scan.bound(low))
        return int(np.searchsorted(sample, scan.bound(high), side="right") - first)

    return interval.inside * drawn(low, high) // max(drawn(interval.low, interval.high), 1)


def _sorted(values: Tensor, group: Group) -> NDArray[Any]:
    """The values of all ranks as numpy has them, ascending."""
    return np.sort(_numpy(torch.cat(group.gathered(values))))


def _numpy(values: Tensor) -> NDArray[Any]:
    """numpy has no bfloat16, and is slow with float16."""
    exact = values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
    return exact.cpu().numpy()


def _totals(marked: Marked, group: Group) -> tuple[bool, int, int]:
    """Whether all ranks gathered all that is inside, and how many scores are above and inside."""
    counts = torch.stack(
        [torch.tensor(int(not marked.complete)), marked.above.sum(), marked.inside.sum()]
    )
    missing, above, inside = (int(count) for count in group.total(counts))
    return not missing, above, inside


def _at_one_score(
    scan: Scan, marked: Marked, interval: Interval, keep: int, passes: int, group: Group
) -> Cut:
    """All scores of the interval are equal to s₍ₖ₎; none was gathered."""
    value = scan.bound(interval.low)
    allowed = _allowed(marked.inside, keep - interval.above, group)
    scan.tie(marked.masks, value, dict(zip(marked.masks, allowed, strict=True)))
    pruned_max = scan.score(value)
    if keep == interval.above + interval.inside:
        pruned_max = _extreme(scan, value, group)
        passes += 1
    return Cut(marked.masks, scan.score(value), pruned_max, passes)


def _among_gathered(
    scan: Scan, marked: Marked, interval: Interval, keep: int, passes: int, group: Group
) -> Cut:
    """All scores of the interval were gathered."""
    of_ranks = group.gathered(torch.cat(beside(marked.values)))
    parts = _numpy(of_ranks[0] if len(of_ranks) == 1 else torch.cat(of_ranks))
    place = interval.above + len(parts) - keep  # of s₍ₖ₎, ascending, from 0
    parts.partition(place)
    value = parts[place].item()
    left = keep - interval.above - int((parts[place:] > value).sum())
    scan.settle(marked, value, _allowed(scan.ties(marked, value), left, group))
    if place:
        pruned_max = scan.score(parts[:place].max().item())
    else:
        pruned_max = _extreme(scan, value, group)
        passes += 1
    return Cut(marked.masks, scan.score(value), pruned_max, passes)


def _allowed(ties: Tensor, left: int, group: Group) -> list[int]:
    """How many of its ties each tensor of this rank keeps.

    Args:
        ties: their number in each tensor of this rank.
        left: how many are kept in all.
        group: the ranks.
    """
    of_all = torch.stack(group.gathered(ties), 1)  # (tensors, ranks): the order of flat indices
    before = (of_all.view(-1).cumsum(0) - of_all.view(-1)).view(of_all.shape)[:, group.rank]
    return torch.minimum((left - before).clamp(min=0), ties).tolist()


def _extreme(scan: Scan, value: float, group: Group) -> float:
    """The largest score of all ranks below a value that is not the least."""
    return scan.score(_numpy(torch.cat(group.gathered(scan.largest_below(value)))).max().item())
