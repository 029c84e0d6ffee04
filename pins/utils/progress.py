"""How far a command is: bars on a terminal; elsewhere lines, which a log can hold."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

PARTS = 10  # of a phase, with a line at the end of each


class Advance(Protocol):
    """One unit of a phase is done."""

    def __call__(self, note: str = "") -> None:
        """Say so, with what else is to be seen beside it: a loss, a score."""


class Progress:
    """The phases of a command, as they pass: a bar each on a terminal, elsewhere lines.

    A line has the phase's name, how much of it is done in per cent, and its seconds so far. There
    is one at the start of a phase and one at each tenth.
    """

    def __init__(self, console: Console, *, transient: bool = False) -> None:
        """Nothing is shown before the first phase.

        Args:
            console: to print on.
            transient: bars disappear at the end.
        """
        self._console = console
        self._bars = Bars(
            TextColumn("{task.description:28}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
            transient=transient,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> "Progress":
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    @contextmanager
    def phase(self, name: str, total: int | None = None, *, done: int = 0) -> Iterator[Advance]:
        """A phase of the command; call what it yields once for each unit that is done.

        Args:
            name: of the phase.
            total: the number of units; None: the phase is done when its block is.
            done: units that were done before, as in a run that goes on.
        """
        start, units = time.perf_counter(), total or 1
        bar = self._bars.add_task(name, total=total, completed=done, note="")

        def line(note: str = "") -> None:
            if not self._console.is_terminal:
                seconds = time.perf_counter() - start
                said = f"{name:28} {100 * done // units:3} % {seconds:5.0f} s  {note}"
                self._console.print(said.rstrip())

        def advance(note: str = "") -> None:
            nonlocal done
            done += 1
            self._bars.update(bar, completed=done, note=note)
            if PARTS * done // units > PARTS * (done - 1) // units:
                line(note)

        line()
        yield advance
        self._bars.update(bar, total=units, completed=units)
        if done < units:
            done = units
            line()
