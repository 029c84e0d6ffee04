from pathlib import Path

import pytest

from benchmarks.budget import driver
from benchmarks.budget.table import CBC, CHECKER, HIGHS, OURS, summary
from benchmarks.budget.tables import SHAPES, SMOOTH, TIES, error_table
from benchmarks.harness.results import read
from tests.benchmarks.started import interrupted, rendered_again, start

SMALL = ("--largest=12", "--seeds=1")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the command writes, as anyone would start it."""
    out = tmp_path_factory.mktemp("results")
    start("budget", *SMALL, out=out)
    return out


def test_solvers_and_checker_agree_with_our_optimum(results: Path) -> None:
    rows = read(results / driver.FILE)["rows"]
    assert len(rows) == len(driver.LEVELS) * 2 * 4
    for row in rows:
        assert row["error"] is None
        assert row["seconds"] > 0
        assert row["status"] == ("PROVED" if row["method"] == CHECKER else "OPTIMAL")
        if row["method"] in (CBC, HIGHS):
            assert abs(row["excess"]) < 1e-6
        if row["method"] == OURS:
            assert (row["excess"], row["states"] > 0) == (0, True)
    assert "6 of 6 choices are optima; 6 of 6 certificates are proved" in summary(rows)


def test_a_worse_answer_is_counted() -> None:
    rows = [{"method": CBC, "excess": each, "status": "OPTIMAL"} for each in (0.0, 0.5, -0.1)]
    assert "CBC answered 3 times: 1 better, 1 worse, by up to 50 %" in summary(rows)


def test_the_table_is_made_from_the_results_file_alone(results: Path) -> None:
    text = rendered_again(driver, results / driver.FILE, "md")["md"]
    assert "| 12 | 4 | near ties |" in text
    assert str(results) not in text


def test_an_interrupted_benchmark_goes_on_with_what_is_missing(
    tmp_path: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "LEVELS", (4,))
    with interrupted(driver, after=2):
        driver.run(out=tmp_path, largest=12, seeds=1)
    assert len(read(tmp_path / driver.FILE)["rows"]) == 2
    driver.run(out=tmp_path, largest=12, seeds=1)
    again, once = (read(folder / driver.FILE)["rows"] for folder in (tmp_path, results))
    assert [row["states"] for row in again] == [row["states"] for row in once[: len(again)]]
    assert len(again) == 8


def test_tables_have_equal_layers_and_costs_that_fall() -> None:
    for layers in SHAPES:
        table = error_table(layers, 10, SMOOTH, 0)
        costs = table.numbers("bytes")
        assert all(own == sorted(own, reverse=True) for own in costs)
        assert len({tuple(own) for own in costs}) < layers / 2
    ties = error_table(12, 10, TIES, 0).numbers("error")
    assert all((64 * error).denominator == 1 for own in ties for error in own)
