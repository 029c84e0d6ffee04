"""Where rows come from: the files of a folder, the objects in their JSON, the splits of the hub."""

from collections.abc import Sequence
from pathlib import Path

from pins.errors import TaskError
from pins.tasks.readers.hub import hub_rows
from pins.tasks.readers.tables import Row, defect, read_json, rows_digest

# the branch with the hub's own copy, in Parquet, of a data set that is published as a program
PARQUET = "refs/convert/parquet"


def find(folder: Path, *groups: Sequence[str]) -> Path:
    """The file of a folder with a name of the first group; of the next where there is none, &c.

    Raises:
        TaskError: there is none, or a group has more than one.
    """
    for names in groups:
        found = [folder / name for name in names if (folder / name).exists()]
        if len(found) > 1:
            files = " and ".join(file.name for file in found)
            raise TaskError(f"{folder} holds {files}, both for the same rows: keep one of them")
        if found:
            return found[0]
    wanted = ", ".join(name for names in groups for name in names)
    raise TaskError(f"{folder} holds none of {wanted}: give the folder of the original files")


def split_rows(hub: str, split: str, *, revision: str | None = None) -> list[Row]:
    """The rows of one split of a data set on the hub, each with its place.

    Raises:
        TaskError: the hub does not give them.
    """
    rows = hub_rows(hub, None, split, revision=revision)
    return [Row(f"{hub} {split}, row {number}", values) for number, values in enumerate(rows)]


def split_digests(hub: str, **splits: Sequence[object]) -> dict[str, str]:
    """The SHA-256 of the rows of each split of a data set on the hub."""
    return {f"{hub} {split}": rows_digest(rows) for split, rows in splits.items()}


def read_object(path: Path) -> Row:
    """The object that a JSON file holds; its place, and that of all in it, is a JSONPath.

    Raises:
        TaskError: the file cannot be read, or is something else.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise defect(f"{path}, $", "an object", value)
    return Row(f"{path}, $", value)


def read_objects(path: Path) -> list[Row]:
    """The objects in the list that a JSON file holds.

    Raises:
        TaskError: the file cannot be read, or is something else.
    """
    return _objects(read_json(path), f"{path}, $", "the file")


def items(row: Row, column: str) -> list[Row]:
    """The objects in the list that stands in a column.

    Raises:
        TaskError: something else stands there.
    """
    return _objects(row.values.get(column), f"{row.where}.{column}", column)


def _objects(values: object, where: str, name: str) -> list[Row]:
    if not isinstance(values, list):
        raise defect(where, f"a list as {name}", values)
    rows = []
    for at, value in enumerate(values):
        if not isinstance(value, dict):
            raise defect(f"{where}[{at}]", "an object", value)
        rows.append(Row(f"{where}[{at}]", value))
    return rows


def texts(row: Row, column: str) -> tuple[str, ...]:
    """The texts in the list that stands in a column.

    Raises:
        TaskError: something else stands there.
    """
    values = row.values.get(column)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise defect(row.where, f"a list of texts as {column}", values)
    return tuple(values)
