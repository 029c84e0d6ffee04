"""Reconstruction errors of single layers by every method that reads a Gram matrix.

    python -m benchmarks.oneshot_layers --data ../wikitext-2 [--blocks 0,14,29]

The layers of a few blocks are pruned from what they read in the dense model, so that all methods
get the same Gram matrices. A row of oneshot-layers.json is one method on one block in one setting,
written as soon as it is done: an interrupted benchmark continues with what is missing. Writes the
table oneshot-layers.md.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
import typer

from benchmarks.harness import benchmark
from benchmarks.harness.cli import Data, Model, Names, Out, Render, named, numbers
from benchmarks.harness.one_shot import SETTINGS, Calibration, Length, Task, resumed
from benchmarks.harness.results import RESULTS
from benchmarks.oneshot_layers.inputs import captured
from benchmarks.oneshot_layers.table import MEASURED, METHODS, table
from pins.models import smollm2
from pins.oneshot.layer import Layer
from pins.oneshot.pruned_layer import pruned_layer
from pins.oneshot.settings import Settings

FILE = "oneshot-layers.json"
ALL_METHODS, BOTH_SETTINGS = ",".join(METHODS), ",".join(MEASURED)


@dataclass(frozen=True)
class Run:
    """One row: a method on the layers of a block."""

    block: int
    setting: str
    method: str


def runs(blocks: Sequence[int], settings: Sequence[str], methods: Sequence[str]) -> Iterator[Run]:
    """All rows, block by block."""
    for block in blocks:
        for setting in settings:
            for method in methods:
                yield Run(block, setting, method)


def measure(run: Run, layers: Mapping[str, Layer]) -> dict[str, Any]:
    """The fields of one row: relative errors by layer, swaps of all layers, and seconds."""
    settings = Settings(model="", **METHODS[run.method], **SETTINGS[run.setting])
    level, start = settings.level(), time.process_time()
    pruned = {n: pruned_layer(each, settings, level, torch.float32) for n, each in layers.items()}
    cpu = time.process_time() - start
    return {
        "relative_errors": {
            name: layer.relative_error(pruned[name].weight) for name, layer in layers.items()
        },
        "swaps": sum(each.report["swaps"] for each in pruned.values()) if settings.swaps else None,
        "cpu": round(cpu, 2),
        "load": round(os.getloadavg()[0], 1),
    }


def run(
    model: Model = smollm2.NAME,
    task: Task = "wikitext",
    data: Data = None,
    blocks: Annotated[str, typer.Option(help="Numbers of blocks, from 0.")] = "0,14,29",
    methods: Names = ALL_METHODS,
    settings: Names = BOTH_SETTINGS,
    calibration: Calibration = 32,
    length: Length = 512,
    out: Out = RESULTS,
    render_only: Render = False,
) -> None:
    """Measure what the results file does not hold yet."""
    if not render_only:
        chosen = numbers(blocks, "blocks", int, lambda number: number >= 0, "numbers like 0,14")
        windows = {"calibration": calibration, "length": length}
        document, _shared = resumed(out / FILE, model, task, data, **windows)
        wanted = runs(
            chosen, [*named(settings, SETTINGS, "setting")], [*named(methods, METHODS, "method")]
        )

        def row_of(each: Run) -> list[dict[str, Any]]:
            layers = captured(model, task, data, calibration, length, tuple(chosen))
            return [measure(each, layers[each.block])]

        benchmark.complete(document, out / FILE, list(wanted), row_of, shows="{cpu:.1f} s")
    benchmark.render(out, FILE, table)
