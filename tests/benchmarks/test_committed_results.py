"""Tables and figures come from the results files alone."""

from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.distributed.cost_model import on_paper
from benchmarks.harness.results import RESULTS, read

TABLES = {
    "budget": "budget.table",
    "checker": "checker.driver",
    "distributed": "distributed.table",
    "end_accuracy": "end_accuracy.table",
    "loss_decrease": "loss_decrease.driver",
    "oneshot-layers": "oneshot_layers.table",
    "oneshot-loss": "oneshot_loss.table",
    "oneshot-perplexity": "oneshot.table",
    "overhead": "overhead.driver",
    "scope_map": "scope_map.table",
    "selection": "selection.table",
    "solvers": "solvers.table",
    "transposable": "transposable.table",
}
COMMITTED = sorted(RESULTS.glob("*.json"))


def benchmark(file: Path) -> str:
    """The row of TABLES with whose name the file's begins; the file's own without one."""
    return next((name for name in TABLES if file.stem.startswith(name)), file.stem)


def test_every_benchmark_has_committed_results() -> None:
    assert {benchmark(file) for file in COMMITTED} == set(TABLES)


@pytest.mark.parametrize("file", COMMITTED, ids=lambda file: file.stem)
def test_the_committed_table_is_that_of_its_results(file: Path) -> None:
    module = import_module(f"benchmarks.{TABLES[benchmark(file)]}")
    assert file.with_suffix(".md").read_text(encoding="utf-8") == module.table(read(file))


def test_the_committed_prediction_is_that_of_the_present_constants() -> None:
    document = read(RESULTS / "distributed.json")
    assert document["paper"] == on_paper(), "measure again: other constants"
