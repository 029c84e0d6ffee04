"""Results files: JSON with rows, settings, versions and machine."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pins.errors import FileError, first_line
from pins.utils.text_files import parse_json, read_text

T = TypeVar("T")

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


def grouped(rows: Sequence[Row], *fields: str) -> dict[tuple[Any, ...], list[Row]]:
    """Rows by the values of some fields, in the order in which the values occur."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[field] for field in fields), []).append(row)
    return groups


def summarized(
    rows: Sequence[Row], fields: Sequence[str], summary: Callable[[list[Row]], Row]
) -> list[dict[str, Any]]:
    """One row for each group of rows that agree in `fields`: these, and the group's summary."""
    groups = grouped(rows, *fields).items()
    return [{**dict(zip(fields, key, strict=True)), **summary(group)} for key, group in groups]


def without_paths(text: str, paths: Paths) -> str:
    """The text with each path replaced by its name in `paths`, the longest path first."""
    for name, path in sorted(paths.items(), key=lambda item: -len(str(item[1]))):
        if path is not None and str(path) not in ("", "."):
            text = text.replace(str(path), name)
    return text


def describe(error: BaseException) -> str:
    """The error in one line."""
    return f"{type(error).__name__}: {first_line(error)}"


def attempt(work: Callable[..., T], *arguments: Any) -> T | str:
    """The result of work(*arguments); the text of its error if it failed: a failure is a result."""
    try:
        return work(*arguments)
    except Exception as error:
        return describe(error)


def outcome(found: Row | str) -> dict[str, Any]:
    """Fields of a row: the measured ones and no error, or the text of the error alone."""
    return {"error": found} if isinstance(found, str) else {"error": None, **found}
