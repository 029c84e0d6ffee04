"""How long one decision among ranks takes, on paper: an alpha-beta model of its plan.

A message of b bytes takes α + b/β. Of R ranks

- an all-gather is a ring, R−1 steps of the longest part each;
- an all-reduce is a ring of 2(R−1) steps of an R-th each, or a tree of 2⌈log₂ R⌉ steps;
- where R is more than a node has, a ring has a slow step for every node but one, all of its bytes
  go at the slowest link's rate, and a tree has ⌈log₂⌉ of the nodes and of a node in steps.

A pass moves the bytes that its tensor operations read and write, and each operation takes its time
to be called. Every rank sorts every sample and partitions all that was gathered.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.distributed.communication_plan import SCORE, Constants, Exchange, Plan, plan
from pins.selection.scan import reference


@dataclass(frozen=True)
class Pass:
    """What a pass does, counted in the code; a mask is a byte a weight.

    Attributes:
        traffic: bytes read and written for each weight.
        calls: tensor operations for each block, views left out.
        fixed: operations however many blocks there are.
    """

    traffic: int
    calls: int
    fixed: int = 0


@dataclass(frozen=True)
class Reading:
    """A way of reading scores.

    Attributes:
        block: weights of a tensor that are looked at together.
        survey: the pass that sees whether all can be ranked, and draws the sample.
        mark: one that marks.
        proof: the last one.
    """

    block: int
    survey: Pass
    mark: Pass
    proof: Pass


# numpy backend: > and ≥ make a mask each, both are counted, their difference taken and searched
BY_OPERATIONS = Reading(
    block=reference.BLOCK,
    survey=Pass(SCORE, 5),
    mark=Pass(2 * (SCORE + 1) + 2 + 3 + 2, 30),
    proof=Pass((SCORE + 1) + 2 + 1, 6),
)
# Triton backend: every score is read once; for each tensor its address and the room of its mask
BY_KERNELS = Reading(
    block=1 << 62,
    survey=Pass(SCORE, 2, 20),
    mark=Pass(SCORE + 1, 3, 20),
    proof=Pass(SCORE + 1 + 1, 5, 20),
)
TOUCHES = 3  # of a candidate: its value taken, its place, its mark set
GATHERING = 6  # operations for each rank's part of what is gathered: room, length, view, copy


@dataclass(frozen=True)
class Link:
    """Seconds before a message arrives, and bytes a second after that."""

    latency: float
    rate: float


@dataclass(frozen=True)
class Machine:
    """What a rank has.

    Attributes:
        bandwidth: bytes a second that a comparison of a whole block reads and writes.
        dispatch: seconds to call a tensor operation.
        draw: seconds to draw one score at random.
        touch: seconds to read or write one score at a place that is known.
        sort: seconds a value.
        partition: seconds a value.
        near: link to the ranks of the same node.
        far: link to those of others.
        node: ranks of a node.
        tree: whether sums of counts take a tree rather than a ring.
        reading: how its ranks read scores.
    """

    bandwidth: float
    dispatch: float
    draw: float
    touch: float
    sort: float
    partition: float
    near: Link
    far: Link
    node: int
    tree: bool
    reading: Reading


@dataclass(frozen=True)
class Seconds:
    """Of a decision: passes over the scores of a rank, exchanges, and what every rank does alike.

    Attributes:
        scanning: passes.
        calling: of their tensor operations, however few the weights.
        exchanging: messages, and the putting together of what is gathered.
        ranking: samples sorted, candidates partitioned.
    """

    scanning: float
    calling: float
    exchanging: float
    ranking: float

    @property
    def total(self) -> float:
        """All."""
        return self.scanning + self.calling + self.exchanging + self.ranking


def expected(
    sizes: Sequence[int], keep: int, ranks: int, constants: Constants, by: Reading
) -> Plan:
    """The plan of a decision, where scores are read in this way; see `plan`."""
    return plan(sizes, keep, ranks, constants, block=by.block)


def seconds(work: Plan, machine: Machine) -> Seconds:
    """How long a rank is at it."""
    by = machine.reading
    made = [by.survey, *[by.mark] * work.passes, by.proof]
    blocks = sum(math.ceil(part / by.block) for part in work.tensors)
    traffic = sum(each.traffic for each in made)
    calls = sum(each.calls * blocks + each.fixed for each in made)
    drawn = sum(work.samples[:1]) / work.ranks
    touched = (sum(work.samples[1:]) + TOUCHES * work.candidates) / work.ranks
    gathered = [exchange for exchange in work.exchanges if exchange.kind == "gathered"]
    return Seconds(
        scanning=traffic * work.weights / machine.bandwidth
        + machine.draw * drawn
        + machine.touch * touched,
        calling=calls * machine.dispatch,
        exchanging=sum(_messages(each, work.ranks, machine) for each in work.exchanges)
        + len(gathered) * GATHERING * work.ranks * machine.dispatch,
        ranking=machine.sort * sum(work.samples) + machine.partition * work.candidates,
    )


def _messages(exchange: Exchange, ranks: int, machine: Machine) -> float:
    nodes = math.ceil(ranks / machine.node)
    rate = slowest_rate(ranks, machine)
    ring = (ranks - nodes) * machine.near.latency + (nodes - 1) * machine.far.latency
    if exchange.kind == "gathered":
        turns = 2 if exchange.longest else 1  # lengths, then parts
        return turns * ring + exchange.received(ranks) / rate
    if not machine.tree:
        return 2 * ring + exchange.received(ranks) / rate
    within = math.ceil(math.log2(min(ranks, machine.node)))
    between = math.ceil(math.log2(nodes))
    steps = within * machine.near.latency + between * machine.far.latency
    return 2 * (steps + (within + between) * exchange.whole / rate)


def slowest_rate(ranks: int, machine: Machine) -> float:
    """Of the links among so many ranks."""
    return (machine.near if ranks <= machine.node else machine.far).rate


@dataclass(frozen=True)
class Gathering:
    """The whole model on one rank, which others do: what it alone has to take in and give out.

    Attributes:
        received: bytes of scores from the other ranks.
        mask: bytes that it then sends out, one a weight.
    """

    received: float
    mask: float

    @classmethod
    def of(cls, total: int, ranks: int) -> "Gathering":
        """Of n float32 scores in R equal parts."""
        return cls(SCORE * total * (ranks - 1) / ranks, total if ranks > 1 else 0)

    def seconds(self, ranks: int, machine: Machine) -> float:
        """At least so long: sending alone, at the full rate of one rank's link, nothing ranked."""
        return (self.received + self.mask) / slowest_rate(ranks, machine)


# Assumed, not measured: an H100 and its host, NVLink in a node of 8, InfiniBand between nodes
HOPPER = Machine(
    bandwidth=3.35e12,
    dispatch=5e-6,
    draw=1e-9,
    touch=1e-9,
    sort=10e-9,
    partition=5e-9,
    near=Link(10e-6, 450e9),
    far=Link(20e-6, 50e9),
    node=8,
    tree=True,
    reading=BY_KERNELS,
)
MODELS: dict[str, tuple[int, ...]] = {
    "7 B": (31_250_000,) * 224,  # 32 layers of seven matrices
    "70 B": (125_000_000,) * 560,  # 80 layers of seven
}
RANKS = (8, 16, 32, 64, 128, 256, 512, 1024)
