from typing import Any

import pytest

from benchmarks.end_accuracy.decisions_table import summary, table
from benchmarks.end_accuracy.gradual_pruning import MEASURED


def decision(predicted: float, measured: float, **more: float) -> list[float | None]:
    known = {"predicted": predicted, "measured": measured, **more}
    return [known.get(name) for name in MEASURED]


def row(method: str, seed: int, *decisions: list[float | None], **more: Any) -> dict[str, Any]:
    about = {"task": "t", "sparsity": 0.9, "self_regularization": False}
    return {"method": method, "seed": seed, "decisions": list(decisions), **about, **more}


ROWS = [
    row("obd", 0, decision(-1.0, 0.5), decision(-2.0, 1.0)),
    row("obd", 1, decision(1.0, 2.0), decision(0.0, 4.0)),
    row("trust-region", 0, decision(-1.0, -0.5, promised=0.4, kept=0.1), decision(0.5, 0.25)),
]


def test_changes_are_added_up_over_a_run_and_averaged_over_seeds() -> None:
    obd, region = summary(ROWS)
    assert (obd["predicted"], obd["measured"]) == (-1.0, 3.75)  # (−3 + 1)/2 and (1.5 + 6)/2
    assert obd["kept"] is None
    assert region["kept"] == pytest.approx(0.25)
    assert (obd["seeds"], region["seeds"]) == (2, 1)


def test_the_lowest_measured_is_in_bold_and_it_alone() -> None:
    text = "\n".join(table(ROWS))
    assert "| trust-region | −0.50 → **−0.25** (1) |" in text.replace("−0.5 →", "−0.50 →")
    assert text.count("**") == 2
    worse = [*ROWS[:2], row("trust-region", 0, decision(-1.0, 9.0))]
    assert "**+3.75**" in "\n".join(table(worse)).replace("**+3.8**", "**+3.75**")


def test_runs_without_measurements_or_with_a_teacher_say_nothing() -> None:
    assert table([row("obd", 0)]) == []
    assert table([row("obd", 0, decision(1, 1), self_regularization=True)]) == []
    bare = row("obd", 0)
    del bare["decisions"]  # of a results file from before decisions were measured
    assert table([bare]) == []
