"""What the benchmarks of one-shot pruning share: options, settings, and words about the model."""

from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.harness.results import Paths
from pins.models import smollm2

Calibration = Annotated[int, typer.Option(min=1, help="Windows that calibrate.")]
TestWindows = Annotated[int, typer.Option(min=2, help="Windows that are scored.")]
Length = Annotated[int, typer.Option(min=2, help="Tokens of a window.")]
Task = Annotated[str, typer.Option(help="Whose train text calibrates and test text judges.")]
TIES = (
    "Groups of 32 of its weights lie on 16 levels, so many scores tie, and its numbers compare "
    "with no published perplexity."
)


def describe_text(model: str, task: str, **numbers: int) -> tuple[dict[str, Any], Paths]:
    """Settings that identify model and windows, and the path to replace: a folder by its name."""
    named = Path(model).name if Path(model).is_dir() else model
    return {"model": named, "task": task, **numbers}, {named: model}


def about(model: str) -> str:
    """A sentence or two about the model of a results file."""
    return f"{smollm2.ABOUT}. {TIES}" if model == smollm2.NAME else f"{model}."
