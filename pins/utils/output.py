"""Where a command prints: for people a console, for machines one JSON object on standard output."""

import errno
import io
import json
import os
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:  # `pins check` prints a line and needs no rich
    from rich.console import Console
    from rich.table import Table

INTERRUPTED = 130  # as shells have it: 128 + SIGINT
JSON_HELP = "Print one JSON object; progress goes to standard error."
STDERR = 2  # the number of standard error among the open files
UNLIMITED = 1 << 14  # columns where nothing limits them; at rich's 80 it would cut tables


class ClosedStream(io.TextIOBase):
    """A standard stream that was closed before the start: an error if anything is written to it."""

    def __init__(self, name: str) -> None:
        """A stream of this name, for its error."""
        self._title = name

    def write(self, text: str) -> int:  # noqa: ARG002 (nothing is written)
        """Raise the error.

        Raises:
            OSError: always.
        """
        raise OSError(
            errno.EBADF, f"{self._title} is closed: send it to a file, or to {os.devnull}"
        )


def prepare_streams() -> None:
    """Let no character and no closed stream stop a command after its work.

    What the encoding of standard output does not have is escaped, as standard error does it.
    """
    if sys.stdout is None or sys.stderr is None:
        # else the next file that is opened takes the number of the closed stream
        while (handle := os.open(os.devnull, os.O_RDWR)) <= STDERR:
            pass
        os.close(handle)
    sys.stdout = ClosedStream("standard output") if sys.stdout is None else sys.stdout
    sys.stderr = ClosedStream("standard error") if sys.stderr is None else sys.stderr
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def discard_unwritten() -> None:
    """Forget what could not be written: the interpreter would try again, and end with 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def require_open() -> None:
    """Raise the error of a closed standard output before the work, not after it."""
    sys.stdout.write("")


def make_console(file: TextIO | None = None) -> "Console":
    """A console as wide as its terminal; in a file or a pipe as wide as what it prints.

    A text is printed as it is: a path may hold what rich would read as markup or as an emoji.
    """
    from rich.console import Console

    stream = sys.stdout if file is None else file
    return Console(
        file=file,
        width=None if stream.isatty() else UNLIMITED,
        markup=False,
        emoji=False,
        highlight=False,
    )


def progress_console(as_json: bool) -> "Console":
    """The console for progress: standard error where standard output holds a JSON object."""
    require_open()
    return make_console(sys.stderr if as_json else None)


def results(rows: Iterable[tuple[str, str]]) -> "Table":
    """A table of names and values."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in rows:
        table.add_row(name, value)
    return table


def score(value: float | None, digits: int = 4) -> str:
    """A score as people read it; JSON has None for one that is not finite."""
    return "not finite" if value is None else f"{value:.{digits}f}"


def stopped(where: str) -> int:
    """Say that a command was stopped from the keyboard and where it can go on; the exit code."""
    make_console(sys.stderr).print(
        f"pins: stopped; the same command with --resume goes on {where}", soft_wrap=True
    )
    return INTERRUPTED


def print_json(document: Mapping[str, Any]) -> None:
    """Print `document` as one JSON object in ASCII, whatever the encoding of the stream."""
    print(json.dumps(document, indent=1, allow_nan=False))  # noqa: T201
