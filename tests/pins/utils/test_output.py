"""What is printed is what was said: no markup of others, and no encoding that stops a command."""

import io
import sys

import pytest
from rich.console import Console
from rich.table import Table

from pins.utils.output import ClosedStream, make_console, prepare_streams, require_open

ODD = "a[/b] [red]c[/red] :heart: 12 [bold"


def printed(console: Console, stream: io.StringIO) -> str:
    table = Table(title=ODD)
    table.add_column(ODD)
    table.add_row(ODD)
    console.print(table)
    console.print(ODD)
    return stream.getvalue()


def test_a_text_from_outside_is_printed_as_it_is() -> None:
    stream = io.StringIO()
    assert printed(make_console(stream), stream).count(ODD) == 4
    usual = io.StringIO()
    with pytest.raises(Exception, match="closing tag"):
        printed(Console(file=usual, width=200), usual)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_what_an_encoding_does_not_have_is_escaped(
    monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    bytes_ = io.BytesIO()
    stream = io.TextIOWrapper(bytes_, encoding)
    text = "λ a\udcff"  # a path with a byte that is no UTF-8 has such a letter
    with pytest.raises(UnicodeEncodeError):
        stream.write(text)
    monkeypatch.setattr(sys, "stdout", stream)
    prepare_streams()
    make_console().print(text)
    stream.flush()
    wanted = text.encode(encoding, "backslashreplace")
    assert bytes_.getvalue() == wanted + b"\n"


def test_a_closed_stream_is_an_error_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    require_open()
    monkeypatch.setattr(sys, "stdout", ClosedStream("standard output"))
    with pytest.raises(OSError, match="standard output is closed: send it to a file"):
        require_open()
    with pytest.raises(OSError, match="standard output is closed"):
        make_console().print("text")
