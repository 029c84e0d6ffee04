"""Results files that the claims read: the kinds, the fields of a row, and reading with checks.

    loss_decrease-NAME.json   one pruning decision: the loss after it, by criterion and fraction
    end_accuracy.json         gradual pruning: the score after it, by method and sparsity
    overhead-DEVICE.json      whole training steps: seconds and peak memory, by variant

`benchmarks` writes them; this package cannot import it. Their numbers are believed; a file that is
not of its kind is refused.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pins.errors import FileError, first_line
from pins.utils.text_files import parse_json, read_text, shown

Row = Mapping[str, Any]
Check = Callable[[Any], bool]
"""Whether a JSON value is allowed."""


def _of(*types: type, least: float = -math.inf, most: float = math.inf) -> Check:
    """A value of one of these types (a bool is no int); finite and in [least, most] if given.

    Integers are less than 2⁶³ in size: a larger one is no result, and no float either.
    """
    bounded = (least, most) != (-math.inf, math.inf)

    def check(value: Any) -> bool:
        return (
            type(value) in types
            and (not bounded or least <= value <= most)
            and (type(value) is not int or abs(value) < 2**63)
        )

    return check


TEXT, FLAG, INTEGER, NUMBER = _of(str), _of(bool), _of(int), _of(int, float)
RATIO = _of(int, float, least=0, most=1)
POSITIVE = _of(int, float, least=math.ulp(0), most=math.nextafter(math.inf, 0))


def _seconds(value: Any) -> bool:
    return value is None or (type(value) is list and bool(value) and all(map(POSITIVE, value)))


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of results files.

    Attributes:
        pattern: of their names.
        command: writes them.
        fields: field → check, for each row.
        measured: likewise, for the rows without an "error".
        key: the fields that identify a row.
    """

    pattern: str
    command: str
    fields: Mapping[str, Check]
    measured: Mapping[str, Check]
    key: tuple[str, ...]


LOSS_DECREASE = Kind(
    "loss_decrease-*.json",
    "python -m benchmarks.loss_decrease",
    {"seed": INTEGER, "criterion": TEXT, "fraction": RATIO},
    {"measured": NUMBER, "measured_unseen": NUMBER},  # NaN if the model was destroyed
    ("seed", "criterion", "fraction"),
)
END_ACCURACY = Kind(
    "end_accuracy.json",
    "python -m benchmarks.end_accuracy",
    {"task": TEXT, "seed": INTEGER, "method": TEXT, "sparsity": RATIO, "self_regularization": FLAG},
    {"metric": TEXT, "score": NUMBER, "test_rows": _of(int, least=1)},
    ("task", "seed", "method", "sparsity", "self_regularization"),
)
OVERHEAD = Kind(
    "overhead-*.json",
    "python -m benchmarks.overhead",
    {"network": TEXT, "precision": TEXT, "variant": TEXT, "device": TEXT},
    {"seconds": _seconds, "peak_bytes": lambda value: value is None or POSITIVE(value)},
    ("network", "precision", "variant"),
)
KINDS = (LOSS_DECREASE, END_ACCURACY, OVERHEAD)


@dataclass(frozen=True)
class Results:
    """The checked rows of one results file.

    Attributes:
        name: the part of the file's name that its kind does not fix.
        rows: the rows that were measured.
        failed: the rows of runs that failed.
    """

    name: str
    rows: tuple[Row, ...]
    failed: tuple[Row, ...] = ()


ByKind = Mapping[Kind, Sequence[Results]]


def read_folder(folder: Path) -> ByKind:
    """Every results file in the folder by its kind; ignores files with other names.

    Raises:
        FileError: it is not a folder, or a file is damaged.
    """
    if not folder.is_dir():
        raise FileError(f"{folder} is not a folder: give one with results files")
    return {kind: [read(kind, f) for f in sorted(folder.glob(kind.pattern))] for kind in KINDS}


def read(kind: Kind, file: Path) -> Results:
    """The results in a file.

    Raises:
        FileError: it cannot be read, or is not of that kind.
    """
    try:
        document = parse_json(read_text(file))
    except (FileError, ValueError) as error:
        cause = first_line(error).removeprefix(f"{file} ")
        raise FileError(
            f"{file} is not a results file: {cause}: run `{kind.command}` again"
        ) from error
    rows = document.get("rows") if isinstance(document, dict) else None
    if not isinstance(rows, list):
        raise FileError(f"{file} is not a results file: it holds no rows: run `{kind.command}`")
    before, any_, after = kind.pattern.partition("*")
    name = file.name.removeprefix(before).removesuffix(after) if any_ else file.stem
    return results(kind, name, rows, str(file))


def results(kind: Kind, name: str, rows: Iterable[Any], where: str) -> Results:
    """The rows as results of that kind.

    Raises:
        FileError: a row is not of that kind, or occurs twice; the message begins with `where`.
    """
    measured: list[Row] = []
    failed: list[Row] = []
    seen = set()
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise FileError(f"{where}: row {number} is {shown(row)}, not an object")
        checks = kind.fields if "error" in row else {**kind.fields, **kind.measured}
        for field, allowed in checks.items():
            if field not in row:
                raise FileError(f"{where}: row {number} has no {field!r}")
            if not allowed(row[field]):
                raise FileError(f"{where}: row {number} has {field!r} {shown(row[field])}")
        key = tuple(row[field] for field in kind.key)
        if key in seen:
            raise FileError(f"{where}: row {number} is there twice: {shown(key)}")
        seen.add(key)
        (failed if "error" in row else measured).append(row)
    return Results(name, tuple(measured), tuple(failed))
