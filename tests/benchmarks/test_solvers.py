from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from benchmarks.harness.results import read
from benchmarks.solvers import driver
from benchmarks.solvers.driver import CONTROL_SIZE, SIZES, Solve, measure, solves
from benchmarks.solvers.table import CLOSED_FORM, SELECT, summary, table
from pins.errors import FileError
from tests.benchmarks.started import interrupted, rendered_again, start
from verification.experiments.solver_tolerance import SOLVERS
from verification.plots.times import mean_seconds

SMALL: dict[str, Any] = {"largest": CONTROL_SIZE, "seeds": 1, "time_limit": 20.0}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the command writes, as anyone would start it."""
    out = tmp_path_factory.mktemp("results")
    options = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    start("solvers", *options, out=out)
    return out


def key(row: dict[str, Any]) -> Solve:
    return Solve(**{name: row[name] for name in ("size", "seed", "solver", "scaled")})


def planned() -> list[Solve]:
    return list(solves(CONTROL_SIZE, 1))


def test_sizes_and_seeds_come_in_whole_comparisons() -> None:
    everything = list(solves(max(SIZES), 2))
    assert len(everything) == len(set(everything)) == 2 * (len(SIZES) * 4 + len(SOLVERS))
    assert [each.size for each in everything] == sorted(each.size for each in everything)
    assert {each.size for each in everything if not each.scaled} == {CONTROL_SIZE}
    assert {each.size for each in solves(1000, 1)} == {256}


def test_scaled_answers_are_as_good_and_unscaled_ones_are_wrong(results: Path) -> None:
    rows = read(results / driver.FILE)["rows"]
    assert [key(row) for row in rows] == planned()
    for row in rows:
        assert row["error"] is None
        assert row["seconds"] > 0
        assert row["status"] == "OPTIMAL"  # all of them say so
        if row["scaled"]:
            assert (row["verdict"], row["gap"], row["wrong"]) == ("AGREES", 0, 0)
            assert (row["exponent"] > 0) == (row["solver"] in SOLVERS)
        else:
            assert row["verdict"] == "SOLVER_INEXACT"
            assert row["gap"] > 0
            assert 0 < row["wrong"] <= row["keep"]
    said = summary(rows)
    assert "With scaled objectives the solvers answered 4 of 4 times, 4 of them as well" in said
    assert "With unscaled objectives the solvers answered 2 of 2 times, 0 of them" in said
    assert f"{SELECT} was as good 2 of 2 times" in said


def test_table_and_figure_are_made_from_the_results_file_alone(results: Path) -> None:
    written = rendered_again(driver, results / driver.FILE, "md", "svg")
    assert written["md"] == table(read(results / driver.FILE))
    assert "## Control: the same scores unscaled" in written["md"]
    assert str(results) not in written["md"]
    assert "time limit" not in written["svg"]  # no solver was stopped


def test_an_interrupted_benchmark_goes_on_with_what_is_missing(
    tmp_path: Path,
) -> None:
    with interrupted(driver, after=3):
        driver.run(out=tmp_path, largest=256, seeds=1, time_limit=20.0)
    before = read(tmp_path / driver.FILE)["rows"]
    assert [key(row) for row in before] == planned()[:3]
    driver.run(out=tmp_path, largest=256, seeds=1, time_limit=20.0)
    rows = read(tmp_path / driver.FILE)["rows"]
    assert rows[:3] == before
    assert [key(row) for row in rows] == planned()[:4]
    with pytest.raises(FileError, match="holds results of other settings: move it"):
        driver.run(out=tmp_path, largest=256, seeds=1, time_limit=21.0)


def row(solver: str, seconds: float | None, **given: Any) -> dict[str, Any]:
    found = {"status": "OPTIMAL", "verdict": "AGREES", "gap": 0.0, "relative_gap": 0.0, "wrong": 0}
    rest = {"keep": 51, "exponent": 0, "error": None, "seconds": seconds}
    return {**asdict(Solve(256, 0, solver, scaled=True)), **found, **rest, **given}


def test_a_stop_at_the_limit_a_failure_and_a_worse_answer_are_shown(results: Path) -> None:
    rows = [
        row(SELECT, 0.01),
        row(CLOSED_FORM, 0.001),
        row("highs", 20.0, status="INTERRUPTED", verdict="NO_SOLUTION", gap=None, wrong=None),
        row("highs", 3.0, seed=1),
        row("cbc", None, status=None, verdict=None, error="Error: no"),
        row("cbc", 1.0, verdict="THEOREM_REFUTED", size=1024),
    ]
    document = {**read(results / driver.FILE), "rows": rows}
    text = table(document)
    assert "| highs | 11,500 (3,000 to 20,000) | 2,000 | stopped (1 ×), optimal (1 ×) |" in text
    assert "no answer (1 ×), as good (1 ×) |" in text
    assert "| cbc | – | – | failed | failed |" in text
    assert "cbc, n = 256, seed 0: failed with Error: no" in text
    assert "**better: the theorem is refuted**" in text
    assert "answered 2 of 4 times, 1 of them as well" in text
    assert mean_seconds(rows)["highs"] == [(256, 11.5)]
    assert mean_seconds(rows)["cbc"] == [(1024, 1.0)]


def test_a_failure_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_scale: bool) -> Any:
        raise OSError("no such solver here\nand more")

    monkeypatch.setattr(driver, "SOLVERS", {"cbc": none})
    found = measure(Solve(256, 0, "cbc", scaled=True), 1.0)
    assert found["error"] == "OSError: no such solver here"
    assert found["seconds"] is None


def test_nothing_to_render_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"holds no solvers\.json: measure first"):
        driver.run(out=tmp_path, render_only=True)
    (tmp_path / driver.FILE).write_text('{"rows": []}')
    with pytest.raises(FileError, match="holds no rows yet: measure first"):
        driver.run(out=tmp_path, render_only=True)
