"""What the selection benchmark compares, round by round; its goals, and whether they are met."""

from collections.abc import Mapping

from benchmarks.harness.goals import Goal, Rows, Spread, seconds, speedup
from benchmarks.selection.methods import DECIDE, KTHVALUE, PARTITION, READ, SELECT, TOPK


def reads(rows: Rows, name: str) -> Spread | None:
    """How many reads of the scores a method takes as long as, round by round."""
    return speedup(rows, READ, name)


def proof_reads(rows: Rows) -> Spread | None:
    """How many reads the proof takes as long as: deciding less selecting, round by round."""
    parts = [seconds(rows, name) for name in (DECIDE, SELECT, READ)]
    if not all(parts):
        return None
    return Spread.of(
        [(decide - select) / read for decide, select, read in zip(*parts, strict=True)]
    )


def memory_share(rows: Rows, name: str) -> Spread | None:
    """Extra memory as a share of what the scores take; measured once."""
    row = rows.get(name)
    if row is None or row["extra_bytes"] is None:
        return None
    share = row["extra_bytes"] / row["bytes"]
    return Spread(share, share, share)


PROOF = Goal(f"proof, {DECIDE} less {SELECT}", 2, proof_reads, unit=" reads")
GOALS: Mapping[str, tuple[Goal, ...]] = {
    "cpu": (
        Goal(
            f"{SELECT} against {KTHVALUE} of all scores, times as fast",
            15,
            lambda rows: speedup(rows, SELECT, KTHVALUE),
            at_least=True,
        ),
        Goal(
            f"{SELECT} against {PARTITION}, times as fast",
            1,
            lambda rows: speedup(rows, SELECT, PARTITION),
            at_least=True,
            strictly=True,
        ),
        Goal(
            f"extra memory of {SELECT} beyond the masks, as a share of the scores",
            0.05,
            lambda rows: memory_share(rows, SELECT),
            unit=" %",
        ),
        PROOF,
    ),
    "cuda": (
        Goal(
            f"{SELECT} against {TOPK} and scatter, times as fast",
            3,
            lambda rows: speedup(rows, SELECT, TOPK),
            at_least=True,
        ),
        Goal(f"{SELECT}, time", 4, lambda rows: reads(rows, SELECT), unit=" reads"),
        PROOF,
    ),
}
