"""The cost of one decision among R ranks: passes, exchanges, bytes, and an α–β model of its time.

n scores in equal shares of every tensor, k are kept. For distinct scores in random order the
algorithm of `pins.selection.kth_largest` takes this path:

1. Three sums of counts, and a gathered sample of m scores.
2. A pass over the scores between the sample's order statistics (1 − k/n)·m ± (DEVIATIONS·σ + 1),
   σ² = m·(k/n)·(1 − k/n); each score of the sample stands for n/m scores. While more scores lie
   between them than the room holds, a part of these is the next sample, and a pass at its estimate
   of s₍ₖ₎ halves them; s₍ₖ₎ is then about 0.674·√m/2 of the sample away, median of |N(0, m/4)|.
3. Three exchanges: the candidates between them, the ties of each tensor, the counts of the proof.

The time is the sum of four terms:

    scanning    (passes + 2) · 5 bytes · n/R / bandwidth       5 bytes: a score read, a mark written
    calling     (passes + 2) · 3 calls · tensors · dispatch
    exchanging  Σ (steps · α + bytes/β), and 6 calls for each rank's part of a gather
    ranking     (scores of the samples + candidates) · sort

A gather is a ring of R − 1 steps, for lengths and for values; a sum is a tree of 2·⌈log₂ R⌉.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from benchmarks.harness.results import Row
from benchmarks.harness.score_sets import KEPT_ONE_IN
from pins.selection import kth_largest

SCORE, COUNT, MARK = 4, 8, 1  # bytes of float32, int64, bool
MEDIAN_DEVIATION = 0.6745  # median of |z|, z standard normal
CALLS = 3  # operations of a pass for each tensor
CALLS_OF_A_PART = 6  # operations of a gather for each rank's part: allocate, length, view, copy


@dataclass(frozen=True)
class Constants:
    """The constants of `pins.selection.kth_largest` that determine the path."""

    sample: int
    least_sample: int
    deviations: float
    room_share: int
    least_room: int
    most_room: int

    @classmethod
    def present(cls) -> "Constants":
        """Their values now."""
        return cls(**{each.name: getattr(kth_largest, each.name.upper()) for each in fields(cls)})

    def sample_size(self, total: int) -> int:
        """Number of scores in the first sample."""
        return min(self.sample, max(total // self.room_share, self.least_sample))

    def room(self, total: int) -> int:
        """Number of scores that may be gathered."""
        return max(self.least_room, min(total // self.room_share, self.most_room))


PRESENT = Constants.present()


@dataclass(frozen=True)
class Exchange:
    """One exchange of R ranks.

    Attributes:
        kind: "total" is a sum of counts, "gathered" is a gather of values.
        longest: bytes of the longest part; in a sum all parts are equally long.
        whole: bytes of all gathered parts; of one part in a sum.
    """

    kind: Literal["total", "gathered"]
    longest: float
    whole: float

    def given(self, ranks: int) -> float:
        """Bytes that a rank gives to the others, the mean of all ranks."""
        return self.whole if self.kind == "total" else self.whole / ranks

    def received(self, ranks: int) -> float:
        """Bytes that reach a rank in a ring; a gather sends lengths, and parts padded alike."""
        if self.kind == "total":
            return 2 * (ranks - 1) / ranks * self.whole
        return (ranks - 1) * (COUNT + self.longest)


@dataclass(frozen=True)
class Traffic:
    """What the ranks exchange in one decision.

    Attributes:
        ranks: R.
        exchanges: in order.
    """

    ranks: int
    exchanges: tuple[Exchange, ...]

    @property
    def passes(self) -> int:
        """Number of passes over the scores, without the first (sample) and the last (proof)."""
        return self.exchanges[1:].count(_total(3))  # the first sums the sizes of the tensors

    @property
    def given(self) -> float:
        """Bytes that a rank gives to the others."""
        return sum(each.given(self.ranks) for each in self.exchanges)

    @property
    def received(self) -> float:
        """Bytes that reach a rank."""
        return sum(each.received(self.ranks) for each in self.exchanges)


@dataclass(frozen=True)
class Plan(Traffic):
    """The path of one decision.

    Attributes:
        weights: n/R.
        tensors: number of tensors.
        ranked: number of scores in all samples, and of candidates: each rank sorts them.
    """

    weights: float
    tensors: int
    ranked: float


def plan(sizes: Sequence[int], keep: int, ranks: int, constants: Constants) -> Plan:
    """The expected path of one decision.

    Args:
        sizes: of the tensors, over all ranks.
        keep: k, 0 < k < n.
        ranks: R.
        constants: of the algorithm.
    """
    total = sum(sizes)
    room = constants.room(total)
    size = float(constants.sample_size(total)) if total > room else 0.0
    inside, share, ranked = float(total), 1 - keep / total, size
    exchanges = [_total(len(sizes)), _total(1), _gathered(SCORE * size, ranks)]
    while True:
        if inside > room:
            inside *= _between(size, share, constants.deviations) / size
        exchanges.append(_total(3))
        if inside <= room:
            break
        size = min(inside / max(1, inside // constants.sample), ranks * constants.sample)
        ranked += size
        exchanges += [_gathered(SCORE * size, ranks, by_chance=size / ranks), _total(3)]
        away = MEDIAN_DEVIATION * math.sqrt(size) / 2
        inside, size = inside / 2, size / 2
        share = away / size
    exchanges += [_gathered(SCORE * inside, ranks, by_chance=inside / ranks), _total(4)]
    return Plan(ranks, tuple(exchanges), total / ranks, len(sizes), ranked + inside)


def _between(size: float, share: float, deviations: float) -> float:
    """Number of scores of a sample between the two order statistics."""
    middle, width = share * size, deviations * math.sqrt(size * share * (1 - share)) + 1
    return min(math.ceil(middle + width), size) - max(math.floor(middle - width), 0)


def _total(counts: int) -> Exchange:
    return Exchange("total", COUNT * counts, COUNT * counts)


def _gathered(whole: float, ranks: int, by_chance: float = 0.0) -> Exchange:
    """A gather of equal parts, or of parts of random (Poisson) length with mean λ = `by_chance`.

    The longest of R Poisson variables is about λ + √(2λ·ln R).
    """
    longest = whole / ranks
    if by_chance:
        longest *= 1 + math.sqrt(2 * math.log(ranks) / by_chance)
    return Exchange("gathered", longest, whole)


@dataclass(frozen=True)
class Link:
    """α, the seconds before a message arrives, and β, the bytes a second after that."""

    latency: float
    rate: float


@dataclass(frozen=True)
class Machine:
    """The constants of the time.

    Attributes:
        bandwidth: bytes a second of a pass over the scores.
        dispatch: seconds to call a tensor operation.
        sort: seconds to sort one value.
        near: link between ranks of one node.
        far: link between nodes.
        node: ranks of a node.
    """

    bandwidth: float
    dispatch: float
    sort: float
    near: Link
    far: Link
    node: int

    def slowest(self, ranks: int) -> Link:
        """The slowest link of a ring of `ranks` ranks."""
        return self.near if ranks <= self.node else self.far


def seconds(work: Plan, machine: Machine) -> dict[str, float]:
    """The four terms of a decision's time."""
    scans = work.passes + 2
    gathers = sum(each.kind == "gathered" for each in work.exchanges)
    return {
        "scanning": scans * (SCORE + MARK) * work.weights / machine.bandwidth,
        "calling": scans * CALLS * work.tensors * machine.dispatch,
        "exchanging": sum(_message(each, work.ranks, machine) for each in work.exchanges)
        + gathers * CALLS_OF_A_PART * work.ranks * machine.dispatch,
        "ranking": work.ranked * machine.sort,
    }


def _message(exchange: Exchange, ranks: int, machine: Machine) -> float:
    nodes, rate = math.ceil(ranks / machine.node), machine.slowest(ranks).rate
    near, far = machine.near.latency, machine.far.latency
    if exchange.kind == "gathered":
        ring = (ranks - nodes) * near + (nodes - 1) * far
        return (2 if exchange.longest else 1) * ring + exchange.received(ranks) / rate
    within = math.ceil(math.log2(min(ranks, machine.node)))
    between = math.ceil(math.log2(nodes))
    return 2 * (within * near + between * far + (within + between) * exchange.whole / rate)


# Assumed, not measured: an H100 and its host, NVLink in a node of 8, InfiniBand between nodes
HOPPER = Machine(3.35e12, 5e-6, 10e-9, near=Link(10e-6, 450e9), far=Link(20e-6, 50e9), node=8)
MODELS: Mapping[str, tuple[int, ...]] = {
    "7 B": (31_250_000,) * 224,  # 32 layers of seven matrices
    "70 B": (125_000_000,) * 560,  # 80 layers of seven
}
RANKS = (8, 16, 32, 64, 128, 256, 512, 1024)


def on_paper(constants: Constants = PRESENT) -> list[dict[str, Any]]:
    """A row for each model and number of ranks; "gathering" is to send all scores to one rank."""
    rows = []
    for name, sizes in MODELS.items():
        total = sum(sizes)
        for ranks in RANKS:
            work = plan(sizes, total // KEPT_ONE_IN, ranks, constants)
            parts, gathered = seconds(work, HOPPER), SCORE * total * (ranks - 1) / ranks
            rows.append(
                {
                    "model": name,
                    "weights": total,
                    "tensors": len(sizes),
                    "ranks": ranks,
                    "passes": work.passes,
                    "exchanges": len(work.exchanges),
                    "given": work.given,
                    "received": work.received,
                    "seconds": parts,
                    "total_seconds": sum(parts.values()),
                    "gathering_bytes": gathered,
                    "gathering_seconds": (gathered + MARK * total) / HOPPER.slowest(ranks).rate,
                }
            )
    return rows


def counted(row: Row) -> Traffic:
    """The exchanges of a row's decision, as they were counted."""
    return Traffic(row["ranks"], tuple(Exchange(**each) for each in row["exchanges"]))


def planned(row: Row) -> Plan:
    """The expected path of a row's decision."""
    return plan(row["sizes"], row["keep"], row["ranks"], Constants(**row["constants"]))


def predicted(row: Row) -> dict[str, float]:
    """The terms of a row's time, with constants that its ranks measured in the same rounds."""
    took = {name: statistics.median(values) for name, values in row["can"].items()}
    link = Link(took["latency"], 1 / max(took["sending"], 1e-12))
    machine = Machine(1 / took["comparing"], took["dispatch"], took["sort"], link, link, max(RANKS))
    return seconds(planned(row), machine)
