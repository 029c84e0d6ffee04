"""Perplexity of a language model after each method, setting and draw of the calibration text.

    python -m benchmarks.oneshot --data ../wikitext-2 [--methods wanda,alps] [--draws 3]

A row of oneshot-perplexity.json is one run over the whole model, with the mean −log p of each test
window, so that two methods are compared window by window. It is written as soon as it is done: an
interrupted benchmark continues with what is missing. Perplexity of magnitude does not depend on the
draw unless the kept weights are refitted: it has one. With a budget each layer has the level that
makes the sum of relative errors least, and all layers together as many weights as without: that is
compared by rows alone. Writes the table oneshot-perplexity.md and
the figure oneshot-perplexity.svg.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from benchmarks.harness import benchmark
from benchmarks.harness.cli import Data, Minutes, Model, Names, Out, Render, named
from benchmarks.harness.one_shot import (
    SETTINGS,
    Calibration,
    Length,
    Task,
    TestWindows,
    resumed,
    whole,
)
from benchmarks.harness.results import RESULTS
from benchmarks.oneshot.methods import METHODS, ONE_DRAW
from benchmarks.oneshot.table import table
from pins.models import smollm2
from pins.oneshot.settings import Settings
from verification import plots

FILE = "oneshot-perplexity.json"
ALL_METHODS, ALL_SETTINGS = ",".join(METHODS), ",".join(SETTINGS)


@dataclass(frozen=True)
class Run:
    """One row: a method in a setting, calibrated on a draw."""

    setting: str
    method: str
    draw: int


def runs(methods: Mapping[str, Any], settings: Mapping[str, Any], draws: int) -> Iterator[Run]:
    """All rows, the first draw of each before the second."""
    for draw in range(draws):
        for setting in settings:
            for method in methods:
                fits = "budget" not in METHODS[method] or "sparsity" in SETTINGS[setting]
                if fits and (draw == 0 or method not in ONE_DRAW):
                    yield Run(setting, method, draw)


def measure(each: Run, shared: Mapping[str, Any], with_dense: bool) -> dict[str, Any]:
    """The fields of one row, from a run over the whole model, and with the losses of the dense."""
    given = {**METHODS[each.method], **SETTINGS[each.setting]}
    if given.pop("budget", False):  # as many products as without
        given["budget"] = f"flops={1 - given.pop('sparsity'):g}"
    settings = Settings(**shared, seed=each.draw, device="cpu", **given)
    with whole(settings, dense=with_dense) as (_run, row):
        return row


def run(
    model: Model = smollm2.NAME,
    task: Task = "wikitext",
    data: Data = None,
    methods: Names = ALL_METHODS,
    settings: Names = ALL_SETTINGS,
    draws: Annotated[int, typer.Option(min=1, help="Draws of the calibration text.")] = 3,
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
            row = measure(each, shared, "dense" not in document)
            if "dense" in row:
                document["dense"] = row.pop("dense")
            return [row]

        chosen = named(methods, METHODS, "method"), named(settings, SETTINGS, "setting")
        benchmark.complete(
            document,
            out / FILE,
            list(runs(*chosen, draws)),
            row_of,
            shows="perplexity {perplexity:.3f}",
            minutes=minutes,
        )
    benchmark.render(
        out,
        FILE,
        table,
        lambda document: plots.one_shot_perplexity(document["rows"], document["dense"]),
    )
