"""What the benchmarks of one-shot pruning share: options, settings, runs over a whole model."""

import gc
import math
import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.harness import benchmark
from benchmarks.harness.markdown import number
from benchmarks.harness.results import Document
from pins.models import smollm2
from pins.models.decoder import Decoder
from pins.oneshot.command import mean_error
from pins.oneshot.run import OneShot
from pins.oneshot.settings import Settings
from pins.oneshot.text import Windows, drawn, plain_text
from pins.tasks import load_task

Calibration = Annotated[int, typer.Option(min=1, help="Windows that calibrate.")]
TestWindows = Annotated[int, typer.Option(min=2, help="Windows that are scored.")]
Length = Annotated[int, typer.Option(min=2, help="Tokens of a window.")]
Task = Annotated[str, typer.Option(help="Whose train text calibrates and test text judges.")]
HALF, TWO_OF_FOUR = "50 % of each row", "2:4"
SETTINGS: Mapping[str, dict[str, Any]] = {
    HALF: {"sparsity": 0.5},
    "60 % of each row": {"sparsity": 0.6},
    "70 % of each row": {"sparsity": 0.7},
    TWO_OF_FOUR: {"pattern": "2:4"},
}
"""What is pruned, as settings of `pins oneshot`."""
DIGITS = 6  # of a window's loss
TIES = (
    "Groups of 32 of its weights lie on 16 levels, so many scores tie, and its numbers compare "
    "with no published perplexity."
)


def methods(*names: str) -> dict[str, dict[str, Any]]:
    """Settings of `pins oneshot` by names such as "wanda", "wanda + refit", "alps + swaps"."""
    parts = {name: name.split(" + ") for name in names}
    return {
        name: {"method": method, **dict.fromkeys(after, True)}
        for name, (method, *after) in parts.items()
    }


def resumed(
    file: Path, model: str, task: str, data: Path | None, **numbers: int
) -> tuple[Document, dict[str, Any]]:
    """A results file to go on with, and the settings of `pins oneshot` that its runs share.

    Args:
        file: of the results.
        model: a folder, which the file knows by its name, or what `pins oneshot` takes.
        task: whose text calibrates and judges.
        data: folder or file with it.
        numbers: of windows, and their length.

    Raises:
        FileError: the file holds results of other settings or versions.
    """
    named = Path(model).name if Path(model).is_dir() else model
    about = {"model": named, "task": task, **numbers}
    paths = {"OUT": file.parent, "DATA": data, named: model}
    document = benchmark.resume(file, benchmark.new_document(about, paths))
    return document, {**about, "model": model, "data": data}


def about(settings: Mapping[str, Any]) -> str:
    """Some sentences about the model of a results file, and the text that calibrates."""
    model = settings["model"]
    return (
        f"{f'{smollm2.ABOUT}. {TIES}' if model == smollm2.NAME else f'{model}.'} Calibrated on "
        f"{settings['calibration']} windows of {settings['length']} tokens of "
        f"{settings['task']}'s train text."
    )


def dense_perplexity(document: Mapping[str, Any]) -> float:
    """exp of the mean loss of the test windows, which score equally many tokens."""
    return math.exp(statistics.fmean(document["dense"]))


def shown(perplexity: float) -> str:
    """A perplexity with two digits after the point below 100."""
    return f"{perplexity:.2f}" if perplexity < 100 else number(perplexity)


def not_measured(known: Iterable[str], measured: Iterable[str]) -> str:
    """A sentence that names the methods without a row; "" if all have one."""
    missing = [name for name in known if name not in {*measured}]
    return f"Not measured: {', '.join(missing)}." if missing else ""


def calibration_windows(
    decoder: Decoder, task: str, data: Path | None, windows: int, length: int
) -> Windows:
    """The first draw of the calibration text."""
    loaded = load_task(task, data)
    return drawn(plain_text(loaded, loaded.train), decoder.tokenizer, length, windows, seed=0)


@contextmanager
def whole(settings: Settings, *, dense: bool) -> Iterator[tuple[OneShot, dict[str, Any]]]:
    """A run over the whole model, and the fields of its row; its folder is removed afterwards.

    Args:
        settings: of the run.
        dense: pass the texts through the dense model too; the row has its `dense` losses.
    """
    gc.collect()  # the run before has reference cycles, and this one needs its memory
    start, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        run = OneShot(settings, Path(folder) / "out")
        run.folder.begin(settings.as_json(), resume=False)
        for _ in run.errors() if run.levels else ():
            pass
        if settings.budget is not None:
            run.choose()
        if run.decides:
            run.decide()
        layers = [each for report in run.blocks(dense=dense) for each in report["layers"].values()]
        losses = run.losses()
        yield (
            run,
            {
                "perplexity": run.perplexity(losses["sparse"]),
                "relative_error": mean_error(run.reports),
                "kept": sum(layer["kept"] for layer in layers),
                "total": sum(layer["total"] for layer in layers),
                "losses": [round(loss, DIGITS) for loss in losses["sparse"]],
                "seconds": round(time.perf_counter() - start, 1),
                "cpu": round(time.process_time() - cpu, 1),
                "load": round(os.getloadavg()[0], 1),
                **({"dense": [round(loss, DIGITS) for loss in losses["dense"]]} if dense else {}),
            },
        )
