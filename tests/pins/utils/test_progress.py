"""What a command shows while it works, on a terminal and elsewhere."""

import io
import re

import pytest
from rich.console import Console
from rich.table import Table

from pins.utils.output import make_console
from pins.utils.progress import Progress


def lines_of(stream: io.StringIO) -> list[str]:
    return [re.sub(r" +", " ", line) for line in stream.getvalue().splitlines()]


def test_a_pipe_gets_a_line_for_each_phase_and_each_tenth_of_it() -> None:
    stream = io.StringIO()
    with Progress(make_console(stream)) as progress:
        with progress.phase("fine-tune", 20) as advance:
            assert lines_of(stream) == ["fine-tune 0 % 0 s"]  # when it starts
            for step in range(20):
                advance(f"loss {step}")
        with progress.phase("check [x]"):
            pass
    assert lines_of(stream) == [
        "fine-tune 0 % 0 s",
        *(f"fine-tune {10 * tenth} % 0 s loss {2 * tenth - 1}" for tenth in range(1, 11)),
        "check [x] 0 % 0 s",
        "check [x] 100 % 0 s",
    ]


def test_a_phase_of_few_units_or_of_some_that_are_done_has_no_more_lines_than_that() -> None:
    stream = io.StringIO()
    with Progress(make_console(stream)) as progress:
        with progress.phase("three", 3) as advance:
            for _ in range(3):
                advance()
        with progress.phase("goes on", 4, done=2) as advance:
            advance()
    assert [line.rpartition(" %")[0] for line in lines_of(stream)] == [
        *("three 0", "three 33", "three 66", "three 100"),
        *("goes on 50", "goes on 75", "goes on 100"),
    ]


def test_a_phase_that_fails_is_not_said_to_be_done() -> None:
    stream = io.StringIO()
    with (
        pytest.raises(ZeroDivisionError),
        Progress(make_console(stream)) as progress,
        progress.phase("divide", 2),
    ):
        raise ZeroDivisionError
    assert lines_of(stream) == ["divide 0 % 0 s"]


def test_a_terminal_gets_a_bar_and_no_lines() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100, _environ={"TERM": "xterm"})
    with Progress(console) as progress, progress.phase("fine-tune", 20) as advance:
        for _ in range(20):
            advance()
    assert "20/20" in stream.getvalue()
    assert " 50 %" not in stream.getvalue()


def test_tables_in_a_pipe_are_whole() -> None:
    table = Table(*(f"criterion-{number}" for number in range(40)))
    table.add_row(*(f"{'9' * 30}{number}" for number in range(40)))
    stream = io.StringIO()
    make_console(stream).print(table)
    assert "…" not in stream.getvalue()
    for number in range(40):
        assert f"criterion-{number}" in stream.getvalue()
        assert f"{'9' * 30}{number}" in stream.getvalue()
    assert len({len(line) for line in stream.getvalue().splitlines()}) == 1  # no line is wrapped
