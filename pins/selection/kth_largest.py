"""s₍ₖ₎, the k-th largest score of each segment, and the mask that follows: exact, at memory speed.

All is done on integer keys (`float_keys`). An interval of keys that holds s₍ₖ₎ is made smaller
until the scores inside can be gathered and the k-th is found among them. A random sample says where
to cut, counts of all scores say what is true:

1. Sample. Its order statistics k·m/n ± 3σ make an interval in which s₍ₖ₎ lies but for one time in
   four hundred, and which holds a few times 1/√m of all scores.
2. One partition counts the scores above it, marks them, and gathers those inside it.
3. The counts say whether s₍ₖ₎ is inside, above or below. When it is inside, and all of them were
   gathered, it is the one of that rank among them, and their marks are set.

Else the next interval lies in what is left. **It ends**: no interval is empty, and each pass leaves
a smaller one, if only in number of keys: after `SAMPLED` passes it is halved, so float32 takes no
more than `SAMPLED` + 33 passes, whatever the scores are. An interval of one key needs nothing
gathered, however many scores are equal to it; so every other pass tries a single one, which ends
at once for the value that half of all scores have. Where s₍ₖ₊₁₎ is not among what was gathered,
the search goes on for it in the same way.

All segments are searched at once: intervals and counts are vectors. A pass takes as many segments
as there is room for what they gather.

Among the ranks of a group only counts, samples and gathered keys are sent; every rank computes
with the same numbers and so comes to the same threshold. Ties go to the lower flat index: tensor by
tensor, in a tensor rank by rank.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pins.distributed.process_group import Group
from pins.errors import ImportanceError
from pins.selection import ties
from pins.selection.constraints import cardinality
from pins.selection.scan import float_keys
from pins.selection.scan.reference import Integers, Partition, Scan
from pins.selection.segments import Piece, Segments

SAMPLE, LEAST_SAMPLE = 1 << 17, 1 << 10  # scores; of fewer than eight million a 64th
DEVIATIONS = 3.0  # of the sample's order statistics, on both sides
SAMPLED = 8  # passes before intervals are halved; seldom is there a second one
# Scores gathered: a 64th of all, 12 bytes each beside 4 of a score; few enough for every rank
ROOM_SHARE, LEAST_ROOM, MOST_ROOM = 64, 1 << 16, 1 << 24

Read = TypeVar("Read")


@dataclass(frozen=True)
class Ranked:
    """Scores that can be ranked.

    Attributes:
        scan: the scores of this rank.
        segments: which of them are ranked with each other.
        group: the ranks.
        sample: keys drawn from each piece of the segments.
    """

    scan: Scan
    segments: Segments
    group: Group
    sample: Sequence[NDArray[Any]]


@dataclass(frozen=True)
class KthLargest:
    """The masks of the k largest scores of each segment, and the keys between which they are cut.

    Attributes:
        masks: by name, True = keep; of this rank.
        keeps: k by segment.
        kept_min: keys of s₍ₖ₎ by segment; without meaning where k = 0.
        pruned_max: keys of s₍ₖ₊₁₎ by segment; without meaning where k = n.
        passes: over scores, beside the one that validates and samples.
    """

    masks: Mapping[Any, Tensor]
    keeps: Integers
    kept_min: Integers
    pruned_max: Integers
    passes: int


def validate_and_sample(scan: Scan, segments: Segments, group: Group) -> Ranked:
    """Check that all scores can be ranked, and draw this rank's part of the samples.

    Raises:
        ImportanceError: they cannot, here or on another rank.
    """
    draws = []
    for piece in segments.pieces:
        total = int(segments.sizes[piece.segment])
        draws.append(-(-sample_size(total) * piece.size // max(total, 1)))
    sample = on_all_ranks(group, lambda: scan.validate_and_sample(segments.pieces, draws))
    return Ranked(scan, segments, group, sample)


def on_all_ranks(group: Group, read: Callable[[], Read]) -> Read:
    """What each rank reads of its scores; where one cannot, none goes on and waits for it.

    Raises:
        ImportanceError: `read` raised it, here or on another rank.
    """
    error: ImportanceError | None = None
    try:
        answer = read()
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
    return answer


def kth_largest(ranked: Ranked, keeps: Sequence[int] | Integers) -> KthLargest:
    """The k largest scores of each segment, ties to the lower flat index.

    Args:
        ranked: the scores.
        keeps: k by segment.

    Raises:
        CardinalityError: a k is not an int in [0, n].
    """
    sizes, masks = ranked.segments.sizes, dict[Any, Tensor]()
    keep, search = _cardinalities(keeps, sizes), _Search(ranked, masks)
    search.clear(np.flatnonzero(keep == 0))
    found, after = search.find(keep, np.flatnonzero(keep > 0), mark=True)
    unknown = np.flatnonzero((keep < sizes) & (after < search.least))
    if unknown.size:
        search.go_below(found, keep, unknown)
        after[unknown] = search.find(keep + 1, unknown, mark=False)[0][unknown]
    masks = {name: masks[name] for name in ranked.scan.sizes}
    return KthLargest(masks, keep, found, after, search.passes)


def count(ranked: Ranked, masks: Mapping[Any, Tensor], against: Integers) -> Integers:
    """Count what masks keep and prune against a key for each segment, as `Scan.count`.

    Returns:
        (segments, 4) numbers of scores.
    """
    segments = ranked.segments
    counts, owners = np.zeros((len(segments.sizes), 4), dtype=np.int64), segments.owners
    np.add.at(counts, owners, ranked.scan.count(segments.pieces, against[owners], masks))
    return ranked.group.total(torch.from_numpy(counts)).numpy()


class _Search:
    """Intervals of keys low ≤ s₍ₖ₎ ≤ high of all segments, as vectors.

    Attributes:
        least: the key of the least finite score.
        passes: made so far.
    """

    def __init__(self, ranked: Ranked, masks: dict[Any, Tensor]) -> None:
        self.passes = 0
        self._scan, self._group, self._masks = ranked.scan, ranked.group, masks
        self._pieces, self._owner = ranked.segments.pieces, ranked.segments.owners
        self._sizes = ranked.segments.sizes
        self._room = room(int(self._sizes.sum()))
        self.least, self._most = float_keys.finite(self._scan.dtype)
        # of each interval: its ends, the numbers of scores above it and inside it, passes so far
        self._low = np.full_like(self._sizes, self.least)
        self._high = np.full_like(self._sizes, self._most)
        self._above, self._inside = np.zeros_like(self._sizes), self._sizes.copy()
        self._tries = np.zeros_like(self._sizes)
        self._drawn = self._of_all_ranks(ranked.sample, self._owner, len(self._sizes))
        self._drawn = [np.sort(sample).astype(np.int64) for sample in self._drawn]
        self._sample = list(self._drawn)  # of what is inside; else what was drawn

    def clear(self, some: Integers) -> None:
        """Masks that keep nothing."""
        self._scan.clear(self._pieces_of(some)[0], self._masks)

    def go_below(self, found: Integers, rank: Integers, some: Integers) -> None:
        """Set intervals to all that lies below the keys of these ranks; below rank 0 are all."""
        self._low[some] = self.least
        self._high[some] = np.where(rank == 0, self._most, found - 1)[some]
        self._above[some], self._inside[some] = rank[some], (self._sizes - rank)[some]
        # many scores are often equal to the key below another: first a single one is tried
        self._tries[some] = (rank > 0)[some]
        for j in some.tolist():
            self._sample[j] = self._drawn[j]

    def find(self, rank: Integers, todo: Integers, *, mark: bool) -> tuple[Integers, Integers]:
        """Make intervals smaller until the key of a rank is found in each.

        Args:
            rank: by segment, from 1.
            todo: the segments to look at.
            mark: whether to write the masks of the scores up to that rank.

        Returns:
            The keys of rank and rank + 1 by segment; of the latter `least` − 1 where it is unknown.
        """
        found, after = np.zeros_like(self._sizes), np.full_like(self._sizes, self.least - 1)
        masks = self._masks if mark else None
        while todo.size:
            some, low, high, every = self._asked(rank, todo)
            pieces, slot = self._pieces_of(some)
            parted = self._scan.partition(
                pieces, low[slot], high[slot], every[slot], masks, self._room
            )
            self.passes += 1
            complete, above, inside = self._totals(parted, slot, len(some))
            left = rank[some] - above  # rank of the key that is sought, within the interval
            hit = (left > 0) & (left <= inside)
            self._narrow(some, low, high, above, inside, left)
            one = hit & (low == high)
            whole = hit & ~one & complete & (every == 1) & (inside <= self._room)
            done = one | whole
            key, next_ = low.copy(), np.where(left < inside, low, self.least - 1)
            equal = inside.copy()  # scores equal to the key, the first `left` of which are kept
            for i, candidates in self._gathered(parted.keys, slot, whole):
                key[i], next_[i], left[i], equal[i] = _ranked(
                    candidates, int(left[i]), self.least - 1
                )
            for i, candidates in self._gathered(parted.keys, slot, hit & ~done, SAMPLE):
                if len(candidates):
                    self._sample[some[i]] = np.sort(candidates).astype(np.int64)
            if masks is not None and done.any():
                self._mark(pieces, slot, parted, done, one, key, left, equal)
            found[some[done]], after[some[done]] = key[done], next_[done]
            todo = np.concatenate([some[~done], todo[len(some) :]])
        return found, after

    def _asked(self, rank: Integers, todo: Integers) -> tuple[Integers, ...]:
        """The segments of the next pass; low, high and `every` of the intervals to ask for."""
        asked = np.array([self._next(j, int(rank[j])) for j in todo.tolist()]).T
        turn = int(np.searchsorted(asked[3].cumsum(), self._room, side="right"))
        low, high, every, _ = asked[:, : max(turn, 1)]
        return todo[: max(turn, 1)], low, high, every

    def _next(self, j: int, rank: int) -> tuple[int, int, int, int]:
        """An interval inside a segment's, smaller unless it is to be gathered.

        Returns:
            Its ends; how many scores of it to gather one of, 0 for none; about how many these are.
        """
        low, high, inside = int(self._low[j]), int(self._high[j]), int(self._inside[j])
        own_room = room(int(self._sizes[j]))
        if low == high:
            return low, high, 0, 0
        if inside <= own_room:
            return low, high, 1, inside
        sample = self._sample[j]
        some = sample[np.searchsorted(sample, low) : np.searchsorted(sample, high, side="right")]
        size, tries = len(some), int(self._tries[j])
        if tries >= SAMPLED or not size:
            high = (low + high) // 2
        else:
            # the rank counts from the largest, the sample from the least
            share = 1 - (rank - int(self._above[j])) / inside
            middle = share * size
            if tries % 2:
                one = int(some[min(int(middle), size - 1)])
                return one, one, 0, 0
            spread = DEVIATIONS * math.sqrt(size * share * (1 - share)) + 1
            least, most = math.floor(middle - spread), math.ceil(middle + spread)
            low = low if least < 0 else int(some[least])
            high = high if most >= size else int(some[most])
        if low == high:
            return low, high, 0, 0
        drawn = np.searchsorted(some, high, side="right") - np.searchsorted(some, low)
        expected = inside * int(drawn) // max(size, 1)
        every = 1 if expected <= own_room else max(1, expected // SAMPLE)
        return low, high, every, min(expected // every, own_room)

    def _narrow(
        self,
        some: Integers,
        low: Integers,
        high: Integers,
        above: Integers,
        inside: Integers,
        left: Integers,
    ) -> None:
        """The intervals of some segments after what was counted; `left` says where their key is."""
        over, under = left <= 0, left > inside
        before = self._above[some] + self._inside[some]
        upto = np.where(over, above, np.where(under, before, above + inside))  # scores ≥ low
        self._low[some] = np.where(over, high + 1, np.where(under, self._low[some], low))
        self._high[some] = np.where(over, self._high[some], np.where(under, low - 1, high))
        self._above[some] = np.where(
            over, self._above[some], np.where(under, above + inside, above)
        )
        self._inside[some] = upto - self._above[some]
        self._tries[some] += 1

    def _totals(
        self, parted: Partition, slot: Integers, number: int
    ) -> tuple[bool, Integers, Integers]:
        """Whether all ranks gathered all that was asked; scores above and inside by segment."""
        counts = np.zeros(1 + 2 * number, dtype=np.int64)
        counts[0] = not parted.complete
        np.add.at(counts, 1 + slot, parted.above)
        np.add.at(counts, 1 + number + slot, parted.inside)
        counts = self._group.total(torch.from_numpy(counts)).numpy()
        return not counts[0], counts[1 : 1 + number], counts[1 + number :]

    def _pieces_of(self, some: Integers) -> tuple[list[Piece], Integers]:
        """The pieces of some segments, and of which of these each one is."""
        wanted = np.zeros(len(self._sizes), dtype=np.bool_)
        wanted[some] = True
        which = np.flatnonzero(wanted[self._owner])
        pieces = [self._pieces[i] for i in which.tolist()]
        return pieces, np.searchsorted(some, self._owner[which])

    def _gathered(
        self, parts: Sequence[NDArray[Any]], slot: Integers, which: NDArray[np.bool_], most: int = 0
    ) -> Iterable[tuple[int, NDArray[Any]]]:
        """What all ranks have gathered of those segments that are asked for."""
        if not which.any():
            return ()
        numbers, own = np.flatnonzero(which), np.flatnonzero(which[slot])
        slots = np.searchsorted(numbers, slot[own])
        found = self._of_all_ranks([parts[i] for i in own.tolist()], slots, len(numbers), most)
        return zip(numbers.tolist(), found, strict=True)

    def _of_all_ranks(
        self, parts: Sequence[NDArray[Any]], slot: Integers, number: int, most: int = 0
    ) -> list[NDArray[Any]]:
        """The keys of pieces put together by segment; of each rank about `most`, if not 0."""
        if not number:
            return []
        by_segment: list[list[NDArray[Any]]] = [[] for _ in range(number)]
        for part, i in zip(parts, slot.tolist(), strict=True):
            by_segment[i].append(part)
        own = [np.concatenate(each) for each in by_segment]
        if most:
            own = [each[:: max(1, len(each) // most)] for each in own]
        sent = own[0] if number == 1 else np.concatenate(own)
        # numpy's stride of what is empty may be 0
        own_keys = torch.from_numpy(sent).as_strided((len(sent),), (1,))
        of_ranks = self._group.gathered(own_keys)
        lengths = [torch.tensor([len(each)]) for each in of_ranks]
        if number > 1:
            lengths = self._group.gathered(torch.tensor([len(each) for each in own]))
        split = [
            torch.split(each, ends.tolist()) for each, ends in zip(of_ranks, lengths, strict=True)
        ]
        return [
            (torch.cat(each) if len(each) > 1 else each[0]).numpy()
            for each in zip(*split, strict=True)
        ]

    def _mark(
        self,
        pieces: Sequence[Piece],
        slot: Integers,
        parted: Partition,
        done: NDArray[np.bool_],
        one: NDArray[np.bool_],
        key: Integers,
        left: Integers,
        equal: Integers,
    ) -> None:
        """Add to the masks what a partition left out: the scores up to the key, ties by index.

        Args:
            pieces: those of the partition, with their segments' `slot`.
            slot: where the segment of each piece is in the vectors below.
            parted: the partition; it has marked what is above its intervals.
            done: the segments of which the key is known.
            one: those of which all scores inside are equal to it; none is gathered.
            key: the key of s₍ₖ₎.
            left: how many of the scores that are equal to it are kept.
            equal: how many there are.
        """
        some = np.flatnonzero(done[slot])
        slot = slot[some]
        tied = np.array(
            [
                parted.inside[i] if one[j] else np.count_nonzero(parted.keys[i] == key[j])
                for i, j in zip(some.tolist(), slot.tolist(), strict=True)
            ],
            dtype=np.int64,
        )
        kept = tied
        if (left < equal)[done].any():  # else all are kept, on every rank
            kept = ties.shared_out(tied, slot, left, self._group)
        alone = one[slot]
        for i, j, allowed in zip(*(of[~alone].tolist() for of in (some, slot, kept)), strict=True):
            mask, found = self._masks[pieces[i].name], parted.keys[i]
            ties.apply_threshold(mask, parted.positions[i], found, int(key[j]), allowed)
        if alone.any():
            equals = key[slot[alone]], tied[alone], kept[alone]
            of = [pieces[i] for i in some[alone].tolist()]
            ties.break_ties(self._scan, self._masks, of, *equals)


def _ranked(candidates: NDArray[Any], left: int, none: int) -> tuple[int, int, int, int]:
    """The keys of two ranks among candidates, which are put in another order.

    Args:
        candidates: keys.
        left: the first rank, from 1.
        none: in place of the key after it, where there is none.

    Returns:
        The key of the rank; the next; how many that are equal to the first are within the rank, and
        how many there are.
    """
    place = len(candidates) - left  # ascending, from 0
    candidates.partition(place)
    key = candidates[place]
    next_ = int(candidates[:place].max()) if place else none
    above = int(np.count_nonzero(candidates[place:] > key))
    return int(key), next_, left - above, int(np.count_nonzero(candidates == key))


def sample_size(total: int) -> int:
    """How many scores are drawn; none, where there is room for all."""
    if total <= room(total):
        return 0
    return min(SAMPLE, max(total // ROOM_SHARE, LEAST_SAMPLE))


def room(total: int) -> int:
    """How many scores may be gathered."""
    return max(LEAST_ROOM, min(total // ROOM_SHARE, MOST_ROOM))


def _cardinalities(keeps: Sequence[int] | Integers, sizes: Integers) -> Integers:
    """The numbers to keep as int64."""
    if isinstance(keeps, np.ndarray):  # of many segments
        for i in np.flatnonzero((keeps < 0) | (keeps > sizes)):
            cardinality(int(keeps[i]), int(sizes[i]))
        return keeps.astype(np.int64)
    return np.array([cardinality(k, n) for k, n in zip(keeps, sizes.tolist(), strict=True)])
