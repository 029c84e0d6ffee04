import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.end_accuracy import driver, gradual_pruning
from benchmarks.end_accuracy.gradual_pruning import DENSE, METHODS, Budget, Cell, Method, cells
from benchmarks.end_accuracy.table import summary, table
from benchmarks.harness.results import read, without_paths
from pins.errors import FileError, SettingError, TaskError
from tests.benchmarks.started import SmallBenchmark, interrupted, rendered_again, start
from tests.pins.runs.tiny_runs import save_data

pytest.importorskip("transformers", reason="the runs are of transformers models")

SPARSITIES = (0.9, 0.97, 0.8)


@pytest.fixture
def place(tmp_path: Path) -> SmallBenchmark:
    options = {"tasks": "sst2", "methods": "dense,obd", "sparsities": "0.9", "seeds": 1}
    return SmallBenchmark(driver, tmp_path, driver.FILE, **options, steps=12)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Cell]:
    """The runs that were started, each of them real."""
    started: list[Cell] = []

    def counted(cell: Cell, *given: Any) -> dict[str, Any]:
        started.append(cell)
        return gradual_pruning.measure(cell, *given)

    monkeypatch.setattr(driver, "measure", counted)
    return started


def test_every_run_leaves_a_row_and_no_row_names_a_path(
    place: SmallBenchmark, tmp_path: Path
) -> None:
    small = ("--tasks=sst2", "--methods=dense,obd", "--sparsities=0.9", "--seeds=1", "--steps=12")
    start("end_accuracy", *small, *place.folders, out=place.out)
    document = read(place.file)
    found = [
        (row["method"], row["sparsity"], row["self_regularization"]) for row in document["rows"]
    ]
    assert found == [("dense", 0.0, False), ("obd", 0.9, False), ("obd", 0.9, True)]
    for row in document["rows"]:
        assert row["reached"] == pytest.approx(row["sparsity"], abs=1e-3)
        assert row["test_rows"] == 60
        assert 0 <= row["score"] == row["scores"]["accuracy"] <= 1
    assert str(tmp_path) not in place.file.read_text()
    shown = document["provenance"]["command"]
    assert shown.startswith("python -m benchmarks.end_accuracy --tasks=sst2 --methods=dense,obd")
    assert shown.endswith("--data DATA --model=a-model --out OUT")
    assert document["settings"]["model"] == "a-model"


@pytest.mark.parametrize("after", [1, 2])
def test_an_interrupted_benchmark_runs_nothing_twice(
    place: SmallBenchmark, measured: list[Cell], after: int
) -> None:
    with interrupted(driver, after):
        place.run()
    before = read(place.file)["rows"]
    assert len(before) == after
    document = place.run()
    assert document["rows"][:after] == before
    assert len(measured) == len(set(measured)) == len(document["rows"]) == 3
    place.run()
    assert len(measured) == 3


def test_another_seed_is_added_to_what_was_measured(
    place: SmallBenchmark, measured: list[Cell]
) -> None:
    place.run(methods="dense")
    document = place.run(methods="dense", seeds=2)
    assert [row["seed"] for row in document["rows"]] == [cell.seed for cell in measured] == [0, 1]


def test_a_run_repeats(place: SmallBenchmark, tmp_path: Path) -> None:
    assert _rows(place, tmp_path / "one") == _rows(place, tmp_path / "two")


def _rows(place: SmallBenchmark, out: Path) -> list[dict[str, Any]]:
    place.out = out
    return [{**row, "seconds": 0} for row in place.run(methods="obd")["rows"]]


def test_a_failure_is_a_row_and_is_tried_again_where_asked_for(
    place: SmallBenchmark, monkeypatch: pytest.MonkeyPatch, measured: list[Cell]
) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(METHODS, "broken", Method("nonsense"))
        rows = place.run(methods="broken,obd")["rows"]
        assert [("error" in row) for row in rows] == [True, True, False, False]
        assert rows[0]["error"].startswith("SettingError: criterion is 'nonsense': choose one of")
        text = place.file.with_suffix(".md").read_text()
        assert "sst2, broken, 90 %, seed 0: failed with SettingError" in text
        assert "| broken | failed |" in text
        place.run(methods="broken,obd")
        assert len(measured) == 4
        patch.setitem(METHODS, "broken", Method("magnitude"))
        rows = place.run(methods="broken,obd", retry=True)["rows"]
        assert [("error" in row) for row in rows] == [False] * 4
        assert len(measured) == 6


def test_no_run_is_started_when_the_time_is_over(
    place: SmallBenchmark, measured: list[Cell], capsys: pytest.CaptureFixture[str]
) -> None:
    place.run(methods="dense")
    place.run(minutes=0.0)
    assert len(measured) == 1
    assert "0 minutes are over: 2 runs are left" in capsys.readouterr().out


def test_results_of_other_settings_or_data_are_not_overwritten(place: SmallBenchmark) -> None:
    place.run(methods="dense")
    text = place.file.read_text()
    with pytest.raises(FileError, match="holds results of other settings: move it"):
        place.run(steps=13)
    save_data(place.data / "glue" / "SST-2", rows=61)
    with pytest.raises(FileError, match="holds results of other sst2 data: move it"):
        place.run(seeds=2)
    assert place.file.read_text() == text


def test_table_and_figure_are_made_from_the_results_file_alone(place: SmallBenchmark) -> None:
    place.run()
    written = rendered_again(driver, place.file, "md", "svg")
    assert "| obd + self-regularisation | – |" in written["md"]
    assert "obd + self-regularisation" in written["svg"]


def test_stopping_early_leaves_whole_comparisons() -> None:
    tasks = ["stdlib-docs", "sst2", "rte"]
    planned = list(cells(tasks, 3, SPARSITIES, list(METHODS)))
    pruned = 2 * (len(METHODS) - 1)
    assert len(planned) == len(set(planned)) == 3 * 3 * (1 + 3 * pruned)
    assert planned[0] == Cell("stdlib-docs", 0, DENSE, 0.0)
    assert [cell.sparsity for cell in planned[1 : 1 + 3 * pruned : pruned]] == [*SPARSITIES]
    for before, after in itertools.pairwise(planned):
        places = [
            (cell.seed, tasks.index(cell.task), (0.0, *SPARSITIES).index(cell.sparsity))
            for cell in (before, after)
        ]
        assert places == sorted(places)
    first = planned[1 : 1 + pruned]
    assert {(cell.method, cell.self_regularization) for cell in first} == {
        (method, regularized) for method in METHODS if method != DENSE for regularized in (0, 1)
    }


def test_all_methods_have_the_same_budget_and_only_the_pruned_ones_prune() -> None:
    assert Budget().train_rows == 240 * 16
    assert not any(
        cell.self_regularization or cell.sparsity for cell in cells(["rte"], 1, SPARSITIES, [DENSE])
    )


def result(score: float | None, seed: int, **given: Any) -> dict[str, Any]:
    row = {"task": "sst2", "method": "obd", "self_regularization": False, "sparsity": 0.9}
    found = {"error": "no"} if score is None else {"metric": "accuracy", "score": score}
    return {**row, "seed": seed, "test_rows": 100, **found, **given}


def test_means_are_over_the_seeds_that_did_not_fail() -> None:
    (cell,) = summary([result(0.8, 0), result(0.9, 1), result(None, 2)])
    assert cell["seeds"] == 2
    assert cell["mean"] == pytest.approx(0.85)
    assert cell["spread"] == pytest.approx(0.05 * 2**0.5)
    assert cell["error"] == pytest.approx((0.85 * 0.15 / 100) ** 0.5)
    (single,) = summary([result(0.8, 0)])
    assert single["spread"] is None
    (failed,) = summary([result(None, 0)])
    assert (failed["mean"], failed["seeds"]) == (None, 0)
    (other,) = summary([result(0.8, 0, metric="matthews")])
    assert other["error"] is None


def test_bold_is_what_chance_may_have_put_first(place: SmallBenchmark) -> None:
    document = place.run(methods="dense")
    document["rows"] += [
        result(0.85, 0),
        result(0.83, 0, method="magnitude"),  # one standard error is 0.036
        result(0.81, 0, method="pins"),
    ]
    text = table(document)
    assert "| obd | – | **0.850 (1)** |" in text
    assert "| magnitude | – | **0.830 (1)** |" in text
    assert "| pins | – | 0.810 (1) |" in text


def test_runs_of_platon_without_its_window_are_told_of(place: SmallBenchmark) -> None:
    document = place.run(methods="platon", plain=True)
    assert [row["window"] for row in document["rows"]] == [True]
    assert "without its window" not in table(document)
    old = result(0.81, 0, method="platon")
    document["rows"] += [old, {**old, "seed": 1}, result(0.85, 0)]
    assert "\n2 runs of platon were measured without its window: " in table(document)


def test_what_makes_no_sense_is_refused_before_anything_is_run(
    place: SmallBenchmark, measured: list[Cell]
) -> None:
    with pytest.raises(SettingError, match="there is no method 'wanda': choose one of dense, magn"):
        place.run(methods="wanda")
    for sparsities in ("1", "0.5,x", "-0.1"):
        with pytest.raises(SettingError, match="give numbers between 0 and 1, such as"):
            place.run(sparsities=sparsities)
    with pytest.raises(TaskError, match="there is no task 'sst3'"):
        place.run(tasks="sst2,sst3")
    assert not measured
    place.out.mkdir()
    place.file.write_text(json.dumps({"rows": 3}))
    with pytest.raises(FileError, match="is not a results file: it holds no rows"):
        place.run()


def test_the_longest_path_is_replaced_first() -> None:
    paths = {"OUT": "/a", "DATA": "/a/b", "NONE": None, "HERE": Path()}
    assert without_paths("x /a/b/c . /a", paths) == "x DATA/c . OUT"
