"""What the benchmarks of one-shot pruning share: settings, methods, options, words of the model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.harness.results import Paths
from pins.models import smollm2

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


def describe_text(model: str, task: str, **numbers: int) -> tuple[dict[str, Any], Paths]:
    """Settings that identify model and windows, and the path to replace: a folder by its name."""
    named = Path(model).name if Path(model).is_dir() else model
    return {"model": named, "task": task, **numbers}, {named: model}


def about(model: str) -> str:
    """A sentence or two about the model of a results file."""
    return f"{smollm2.ABOUT}. {TIES}" if model == smollm2.NAME else f"{model}."
