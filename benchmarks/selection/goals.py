"""What the selection benchmark compares round by round, and its goals."""

from collections.abc import Mapping

from benchmarks.harness.goals import Goal, MedianRange, Rows, per_round, speedup
from benchmarks.selection.methods import (
    AT_MOST_TWO_OF_FOUR,
    DECIDE,
    EIGHT_OF_SIXTEEN,
    HALF,
    KTHVALUE,
    PARTITION,
    READ,
    ROWS,
    SELECT,
    TOPK,
    TWO_OF_FOUR,
)


def reads(rows: Rows, name: str) -> MedianRange | None:
    """Seconds of a method / seconds of one read of the scores, round by round."""
    return speedup(rows, READ, name)


def proof_reads(rows: Rows) -> MedianRange | None:
    """(Seconds of deciding − seconds of selecting) / seconds of one read, round by round."""
    return per_round(
        rows, lambda decide, select, read: (decide - select) / read, DECIDE, SELECT, READ
    )


def memory_share(rows: Rows, name: str) -> MedianRange | None:
    """Extra memory / bytes of the scores; measured once."""
    extra = rows.get(name, {}).get("extra_bytes")
    return None if extra is None else MedianRange.of([extra / rows[name]["bytes"]])


def _faster(than: str, says: str, bound: float, *, strictly: bool = False) -> Goal:
    return Goal(
        f"{SELECT} against {says}, times as fast",
        bound,
        lambda rows: speedup(rows, SELECT, than),
        at_least=True,
        strictly=strictly,
    )


def _pattern(name: str, bound: float) -> Goal:
    return Goal(
        f"{name} against {HALF}, times as slow", bound, lambda rows: speedup(rows, HALF, name)
    )


PATTERNS = (
    _pattern(ROWS, 2),
    _pattern(TWO_OF_FOUR, 2),
    _pattern(EIGHT_OF_SIXTEEN, 2.5),
    _pattern(AT_MOST_TWO_OF_FOUR, 4),
)
"""Goals of a CPU, where patterns were measured."""

PROOF = Goal(f"proof, {DECIDE} less {SELECT}", 2, proof_reads, unit=" reads")
MEMORY = Goal(
    f"extra memory of {SELECT} beyond the masks, as a share of the scores",
    0.05,
    lambda rows: memory_share(rows, SELECT),
    unit=" %",
)
GOALS: Mapping[str, tuple[Goal, ...]] = {
    "cpu": (
        _faster(KTHVALUE, f"{KTHVALUE} of all scores", 15),
        _faster(PARTITION, PARTITION, 1, strictly=True),
        MEMORY,
        PROOF,
    ),
    "cuda": (
        _faster(TOPK, f"{TOPK} and scatter", 3),
        Goal(f"{SELECT}, time", 4, lambda rows: reads(rows, SELECT), unit=" reads"),
        PROOF,
    ),
}
