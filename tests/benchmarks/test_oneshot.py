import math
import statistics
from pathlib import Path
from typing import Any

import pytest

from benchmarks.harness.one_shot import SETTINGS, dense_perplexity
from benchmarks.harness.results import read
from benchmarks.oneshot import driver
from benchmarks.oneshot.methods import METHODS, ONE_DRAW, OURS, RIVALS
from benchmarks.oneshot.table import compared, goals, table
from pins.errors import FileError, SettingError
from pins.oneshot.settings import Settings
from tests.benchmarks.started import interrupted, rendered_again, start, words

METHODS_HERE = "magnitude,wanda,alps + swaps"
SMALL: dict[str, Any] = {
    "task": "text",
    "methods": METHODS_HERE,
    "settings": "2:4",
    "draws": 2,
    "calibration": 2,
    "test_windows": 4,
    "length": 8,
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, given: dict[str, Any]) -> Path:
    """A folder with what the command writes, as anyone would start it."""
    out = tmp_path_factory.mktemp("results")
    start("oneshot", *words({**SMALL, **given}), out=out)
    return out


def test_a_row_is_a_run_over_the_whole_model(results: Path) -> None:
    document = read(results / driver.FILE)
    rows = document["rows"]
    assert [(row["method"], row["draw"]) for row in rows] == [
        ("magnitude", 0),
        ("wanda", 0),
        ("alps + swaps", 0),
        ("wanda", 1),
    ]
    for row in rows:
        assert 2 * row["kept"] == row["total"]
        assert len(row["losses"]) == len(document["dense"]) == 4
        assert row["perplexity"] == pytest.approx(math.exp(statistics.fmean(row["losses"])), 1e-5)
        assert row["cpu"] >= 0
    errors = {row["method"]: row["relative_error"] for row in rows if row["draw"] == 0}
    assert errors["alps + swaps"] < errors["wanda"] < errors["magnitude"]


def test_table_and_figure_are_made_from_the_results_file_alone(
    results: Path, given: dict[str, Any]
) -> None:
    made = rendered_again(driver, results / driver.FILE, "md", "svg")
    assert "| wanda | 2 | " in made["md"]
    assert "Not measured: magnitude + refit, wanda + refit, ria" in made["md"]
    assert "a-model. Calibrated on 2 windows of 8 tokens of text's train text" in made["md"]
    for path in (results, *given.values()):
        assert str(path) not in "".join(made.values())
    for label in (*METHODS_HERE.split(","), "dense", "2:4"):
        assert f">{label}<" in made["svg"]


def test_an_interrupted_benchmark_goes_on_with_what_is_missing(
    tmp_path: Path, results: Path, given: dict[str, Any]
) -> None:
    small = {**SMALL, **given, "out": tmp_path, "methods": "magnitude,wanda", "draws": 1}
    with interrupted(driver, after=1):
        driver.run(**small)
    assert len(read(tmp_path / driver.FILE)["rows"]) == 1
    driver.run(**small)
    again, once = (read(folder / driver.FILE) for folder in (tmp_path, results))
    assert again["dense"] == once["dense"]
    assert [row["losses"] for row in again["rows"]] == [row["losses"] for row in once["rows"][:2]]
    with pytest.raises(FileError, match="results of other settings"):
        driver.run(**{**small, "calibration": 3})
    with pytest.raises(SettingError, match="no method 'wander'"):
        driver.run(**{**small, "methods": "wander"})


def row(method: str, losses: list[float], draw: int = 0) -> dict[str, Any]:
    perplexity = math.exp(statistics.fmean(losses))
    also = {"relative_error": 0.1, "cpu": 1800.0, "load": 1.0}
    return {
        "setting": "2:4", "method": method, "draw": draw, "losses": losses,
        "perplexity": perplexity, **also,
    }  # fmt: skip


def against(**others: float) -> str:
    """What is said of the goal where OBS is so much lower in each of two windows."""
    rows = [row("obs", [1.0, 9.0]), *(row(name, [1 + x, 9 + x]) for name, x in others.items())]
    return goals({"rows": rows})[-1]


def test_the_goal_is_met_where_the_best_of_ours_is_lower_than_every_rival() -> None:
    assert "| obs | 148 | −0.5 ± 0, lower | −0.25 ± 0, lower | −0.125 ± 0, lower | **met** |" in (
        against(wanda=0.5, sparsegpt=0.25, alps=0.125)
    )
    assert "higher | **missed**" in against(wanda=0.5, sparsegpt=0.25, alps=-0.125)
    assert "no difference | **missed**" in against(wanda=0.5, sparsegpt=0.25, alps=0.0)
    assert "| – | not measured |" in against(wanda=0.5, sparsegpt=0.25)
    assert "none measured | – |" in goals({"rows": [row("wanda", [1.0, 9.0])]})[-1]


def test_only_the_same_draws_are_compared() -> None:
    wanda = [row("wanda", [1.0, 2.0]), row("wanda", [5.0, 6.5], draw=1)]
    found = compared([row("obs", [4.0, 5.5], draw=1)], wanda)
    assert found is not None
    assert (found.mean, found.error) == (-1, 0)
    assert compared(wanda[:1], wanda[1:]) is None


def test_a_perplexity_is_the_geometric_mean_over_the_draws(results: Path) -> None:
    document = {
        **read(results / driver.FILE),
        "rows": [row("wanda", [1.0, 2.0]), row("wanda", [3.0, 4.0], draw=1)],
    }
    mean, low, high = (math.exp(x) for x in (2.5, 1.5, 3.5))
    assert f"| wanda | 2 | {mean:.2f} ({low:.2f} to {high:.2f}) | 10.00 % |" in table(document)
    assert "1.0 core-hours for 2 runs" in table(document)
    assert dense_perplexity({"dense": [1.0, 2.0]}) == pytest.approx(math.exp(1.5))


def test_methods_and_settings_are_those_of_the_command() -> None:
    for method in METHODS.values():
        for setting in SETTINGS.values():
            if "budget" not in method:
                Settings(model="m", **method, **setting)
    assert {*OURS, *RIVALS, *ONE_DRAW} <= {*METHODS}
