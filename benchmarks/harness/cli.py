"""Command line of the benchmarks: shared options, lists of numbers, errors in one line."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from pins.errors import PinsError, SettingError
from pins.utils.lookup import find

T = TypeVar("T")

Names = Annotated[str, typer.Option(help="Names, separated by commas.")]
Instances = Annotated[str, typer.Option(help="Names of score sets, separated by commas.")]
Seeds = Annotated[int, typer.Option(min=1, help="Number of seeds, from 0.")]
Rounds = Annotated[int, typer.Option(min=1, help="Timed rounds of each method.")]
DefaultRounds = Annotated[int | None, typer.Option(min=1, help="Timed rounds of each method.")]
Device = Annotated[str | None, typer.Option(help="cuda or cpu; default: cuda, if available.")]
Model = Annotated[str, typer.Option(help="A folder or an id of the Hugging Face hub.")]
Data = Annotated[Path | None, typer.Option(help="Folder with glue/SST-2 …; default: the hub.")]
Minutes = Annotated[float | None, typer.Option(help="After these minutes start no further run.")]
Out = Annotated[Path, typer.Option(help="Folder for the results.")]
Render = Annotated[
    bool, typer.Option("--render", help="Only make tables and figure from the results file.")
]


def execute(run: Callable[..., None]) -> None:
    """Run as a command; an error of PINS becomes one line and exit code 2."""
    try:
        typer.run(run)
    except PinsError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        sys.exit(2)


def named(text: str, table: Mapping[str, T], kind: str) -> dict[str, T]:
    """The rows of a table whose names are in an option, separated by commas.

    Raises:
        SettingError: no row has this name.
    """
    return {name: find(table, name, kind, SettingError) for name in text.split(",")}


def numbers(
    text: str, what: str, kind: Callable[[str], Any], allowed: Callable[[Any], bool], like: str
) -> list[Any]:
    """The numbers in an option, separated by commas.

    Args:
        text: the option's value.
        what: the option's name.
        kind: `int` or `float`.
        allowed: whether a number is allowed.
        like: allowed numbers and an example, for the error.

    Raises:
        SettingError: a word is not a number, or a number is not allowed.
    """
    try:
        found = [kind(word) for word in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(map(allowed, found)):
        raise SettingError(f"{what} is {text!r}: give {like}")
    return found
