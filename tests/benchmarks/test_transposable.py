from pathlib import Path

import pytest
import torch

from benchmarks.harness.results import read
from benchmarks.transposable import driver
from benchmarks.transposable.driver import INSTANCES, Run, measure, runs, smoke
from benchmarks.transposable.methods import greedy, rounded
from benchmarks.transposable.table import EXACT, GREEDY, HIGHS, ROUNDED
from pins.errors import SettingError
from pins.selection.transposable.blocks import split
from tests.benchmarks.started import interrupted, rendered_again, start

OPTIONS = ("--instances", "smoke", "--blocks", "3")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the command writes, as anyone would start it."""
    out = tmp_path_factory.mktemp("results")
    start("transposable", *OPTIONS, out=out)
    return out


def test_the_optimum_has_no_gap_the_greedy_has_one_and_highs_agrees(results: Path) -> None:
    rows = read(results / driver.FILE)["rows"]
    assert [row["method"] for row in rows] == [EXACT, ROUNDED, GREEDY, HIGHS]
    for row in rows:
        assert row["error"] is None
        assert row["seconds"] > 0
        if row["method"] == HIGHS:
            assert row["answers"] == {"AGREES": 3}
        else:
            gaps = {EXACT: (0, 0), ROUNDED: (0, 0.01), GREEDY: (0.005, 0.05)}
            low, high = gaps[row["method"]]
            assert low <= row["gap"] <= high
            assert (row["missing"] == 0) == (row["method"] != GREEDY)


def test_the_table_is_made_from_the_results_file_alone(results: Path) -> None:
    text = rendered_again(driver, results / driver.FILE, "md")["md"]
    assert "| smoke | 8,192 | 4:8 | HiGHS |" in text
    assert "| 3 as good |" in text
    assert str(results) not in text


def test_an_interrupted_benchmark_goes_on_with_what_is_missing(
    tmp_path: Path, results: Path
) -> None:
    with interrupted(driver, after=2):
        driver.run(out=tmp_path, instances="smoke", blocks=3)
    assert len(read(tmp_path / driver.FILE)["rows"]) == 2
    driver.run(out=tmp_path, instances="smoke", blocks=3)
    again, once = (read(folder / driver.FILE)["rows"] for folder in (tmp_path, results))
    for name in ("n", "m", "method", "gap", "missing", "answers"):
        assert [row[name] for row in again] == [row[name] for row in once]


def test_the_greedy_takes_the_largest_whose_row_and_column_have_room() -> None:
    block = torch.tensor([[9.0, 8.0, 7.0], [6.0, 5.0, 1.0], [4.0, 3.0, 2.0]])
    kept = greedy(block, 1, 3)
    assert kept.tolist() == [[True, False, False], [False, True, False], [False, False, True]]
    assert greedy(torch.tensor([[3.0, 2.0], [2.0, 0.0]]), 1, 2).diagonal().all()  # loses 1 of 4


@pytest.mark.parametrize("method", [greedy, rounded])
def test_a_greedy_keeps_at_most_n(method: type) -> None:
    for scores in smoke():
        mask = split(method(scores, 4, 8), 8)
        assert int(mask.sum(0).max()) == int(mask.sum(1).max()) == 4


def test_a_failure_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_given: object) -> torch.Tensor:
        raise MemoryError("no room here\nand more")

    monkeypatch.setattr(driver, "METHODS", {GREEDY: none})
    found = measure(Run("smoke", 2, 4, GREEDY), 1)
    assert found["error"] == "MemoryError: no room here"
    assert found["seconds"] is None


def test_eight_minilms_have_as_many_weights_as_the_encoder_of_a_bert() -> None:
    assert [each.m for each in runs({"minilm-x8": INSTANCES["minilm-x8"]})] == [16, 16]
    with pytest.raises(SettingError, match="minilm-x9"):
        driver.run(instances="minilm-x9")
