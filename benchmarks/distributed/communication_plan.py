"""The path of one decision among ranks, on paper: its passes, exchanges and bytes.

n scores in tensors, each cut into R equal parts; k are kept. For distinct scores that are in no
order, the path of `pins.selection.kth_largest` follows from its constants:

1. Two sums of counts. A sample of M scores: m = Σ ⌈M·nₜ/(R·n)⌉ over the R parts of every tensor.
2. A pass between the order statistics (1 − k/n)·m ± (DEVIATIONS·σ + 1), σ² = m·(k/n)·(1 − k/n):
   inside are n/m scores for each one of the sample. Were they more than the room, every
   so-many-th is the next sample, a pass at the one score that is its estimate halves them, and
   s₍ₖ₎ is about 0.674·√m/2 of the sample away from it (the median of |N(0, m/4)|).
3. All that are inside are gathered, and the counts of the proof.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pins.selection import kth_largest

SCORE = 4  # bytes: float32
COUNT = 8  # bytes: int64
MEDIAN_DEVIATION = 0.6745  # of |z|, z standard normal


@dataclass(frozen=True)
class Constants:
    """Those of `pins.selection.kth_largest`."""

    sample: int
    least_sample: int
    deviations: float
    room_share: int
    least_room: int
    most_room: int

    @classmethod
    def present(cls) -> "Constants":
        """As they are in the code."""
        return cls(
            kth_largest.SAMPLE,
            kth_largest.LEAST_SAMPLE,
            kth_largest.DEVIATIONS,
            kth_largest.ROOM_SHARE,
            kth_largest.LEAST_ROOM,
            kth_largest.MOST_ROOM,
        )

    def drawn(self, total: int) -> int:
        """Scores of a sample."""
        return min(self.sample, max(total // self.room_share, self.least_sample))

    def room(self, total: int) -> int:
        """Scores that may be gathered."""
        return max(self.least_room, min(total // self.room_share, self.most_room))


@dataclass(frozen=True)
class Exchange:
    """One exchange of R ranks.

    Attributes:
        kind: a sum of counts, or values gathered.
        longest: bytes of the longest part; every part of a sum is as long.
        whole: bytes of all parts gathered; of a sum, of one.
    """

    kind: Literal["total", "gathered"]
    longest: float
    whole: float

    def given(self, ranks: int) -> float:
        """Bytes that a rank gives to the others, the mean of all ranks."""
        return self.whole if self.kind == "total" else self.whole / ranks

    def received(self, ranks: int) -> float:
        """Bytes that reach a rank by a ring: parts padded to the longest, after their lengths."""
        if self.kind == "total":
            return 2 * (ranks - 1) / ranks * self.whole
        return (ranks - 1) * (COUNT + self.longest)


@dataclass(frozen=True)
class Plan:
    """A decision's work.

    Attributes:
        ranks: R.
        weights: of a rank, n/R.
        tensors: their sizes on a rank.
        passes: that mark, beside one that surveys and one that proves.
        exchanges: in their order.
        samples: scores of each sample, of all ranks.
        candidates: gathered from all ranks.
    """

    ranks: int
    weights: float
    tensors: tuple[float, ...]
    passes: int
    exchanges: tuple[Exchange, ...]
    samples: tuple[float, ...]
    candidates: float

    @property
    def given(self) -> float:
        """Bytes that a rank gives to the others."""
        return sum(exchange.given(self.ranks) for exchange in self.exchanges)

    @property
    def received(self) -> float:
        """Bytes that reach a rank."""
        return sum(exchange.received(self.ranks) for exchange in self.exchanges)


def plan(
    sizes: Sequence[int],
    keep: int,
    ranks: int,
    constants: Constants,
    *,
    block: int,
) -> Plan:
    """The expected path of one decision.

    Args:
        sizes: of the tensors, over all ranks.
        keep: k, 0 < k < n.
        ranks: R.
        constants: of the algorithm.
        block: weights of a tensor among which every so-many-th is counted from the first.
    """
    total = sum(sizes)
    room = constants.room(total)
    # how many scores, who cannot rank them
    exchanges = [_total(1), _total(1)]
    size, inside, share, passes = 0.0, float(total), 1 - keep / total, 0
    samples: list[float] = []
    if total > room:
        drawn = constants.drawn(total)
        size = float(sum(-(-drawn * each // (ranks * total)) for each in sizes) * ranks)
        samples.append(size)
    exchanges.append(_gathered(SCORE * size, ranks))
    while True:
        if inside > room:
            inside *= _between(size, share, constants.deviations) / size
        passes += 1
        exchanges.append(_total(3))
        if inside <= room:
            break
        size = _thinned(sizes, inside, ranks, constants, block)
        samples.append(size)
        exchanges += [_gathered(SCORE * size, ranks, by_chance=size / ranks), _total(3)]
        away = MEDIAN_DEVIATION * math.sqrt(size) / 2
        passes, inside, size = passes + 1, inside / 2, size / 2
        share = away / size
    exchanges += [_gathered(SCORE * inside, ranks, by_chance=inside / ranks), _total(4)]
    parts = tuple(each / ranks for each in sizes)
    return Plan(ranks, total / ranks, parts, passes, tuple(exchanges), tuple(samples), inside)


def _between(size: float, share: float, deviations: float) -> float:
    """How many of a sample lie between the two order statistics."""
    middle, spread = share * size, deviations * math.sqrt(size * share * (1 - share)) + 1
    return min(math.ceil(middle + spread), size) - max(math.floor(middle - spread), 0)


def _thinned(
    sizes: Sequence[int], inside: float, ranks: int, constants: Constants, block: int
) -> float:
    """Those inside among every so-many-th of all, the first of each block being one."""
    total, every = sum(sizes), max(1, int(inside) // constants.sample)
    places = 0
    for each in sizes:
        whole, rest = divmod(each / ranks, block)
        places += int(whole) * math.ceil(block / every) + math.ceil(rest / every)
    return float(ranks * min(places * inside / total, constants.sample))


def _total(counts: int) -> Exchange:
    return Exchange("total", COUNT * counts, COUNT * counts)


def _gathered(whole: float, ranks: int, by_chance: float = 0.0) -> Exchange:
    """Equal parts; those of so many by chance are Poisson's, whose largest of R is √(2λ·ln R) more.

    Args:
        whole: bytes of all ranks.
        ranks: R.
        by_chance: λ, the mean number of a part's values, where chance has dealt them.
    """
    longest = whole / ranks
    if by_chance:
        longest *= 1 + math.sqrt(2 * math.log(ranks) / by_chance)
    return Exchange("gathered", longest, whole)
