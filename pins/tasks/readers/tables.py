"""Strict readers of data files: TSV, CSV, JSON, plain text.

Files are UTF-8, with or without a byte-order mark; lines end in LF or CR LF. Nothing is guessed,
repaired or skipped: every defect is a `TaskError` that names the file, the line, what was expected
and what came.
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from pins.errors import TaskError, first_line
from pins.utils import io as files
from pins.utils.text_files import SHOWN, fault, parse_json, shown


@dataclass(frozen=True)
class Row:
    """One row: its values by column, and its place for messages.

    Attributes:
        where: the place, as `RTE/dev.tsv, line 7`.
        values: strings from a file, anything from the hub.
    """

    where: str
    values: Mapping[str, Any]

    def text(self, column: str) -> str:
        """The string in a column; it may be empty.

        Raises:
            TaskError: the row has no string there.
        """
        value = self.values.get(column)
        if not is_text(value):
            raise defect(self.where, f"a text as {column}", value)
        return str(value)

    def choice(self, column: str, names: Sequence[str]) -> int:
        """The index in `names` of the value in a column.

        Raises:
            TaskError: the value is not in `names`.
        """
        value = self.values.get(column)
        if value not in names:
            raise defect(self.where, f"{' or '.join(names)} as {column}", value)
        return names.index(value)

    def number(self, column: str, low: float, high: float) -> float:
        """The number in [low, high] in a column.

        Raises:
            TaskError: the value is not a number in that range.
        """
        value = self.values.get(column)
        try:
            number = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not low <= number <= high:
            raise defect(self.where, f"a number from {low:g} to {high:g} as {column}", value)
        return number


@dataclass(frozen=True)
class Table:
    """The rows of a file.

    Attributes:
        rows: those with as many fields as the header.
        left_out: lines of tolerated rows with another number of fields.
    """

    rows: tuple[Row, ...]
    left_out: tuple[int, ...] = ()


def defect(where: str, expected: str, came: object) -> TaskError:
    """The error to raise if a place has something else than expected."""
    return TaskError(
        f"{where}: expected {expected}, came {shown(came)}: give the original file, whole"
    )


def is_text(value: object) -> bool:
    """Whether a value is a string that UTF-8 can hold; in JSON half a character can be written."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a text file, one by one, without their ends.

    Raises:
        TaskError: no such file, of another kind, empty, not UTF-8, or with a NUL.
    """
    if cause := fault(path):
        raise TaskError(f"{path} {cause}: give the folder of the original files")
    line = 0
    try:
        with path.open("rb") as file:
            for line, raw in enumerate(file, start=1):
                if b"\0" in raw:
                    raise TaskError(
                        f"{path}, line {line}: expected text, came a NUL (a byte 0): give the "
                        "original file, whole"
                    )
                yield raw.decode("utf-8-sig" if line == 1 else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        came = f"the byte 0x{error.object[error.start]:02x}"
        raise TaskError(
            f"{path}, line {line}: expected UTF-8, came {came}: give the original file, whole; "
            "convert one in Latin-1: iconv -f latin1 -t utf-8"
        ) from error
    except OSError as error:
        raise TaskError(
            f"{path} cannot be read ({error.strerror or error}): give the folder of the original "
            "files"
        ) from error
    if line == 0:
        raise TaskError(f"{path} is empty: give the original file, whole")


def read_text(path: Path) -> str:
    """A whole text file, each line of it ended by one LF.

    Raises:
        TaskError: no such file, empty, or not UTF-8.
    """
    return "".join(f"{line}\n" for line in read_lines(path))


def read_tsv(
    path: Path,
    columns: Sequence[str],
    *,
    header: Sequence[str] | None = None,
    torn_per_thousand: int = 0,
) -> Table:
    """The rows of a file whose fields are separated by tabs and never quoted (`csv.QUOTE_NONE`).

    Blank lines are not rows.

    Args:
        path: of the file.
        columns: the columns to keep.
        header: names of all columns if the first line is a row; default: the first line.
        torn_per_thousand: how many in 1,000 rows may have another number of fields than the header.
            They are left out and listed. The last row must not be torn: such a file was cut off.

    Raises:
        TaskError: the file cannot be read, lacks a column, has no rows, or has torn ones.
    """
    fields = ((number, line.split("\t")) for number, line in enumerate(read_lines(path), 1) if line)
    return _table(path, fields, columns, header, torn_per_thousand)


def read_csv(path: Path, columns: Sequence[str]) -> Table:
    """The rows of a file whose fields are separated by commas, and quoted if they hold a comma.

    A quoted field may hold line breaks. Blank lines are not rows; the first line is the header.

    Raises:
        TaskError: the file cannot be read, lacks a column, has no rows, or has torn ones.
    """
    return _table(path, _csv_fields(path), columns, None, 0)


def _csv_fields(path: Path) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    start = 1
    try:
        for fields in reader:
            if fields:
                yield start, fields
            start = reader.line_num + 1
    except csv.Error as error:
        raise defect(f"{path}, line {start}", "a row of a CSV file", str(error)) from error


def _table(
    path: Path,
    lines: Iterator[tuple[int, list[str]]],
    columns: Sequence[str],
    header: Sequence[str] | None,
    torn_per_thousand: int,
) -> Table:
    number, names = (0, header) if header else next(lines, (1, []))
    for column in columns:
        if names.count(column) != 1:
            raise defect(f"{path}, line {number}", f"one column {column!r}", ", ".join(names))
    places = {column: names.index(column) for column in columns}
    rows, torn = [], []
    for number, fields in lines:
        if len(fields) == len(names):
            values = {column: fields[place] for column, place in places.items()}
            rows.append(Row(f"{path}, line {number}", values))
        else:
            torn.append((number, len(fields)))
    # a torn last row: the file was cut off
    cut_off = torn[-1:] if torn and torn[-1][0] == number else []
    if cut_off or 1000 * len(torn) > torn_per_thousand * (len(rows) + len(torn)):
        line, count = (cut_off or torn)[0]
        raise defect(f"{path}, line {line}", f"{len(names)} fields", count)
    if not rows:
        raise TaskError(f"{path} has a header and no rows: give the original file, whole")
    return Table(tuple(rows), tuple(line for line, _ in torn))


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
        TaskError: the file cannot be read, or is not JSON.
    """
    text = read_text(path)
    try:
        return parse_json(text)
    except json.JSONDecodeError as error:
        came = text[error.pos : error.pos + SHOWN].strip() or "the end of the file"
        raise defect(f"{path}, line {error.lineno}", f"JSON ({error.msg})", came) from error
    except ValueError as error:
        raise TaskError(f"{path} is no JSON: {first_line(error)}") from error


def file_digests(paths: Iterable[Path]) -> dict[str, str]:
    """The SHA-256 of each file, by file name."""
    return {path.name: files.sha256(path) for path in paths}


def rows_digest(rows: Iterable[object]) -> str:
    """The SHA-256 of the printed form of rows that are in no file."""
    digest = sha256()
    for row in rows:
        digest.update(f"{row!r}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
