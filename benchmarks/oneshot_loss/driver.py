"""Loss change of a language model that is pruned by half in one shot, predicted and measured.

    python -m benchmarks.oneshot_loss --data ../wikitext-2 [--methods trust-region,obs]

A row of oneshot-loss.json is one run over the whole model, written as soon as it is done: an
interrupted benchmark continues with what is missing. Writes the table oneshot-loss.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.harness import benchmark
from benchmarks.harness.cli import Data, Minutes, Model, Names, Out, Render, named
from benchmarks.harness.one_shot import Calibration, Length, Task, TestWindows, resumed, whole
from benchmarks.harness.results import RESULTS
from benchmarks.oneshot_loss.prediction import derivatives, predicted
from benchmarks.oneshot_loss.table import METHODS, table
from pins.models import smollm2
from pins.oneshot.settings import Settings

FILE = "oneshot-loss.json"
ALL_METHODS = ",".join(METHODS)


@dataclass(frozen=True)
class Run:
    """One row: a method."""

    method: str


def measure(each: Run, shared: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of one row, and the losses of the test windows of the dense model."""
    settings = Settings(**shared, device="cpu", **METHODS[each.method])
    with whole(settings, dense=True) as (run, row):
        own = run.folder.report(None) or {}
        text = (shared[name] for name in ("model", "task", "data", "calibration", "length"))
        return {
            **row,
            **{f"calibration_{name}": loss for name, loss in run.calibration_losses().items()},
            "predicted": own.get("predicted"),
            **predicted(run, derivatives(*text)),
        }


def run(
    model: Model = smollm2.NAME,
    task: Task = "wikitext",
    data: Data = None,
    methods: Names = ALL_METHODS,
    calibration: Calibration = 32,
    test_windows: TestWindows = 64,
    length: Length = 512,
    minutes: Minutes = None,
    out: Out = RESULTS,
    render_only: Render = False,
) -> None:
    """Measure what the results file does not hold yet."""
    if not render_only:
        numbers = {"calibration": calibration, "test_windows": test_windows, "length": length}
        document, shared = resumed(out / FILE, model, task, data, **numbers)

        def row_of(each: Run) -> list[dict[str, Any]]:
            row = measure(each, shared)
            document["dense"] = row.pop("dense")
            return [row]

        benchmark.complete(
            document,
            out / FILE,
            [Run(method) for method in named(methods, METHODS, "method")],
            row_of,
            shows="calibration loss {calibration_sparse:.3f}, perplexity {perplexity:.3f}",
            minutes=minutes,
        )
    benchmark.render(out, FILE, table)
