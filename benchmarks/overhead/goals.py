"""The overhead of pruning and of self-regularisation against dense training, and its goals.

Time is compared round by round, with the dense steps of the same round. Each goal is one for a
network on a kind of device; what was measured elsewhere is told and decides nothing.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.overhead.training_steps import AVERAGES, DENSE, REGULARIZED, VARIANTS

Row = Mapping[str, Any]


def compared(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each variant of one workload against dense training.

    Time is compared round by round, with the dense steps of the same round: the median of the
    ratios, their least and their greatest, all less 1. A failed measurement compares as None.
    """
    (dense,) = (row for row in rows if row["variant"] == DENSE)
    found = []
    for row in rows:
        time = memory = None
        if row["seconds"] and dense["seconds"]:
            ratios = [
                own / base - 1 for own, base in zip(row["seconds"], dense["seconds"], strict=True)
            ]
            time = {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}
        if row["peak_bytes"] and dense["peak_bytes"]:
            memory = row["peak_bytes"] / dense["peak_bytes"] - 1
        found.append({**row, "time": time, "memory": memory})
    return found


@dataclass(frozen=True)
class Goal:
    """At most so much more time, and memory, than dense training, as ratios.

    Attributes:
        of: what it is the goal of.
        variants: their names.
        time: more time.
        memory: more memory at the peak, beside one copy of the prunable weights for each average.
        network: that it is a goal for, by kind of device.
    """

    of: str
    variants: tuple[str, ...]
    time: float
    memory: float
    network: Mapping[str, str]

    def allowed_memory(self, row: Row, dense: Row) -> float:
        """As a ratio to the peak of dense training."""
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
    """A paragraph for each goal: what is met, and what by how much not."""
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
    kind = document["device"]["kind"]
    if kind not in goal.network:
        return ["Nothing in this file was measured that says whether it is met."]
    found = []
    for rows in by_workload(document["rows"]):
        if rows[0]["network"] != goal.network[kind]:
            continue
        dense = next(row for row in rows if row["variant"] == DENSE)
        own = [row for row in compared(rows) if row["variant"] in goal.variants]
        found += [_one(goal, row, dense) for row in own]
    return found or ["Nothing in this file was measured that says whether it is met."]


def _one(goal: Goal, row: Row, dense: Row) -> str:
    name = f"{row['variant']} in {row['precision']}"
    if row["time"] is None or row["memory"] is None:
        return f"{name}: not measured."
    allowed = goal.allowed_memory(row, dense)
    parts = [
        _against(row["time"]["median"], goal.time, "time"),
        _against(row["memory"], allowed, "memory"),
    ]
    return f"{name}: {', '.join(parts)}."


def _against(value: float, most: float, what: str) -> str:
    if value <= most:
        return f"{what} {change(value)} met"
    return f"{what} {change(value)} missed by {100 * (value - most):.1f} points"


def change(ratio: float) -> str:
    """A ratio less 1 in per cent."""
    digits = 1 if abs(ratio) < 0.1 else 0
    return f"{ratio:+.{digits}%}".replace("-", "−").replace("%", " %")


def by_workload(rows: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """The rows of each network and precision together."""
    grouped: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        grouped.setdefault((row["network"], row["precision"]), []).append(row)
    return list(grouped.values())
