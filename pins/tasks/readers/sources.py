"""Sources of rows: the files of a folder, objects in JSON, splits of a data set on the hub."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pins.errors import TaskError
from pins.tasks.readers.hub import hub_rows
from pins.tasks.readers.tables import Row, defect, file_digests, is_text, read_json, rows_digest

# the branch on the hub with a Parquet copy of a data set that is published as a program
PARQUET = "refs/convert/parquet"


def find(folder: Path, *groups: Sequence[str]) -> Path:
    """The file of a folder whose name is in the first group that has one.

    Raises:
        TaskError: there is no such file, or a group has more than one.
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


def file_names(templates: Sequence[str], *splits: str) -> list[str]:
    """Every template, as "{}.txt", filled with every split."""
    return [template.format(split) for split in splits for template in templates]


def split_of(name: str) -> str:
    """The split that a file, a folder or a split of the hub is named after: test or validation."""
    names = "dev|devel|devset|val|valid|validation|eval|testa"
    held_out = re.search(rf"(?i)(^|[\W_])({names})($|[\W_])", name)
    return "validation" if held_out else "test"


def from_files(files: Sequence[Path], read: Callable[[Path], Sequence[Any]]) -> dict[str, Any]:
    """The fields `train`, `test`, `digests` and `split` of a task, from two files."""
    train, test = map(read, files)
    split = split_of(files[1].name)
    return {"train": train, "test": test, "digests": file_digests(files), "split": split}


def from_hub(
    hub: str,
    read: Callable[[list[Row]], Sequence[Any]],
    *,
    config: str | None = None,
    test: str = "test",
    revision: str | None = None,
) -> dict[str, Any]:
    """The fields `train`, `test`, `digests` and `split` of a task, from two splits on the hub.

    Args:
        hub: id of the data set.
        read: makes the task's rows of the rows of a split, of which each has its place.
        config: as in `hub_rows`.
        test: name of the split for the test rows.
        revision: as in `hub_rows`.

    Raises:
        TaskError: the hub does not give them.
    """
    splits = {}
    for split in ("train", test):
        where = " ".join(part for part in (hub, config, split) if part)
        rows = hub_rows(hub, config, split, revision=revision)
        splits[where] = read(
            [Row(f"{where}, row {number}", values) for number, values in enumerate(rows)]
        )
    digests = {where: rows_digest(rows) for where, rows in splits.items()}
    found = dict(zip(("train", "test"), splits.values(), strict=True))
    return {**found, "digests": digests, "split": split_of(test)}


def read_object(path: Path) -> Row:
    """The object in a JSON file; its place, and the place of each value in it, is a JSONPath.

    Raises:
        TaskError: the file cannot be read, or has no object.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise defect(f"{path}, $", "an object", value)
    return Row(f"{path}, $", value)


def items(row: Row, column: str) -> list[Row]:
    """The objects of the list in a column.

    Raises:
        TaskError: the column has no list of objects.
    """
    return objects(row.values.get(column), f"{row.where}.{column}", column)


def objects(values: object, where: str, name: str) -> list[Row]:
    """The objects of a list in JSON, each with its place.

    Args:
        values: the list.
        where: its place.
        name: what it is, for the message.

    Raises:
        TaskError: it is no list of objects.
    """
    if not isinstance(values, list):
        raise defect(where, f"a list as {name}", values)
    rows = []
    for at, value in enumerate(values):
        if not isinstance(value, dict):
            raise defect(f"{where}[{at}]", "an object", value)
        rows.append(Row(f"{where}[{at}]", value))
    return rows


def texts(row: Row, column: str) -> tuple[str, ...]:
    """The texts of the list in a column.

    Raises:
        TaskError: the column has no list of texts.
    """
    values = row.values.get(column)
    if not isinstance(values, list) or not all(map(is_text, values)):
        raise defect(row.where, f"a list of texts as {column}", values)
    return tuple(values)
