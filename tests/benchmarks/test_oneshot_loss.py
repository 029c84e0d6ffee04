import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks.harness.results import read
from benchmarks.oneshot_loss import driver
from benchmarks.oneshot_loss.table import METHODS, RANKED, table
from pins.oneshot.settings import Settings
from tests.benchmarks.started import interrupted, rendered_again, start, words

SMALL: dict[str, Any] = {"task": "text", "calibration": 3, "test_windows": 3, "length": 8}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, given: dict[str, Any]) -> Path:
    """A folder with what the command writes, as anyone would start it."""
    out = tmp_path_factory.mktemp("results")
    start("oneshot_loss", *words({**SMALL, **given}), out=out)
    return out


def test_predictions_are_those_of_the_pruned_weights(results: Path) -> None:
    document = read(results / driver.FILE)
    rows = {row["method"]: row for row in document["rows"]}
    assert list(rows) == list(METHODS)
    for row in rows.values():
        assert 2 * row["kept"] == row["total"]
        assert row["calibration_dense"] == rows["obs"]["calibration_dense"]
        assert row["second_order"] > row["first_order"]
        assert len(row["losses"]) == len(document["dense"]) == 3
    sensitivity, region = rows["sensitivity"], rows["trust-region"]
    assert sensitivity["first_order"] == pytest.approx(sensitivity["predicted"], rel=1e-4)
    assert rows["magnitude"]["first_order"] != pytest.approx(sensitivity["first_order"], rel=0.1)
    # its model is damped, and its masks gain to first order what magnitude's do not
    assert region["first_order"] < region["second_order"] < region["predicted"]
    assert region["first_order"] < rows["magnitude"]["first_order"]
    assert rows["obs"]["predicted"] is None


def test_the_table_is_made_from_the_results_file_alone(
    results: Path, given: dict[str, Any]
) -> None:
    text = rendered_again(driver, results / driver.FILE, "md")["md"]
    assert "| trust-region | all layers together | " in text
    assert "| obs + swaps | each row | – | " in text
    for path in (results, *given.values()):
        assert str(path) not in text


def test_changes_are_from_the_dense_model(results: Path) -> None:
    also = {"predicted": None, "first_order": -1.0, "second_order": 2.0, "cpu": 360.0}
    rows = [
        {
            "method": method,
            "calibration_dense": 3.0,
            "calibration_sparse": 3.0 + change,
            "losses": [4.0 + change, 5.0 + 2 * change],
            "perplexity": math.exp(4.5 + 1.5 * change),
            **also,
        }
        for method, change in (("magnitude", 2.0), ("obs", 0.25))
    ]
    document = {**read(results / driver.FILE), "rows": rows, "dense": [4.0, 5.0]}
    text = table(document)
    assert "The dense loss is 3.000 there, and 4.500 here" in text
    assert "| magnitude | each row | – | −1.00 | +2.00 | +2.00 | +3 ± 1 | 1,808 | 360 |" in text
    assert "| obs | each row | – | −1.00 | +2.00 | **+0.25** | **+0.375 ± 0.12** | 131 |" in text
    assert "Not measured: sensitivity, trust-region, obs + swaps, alps + swaps." in text
    assert "0.2 core-hours for 2 runs" in text


def test_an_interrupted_benchmark_goes_on_with_what_is_missing(
    tmp_path: Path, results: Path, given: dict[str, Any]
) -> None:
    small = {**SMALL, **given, "out": tmp_path, "methods": "magnitude,trust-region"}
    with interrupted(driver, after=1):
        driver.run(**small)
    driver.run(**small)
    once = {row["method"]: row for row in read(results / driver.FILE)["rows"]}
    again = read(tmp_path / driver.FILE)["rows"]
    assert [row["method"] for row in again] == ["magnitude", "trust-region"]
    for row in again:
        for name in ("losses", "predicted", "second_order", "calibration_sparse"):
            assert row[name] == once[row["method"]][name]


def test_methods_are_those_of_the_command() -> None:
    assert {*METHODS} == {*RANKED}
    for method in METHODS.values():
        assert Settings(model="m", **method).final_sparsity() * 2 == 1
