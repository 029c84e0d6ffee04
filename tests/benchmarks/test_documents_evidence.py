"""The seven rows of evidence are what the results files say, and so are the words around them."""

import functools
import json
import operator
import re
import shutil
from pathlib import Path

import pytest

from benchmarks.documents import evidence
from benchmarks.documents.readme import ROOT
from benchmarks.end_accuracy.table import summary
from benchmarks.harness.one_shot import HALF
from benchmarks.harness.results import RESULTS, read
from benchmarks.oneshot.methods import RIVALS
from benchmarks.oneshot.table import by_setting, compared
from verification.formatting import exact_percent

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_there_are_seven_and_each_leads_somewhere() -> None:
    rows = evidence.rows()
    assert len(rows) == 7
    for _claim, _number, link in rows:
        target = re.search(r"\]\(([^)#]+)", link)
        assert target is not None
        assert (ROOT / target[1]).is_file()


def test_swaps_after_alps_are_lower_than_each_rival_in_the_windows_of_the_test() -> None:
    cells = by_setting(read(RESULTS / "oneshot-perplexity.json")["rows"])[HALF]
    for rival in RIVALS:
        found = compared(cells["alps + swaps"], cells[rival])
        assert found is not None
        assert found.lower, rival


def test_the_fractions_at_which_the_real_loss_rises_are_those_measured() -> None:
    measured = [evidence.loss_changes(RESULTS, task) for task in evidence.TASKS]
    rises = [
        next(f for f, row in cells.items() if row["pins"]["measured"] > 0) for cells in measured
    ]
    low, high = exact_percent(min(rises)), exact_percent(max(rises))
    assert f"{low.removesuffix(' %')}–{high}" in README


@pytest.mark.parametrize("task", evidence.TASKS)
def test_what_is_said_of_gradual_pruning_was_measured(task: str) -> None:
    document = read(RESULTS / "end_accuracy.json")
    cells = {
        cell["method"]: cell
        for cell in summary(document["rows"])
        if cell["task"] == task and cell["sparsity"] == evidence.SPARSITY
        if not cell["self_regularization"]
    }
    guessing = document["tasks"][task]["majority"]
    assert abs(cells["pins"]["mean"] - guessing) < 2 * cells["pins"]["error"]
    assert cells["abs-pins"]["mean"] - guessing > 5 * cells["abs-pins"]["error"]


def test_other_results_make_other_rows(tmp_path: Path) -> None:
    results = shutil.copytree(RESULTS, tmp_path / "results")
    for name, part, change in (
        ("checker.json", ("rows", 2), {"seconds": [1.0] * 5}),
        ("selection-cpu.json", ("rows", 0), {"optimum": False}),
        ("distributed.json", ("simulated", 0), {"same_mask": False}),
        ("demo/results.json", ("ledger",), {"all_hold": False}),
    ):
        document = json.loads((results / name).read_text(encoding="utf-8"))
        functools.reduce(operator.getitem, part, document).update(change)
        (results / name).write_text(json.dumps(document), encoding="utf-8")
    ledger, selection, check, ranks, *_ = (number for _, number, _ in evidence.rows(results))
    assert "made wrong" not in ledger
    assert re.search(r"(\d+) of (?!\1)\d+ masks exact", selection)
    assert re.match(r"(?!1\.16 )\d+(\.\d+)? \(.*\) times as long as the digests alone", check)
    assert re.search(r"(\d+) of (?!\1)\d+ masks", ranks)
