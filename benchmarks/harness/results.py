"""Results files: JSON with rows, settings, versions and machine."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pins.errors import FileError, first_line
from pins.utils.text_files import parse_json, read_text

RESULTS = Path(__file__).parents[1] / "results"

Row = Mapping[str, Any]
Document = dict[str, Any]
Paths = Mapping[str, Path | str | None]


def read(file: Path) -> Document:
    """The document in a results file.

    Raises:
        FileError: the file does not exist, or is not a JSON object with rows.
    """
    try:
        document = parse_json(read_text(file))
    except (FileError, ValueError) as error:
        cause = first_line(error).removeprefix(f"{file} ")
        raise FileError(f"{file} is not a results file: {cause}") from error
    if not isinstance(document, dict) or not isinstance(document.get("rows"), list):
        raise FileError(f"{file} is not a results file: it holds no rows")
    return document


def measured_files(folder: Path, pattern: str) -> list[Path]:
    """The results files whose names match the pattern.

    Raises:
        FileError: no file matches.
    """
    files = sorted(folder.glob(pattern))
    if not files:
        raise FileError(f"{folder} holds no {pattern}: measure first")
    return files


def grouped(rows: Sequence[Row], *fields: str) -> dict[tuple[Any, ...], list[Row]]:
    """Rows by the values of some fields, in the order in which these occur."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[field] for field in fields), []).append(row)
    return groups


def without_paths(text: str, paths: Paths) -> str:
    """The text with each path replaced by its name in `paths`, the longest path first."""
    for name, path in sorted(paths.items(), key=lambda item: -len(str(item[1]))):
        if path is not None and str(path) not in ("", "."):
            text = text.replace(str(path), name)
    return text


def describe(error: BaseException) -> str:
    """The error in one line."""
    return f"{type(error).__name__}: {first_line(error)}"
