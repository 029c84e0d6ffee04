"""The cost of self-regularisation: the paper's figures, and our goal.

Both are about BERT-base on a GPU; other networks and devices are evidence and decide nothing. Time
is compared round by round with dense training; the median of the ratios counts.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter

from pins.utils.grouping import grouped
from verification.empirical.claim import OURS, PAPER, EmpiricalClaim, Ruling, tested, untested
from verification.empirical.results import OVERHEAD, Results, Row

NETWORK, GPU = "bert-base", "cuda"
DENSE, REGULARIZED = "dense training", "self-regularisation"  # variants
PAPERS_TIME, PAPERS_MEMORY = 0.30, 0.27
MOST_TIME, MOST_MEMORY = 0.20, 0.15
ABOUT = 0.05


@dataclass(frozen=True)
class Cost:
    """Self-regularisation against dense training: ratios less 1.

    Attributes:
        network: name of the network.
        device: type of the device.
        precision: of the training.
        time: median of the rounds.
        low: least of the rounds.
        high: greatest of the rounds.
        memory: peak memory.
    """

    network: str
    device: str
    precision: str
    time: float
    low: float
    high: float
    memory: float

    def __str__(self) -> str:
        """The numbers, with network, device and precision."""
        return (
            f"{self.network} on {self.device}, {self.precision}: time {_change(self.time)} "
            f"({_change(self.low)} to {_change(self.high)}), memory {_change(self.memory)}"
        )


def costs(found: Sequence[Results]) -> list[Cost]:
    """The costs of every network and precision for which both variants were measured."""
    every = [row for results in found for row in results.rows]
    measured = []
    for place, rows in grouped(every, itemgetter("network", "device", "precision")).items():
        network, device, precision = place
        variants: dict[str, Row] = {row["variant"]: row for row in rows}
        both = [variants.get(name, {}) for name in (REGULARIZED, DENSE)]
        if not all(row.get("seconds") and row.get("peak_bytes") for row in both):
            continue  # not measured, or failed
        own, dense = both
        ratios = [a / b - 1 for a, b in zip(own["seconds"], dense["seconds"], strict=False)]
        time = statistics.median(ratios), min(ratios), max(ratios)
        memory = own["peak_bytes"] / dense["peak_bytes"] - 1
        measured.append(Cost(network, device.partition(":")[0], precision, *time, memory))
    return measured


def judge(found: Sequence[Results], meets: Callable[[Cost], bool]) -> Ruling:
    """Holds if BERT-base on a GPU meets the figures in each precision that was measured."""
    measured = costs(found)
    judged = [cost for cost in measured if (cost.network, cost.device) == (NETWORK, GPU)]
    evidence = "; ".join(map(str, judged or measured)) or "nothing"
    numbers = [vars(cost) for cost in measured]
    if not judged:
        return untested(
            f"{NETWORK} on a GPU was not measured: run `{OVERHEAD.command} --device {GPU}`. "
            f"Measured was {evidence}",
            costs=numbers,
        )
    where = f"{NETWORK}, {', '.join(cost.precision for cost in judged)}"
    return tested(all(map(meets, judged)), where, evidence, costs=numbers)


def as_the_paper_says(cost: Cost) -> bool:
    """Within five points of both of the paper's figures."""
    off = (cost.time - PAPERS_TIME, cost.memory - PAPERS_MEMORY)
    return all(abs(each) <= ABOUT for each in off)


def within_the_goal(cost: Cost) -> bool:
    """At most both of our figures."""
    return cost.time <= MOST_TIME and cost.memory <= MOST_MEMORY


def _change(ratio: float) -> str:
    return f"{ratio:+.0%}".replace("-", "−").replace("%", " %")


_claim = partial(
    EmpiricalClaim,
    scope=f"whole training steps of {NETWORK} on a GPU, against dense training, side by side",
    reads=OVERHEAD,
)
CLAIMS = (
    _claim(
        id="self-regularisation-cost",
        statement="Self-regularisation costs about "
        f"{_change(PAPERS_MEMORY)} memory and {_change(PAPERS_TIME)} time.",
        rule=f"Holds if both are within {100 * ABOUT:g} points of these figures, in each precision "
        "that was measured, the median of the rounds for time; does not hold if one is not.",
        source=PAPER,
        decide=lambda found: judge(found, as_the_paper_says),
    ),
    _claim(
        id="self-regularisation-goal",
        statement="As PINS does it, self-regularisation costs at most "
        f"{_change(MOST_MEMORY)} memory and {_change(MOST_TIME)} time.",
        rule="Holds if neither is over its figure, in each precision that was measured, the median "
        "of the rounds for time; does not hold if one is.",
        source=OURS,
        decide=lambda found: judge(found, within_the_goal),
    ),
)
