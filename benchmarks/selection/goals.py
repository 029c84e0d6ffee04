"""What the selection benchmark compares round by round, and its goals."""

from collections.abc import Mapping

from benchmarks.harness.goals import Goal, MedianRange, Rows, seconds, speedup
from benchmarks.selection.methods import DECIDE, KTHVALUE, PARTITION, READ, SELECT, TOPK


def reads(rows: Rows, name: str) -> MedianRange | None:
    """Seconds of a method / seconds of one read of the scores, round by round."""
    return speedup(rows, READ, name)


def proof_reads(rows: Rows) -> MedianRange | None:
    """(Seconds of deciding − seconds of selecting) / seconds of one read, round by round."""
    parts = [seconds(rows, name) for name in (DECIDE, SELECT, READ)]
    if not all(parts):
        return None
    return MedianRange.of(
        [(decide - select) / read for decide, select, read in zip(*parts, strict=True)]
    )


def memory_share(rows: Rows, name: str) -> MedianRange | None:
    """Extra memory / bytes of the scores; measured once."""
    row = rows.get(name)
    if row is None or row["extra_bytes"] is None:
        return None
    return MedianRange.of([row["extra_bytes"] / row["bytes"]])


def _faster(than: str, says: str, bound: float, *, strictly: bool = False) -> Goal:
    return Goal(
        f"{SELECT} against {says}, times as fast",
        bound,
        lambda rows: speedup(rows, SELECT, than),
        at_least=True,
        strictly=strictly,
    )


PROOF = Goal(f"proof, {DECIDE} less {SELECT}", 2, proof_reads, unit=" reads")
GOALS: Mapping[str, tuple[Goal, ...]] = {
    "cpu": (
        _faster(KTHVALUE, f"{KTHVALUE} of all scores", 15),
        _faster(PARTITION, PARTITION, 1, strictly=True),
        Goal(
            f"extra memory of {SELECT} beyond the masks, as a share of the scores",
            0.05,
            lambda rows: memory_share(rows, SELECT),
            unit=" %",
        ),
        PROOF,
    ),
    "cuda": (
        _faster(TOPK, f"{TOPK} and scatter", 3),
        Goal(f"{SELECT}, time", 4, lambda rows: reads(rows, SELECT), unit=" reads"),
        PROOF,
    ),
}
