"""The model beside what was measured and counted, and on paper: rows from rows."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.distributed.communication_plan import Constants, Exchange, Plan
from benchmarks.distributed.cost_model import (
    BY_OPERATIONS,
    HOPPER,
    MODELS,
    RANKS,
    Gathering,
    Link,
    Machine,
    Seconds,
    expected,
    seconds,
)
from benchmarks.distributed.methods import DECIDE
from benchmarks.harness.score_sets import KEPT_ONE_IN

Row = Mapping[str, Any]
CLOSE = 0.05  # bytes predicted may be off by so much of those counted


def given(row: Row) -> float:
    """Bytes that a rank gives to the others, by the exchanges counted."""
    return sum(each.given(row["ranks"]) for each in _exchanges(row))


def received(row: Row) -> float:
    """Bytes that reach a rank, by the exchanges counted."""
    return sum(each.received(row["ranks"]) for each in _exchanges(row))


def passes(row: Row) -> int:
    """Passes that marked: after each, three counts are added."""
    return sum(each.kind == "total" and each.whole == 24 for each in _exchanges(row))


def planned(row: Row) -> Plan:
    """What the model says of a row's decision."""
    constants = Constants(**row["constants"])
    return expected(row["sizes"], row["keep"], row["ranks"], constants, BY_OPERATIONS)


def predicted(row: Row) -> Seconds:
    """How long, by what a rank of the machine could do in the same rounds."""
    return seconds(planned(row), machine_of(row["can"]))


def measured(row: Row, method: str = DECIDE) -> float:
    """Median of the rounds, in seconds."""
    seconds_of_rounds: list[float] = row["methods"][method]["seconds"]
    return statistics.median(seconds_of_rounds)


def machine_of(can: Mapping[str, Sequence[float]]) -> Machine:
    """The machine from the seconds that its ranks took in the rounds."""
    took = {name: statistics.median(values) for name, values in can.items()}
    link = Link(took["latency"], 1 / max(took["sending"], 1e-12))
    return Machine(
        bandwidth=1 / took["comparing"],
        dispatch=took["dispatch"],
        draw=took["draw"],
        touch=took["touch"],
        sort=took["sort"],
        partition=took["partition"],
        near=link,
        far=link,
        node=max(RANKS),
        tree=False,
        reading=BY_OPERATIONS,
    )


def on_paper(constants: Constants, machine: Machine = HOPPER) -> list[dict[str, Any]]:
    """A row for each model and number of ranks."""
    rows = []
    for name, sizes in MODELS.items():
        for ranks in RANKS:
            work = expected(sizes, sum(sizes) // KEPT_ONE_IN, ranks, constants, machine.reading)
            whole = Gathering.of(sum(sizes), ranks)
            rows.append(
                {
                    "model": name,
                    "weights": sum(sizes),
                    "tensors": len(sizes),
                    "ranks": ranks,
                    "passes": work.passes,
                    "exchanges": len(work.exchanges),
                    "given": work.given,
                    "received": work.received,
                    "seconds": asdict(seconds(work, machine)),
                    "total_seconds": seconds(work, machine).total,
                    "gathering_bytes": whole.received,
                    "gathering_seconds": whole.seconds(ranks, machine),
                }
            )
    return rows


def _exchanges(row: Row) -> list[Exchange]:
    return [Exchange(**each) for each in row["exchanges"]]
