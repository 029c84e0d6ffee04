"""The overhead of pruning and self-regularisation over dense training, and its goals.

A goal is for one network on each kind of device; other measurements are not judged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.harness.goals import MedianRange
from benchmarks.harness.results import Row, grouped
from benchmarks.overhead.training_steps import AVERAGES, DENSE, REGULARIZED, VARIANTS


def compared(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Each variant of one workload with its `time` and `memory` over dense training, as ratio − 1.

    Time is compared with the dense steps of the same round. None: a measurement failed.
    """
    (dense,) = (row for row in rows if row["variant"] == DENSE)
    found = []
    for row in rows:
        time = memory = None
        if row["seconds"] and dense["seconds"]:
            pairs = zip(row["seconds"], dense["seconds"], strict=True)
            time = MedianRange.of([own / base - 1 for own, base in pairs])
        if row["peak_bytes"] and dense["peak_bytes"]:
            memory = row["peak_bytes"] / dense["peak_bytes"] - 1
        found.append({**row, "time": time, "memory": memory})
    return found


@dataclass(frozen=True)
class Goal:
    """Bounds on the additional time and memory over dense training, as ratios.

    Attributes:
        of: what is measured, in words.
        variants: names of the variants.
        time: additional time.
        memory: additional peak memory, besides a copy of the prunable weights for each average.
        network: the network, by kind of device.
    """

    of: str
    variants: tuple[str, ...]
    time: float
    memory: float
    network: Mapping[str, str]

    def allowed_memory(self, row: Row, dense: Row) -> float:
        """Bound on the additional memory of a row, as a ratio to the peak of dense training."""
        averages = AVERAGES[VARIANTS[row["variant"]].smoothing]
        copies = averages * row["prunable_bytes"] if averages else 0
        return self.memory + float(copies / dense["peak_bytes"])


PRUNING = {"cpu": "minilm", "cuda": "bert-base"}
GOALS = (
    Goal(
        "pruning by the scores of one step",
        tuple(
            name
            for name, each in VARIANTS.items()
            if each.criterion and each.smoothing == "none" and not each.self_regularization
        ),
        0.03,
        0.01,
        PRUNING,
    ),
    Goal(
        "pruning by averaged scores",
        tuple(
            name
            for name, each in VARIANTS.items()
            if each.smoothing != "none" and not each.self_regularization
        ),
        0.08,
        0.01,
        PRUNING,
    ),
    # the paper reports +30 % and +27 %
    Goal("self-regularisation", (REGULARIZED,), 0.20, 0.15, {"cuda": "bert-base"}),
)


def verdicts(document: Mapping[str, Any]) -> list[str]:
    """A paragraph for each goal: which variants meet it, or miss it by how much."""
    lines = []
    for goal in GOALS:
        memory = f"{change(goal.memory)} peak memory"
        if any(AVERAGES[VARIANTS[name].smoothing] for name in goal.variants):
            memory += " beside a copy of the prunable weights for each average"
        where = " and ".join(
            f"{network} on a {'GPU' if kind == 'cuda' else 'CPU'}"
            for kind, network in goal.network.items()
        )
        text = f"Goal for {goal.of}, {where}: at most {change(goal.time)} time and {memory}."
        lines += [" ".join([text, *_judged(goal, document)]), ""]
    return lines[:-1]


def _judged(goal: Goal, document: Mapping[str, Any]) -> list[str]:
    network = goal.network.get(document["device"]["kind"])
    found = []
    for rows in by_workload(document["rows"]):
        if rows[0]["network"] == network:
            dense = next(row for row in rows if row["variant"] == DENSE)
            own = [row for row in compared(rows) if row["variant"] in goal.variants]
            found += [_one(goal, row, dense) for row in own]
    return found or ["Nothing in this file was measured that says whether it is met."]


def _one(goal: Goal, row: Row, dense: Row) -> str:
    name = f"{row['variant']} in {row['precision']}"
    if row["time"] is None or row["memory"] is None:
        return f"{name}: not measured."
    time = _against(row["time"].median, goal.time, "time")
    return f"{name}: {time}, {_against(row['memory'], goal.allowed_memory(row, dense), 'memory')}."


def _against(value: float, most: float, what: str) -> str:
    if value <= most:
        return f"{what} {change(value)} met"
    return f"{what} {change(value)} missed by {100 * (value - most):.1f} points"


def change(ratio: float) -> str:
    """A ratio − 1 in per cent, with its sign."""
    digits = 1 if abs(ratio) < 0.1 else 0
    return f"{ratio:+.{digits}%}".replace("-", "−").replace("%", " %")


def by_workload(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of each network and precision."""
    return list(grouped(rows, "network", "precision").values())
