"""Where a command prints: for people a console, for machines one JSON object on standard output."""

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:  # `pins check` prints a line and needs no rich
    from rich.console import Console

JSON_HELP = "Print one JSON object; progress goes to standard error."
UNLIMITED = 1 << 14  # columns where nothing limits them; at rich's 80 it would cut tables


def make_console(file: TextIO | None = None) -> "Console":
    """A console as wide as its terminal; in a file or a pipe as wide as what it prints."""
    from rich.console import Console

    stream = sys.stdout if file is None else file
    return Console(file=file, width=None if stream.isatty() else UNLIMITED)


def progress_console(as_json: bool) -> "Console":
    """The console for progress: standard error where standard output holds a JSON object."""
    return make_console(sys.stderr if as_json else None)


def print_json(document: Mapping[str, Any]) -> None:
    """Print `document` as one JSON object in ASCII, whatever the encoding of the stream."""
    print(json.dumps(document, indent=1, allow_nan=False))  # noqa: T201
