"""Results files as the claims read them: kinds, what a row of each must hold, reading them.

    loss_decrease-NAME.json   one pruning decision: the loss after it, by criterion and fraction
    end_accuracy.json         gradual pruning: the score after it, by method and sparsity
    overhead-DEVICE.json      whole training steps: seconds and peak memory, by variant

They are written by `benchmarks`, which this package cannot import. What they say is believed; only
what cannot be read as such a file is refused.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pins.errors import FileError

Row = Mapping[str, Any]
Test = Callable[[Any], bool]


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _ratio(value: Any) -> bool:
    return _number(value) and 0 <= value <= 1


def _finite(value: Any) -> bool:
    return _number(value) and math.isfinite(value)


def _positive(value: Any) -> bool:
    return _finite(value) and value > 0


def _seconds(value: Any) -> bool:
    return value is None or (isinstance(value, list) and bool(value) and all(map(_positive, value)))


def _bytes(value: Any) -> bool:
    return value is None or _positive(value)


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of results files.

    Attributes:
        pattern: of their names.
        command: that writes them.
        fields: of each row, with what their values must be.
        measured: likewise, of the rows without an "error".
        key: the fields by which a row is told from every other.
    """

    pattern: str
    command: str
    fields: Mapping[str, Test]
    measured: Mapping[str, Test]
    key: tuple[str, ...]


LOSS_DECREASE = Kind(
    "loss_decrease-*.json",
    "python -m benchmarks.loss_decrease",
    {"seed": _integer, "criterion": _text, "fraction": _ratio},
    {"measured": _number, "measured_unseen": _number},  # NaN where a model was destroyed
    ("seed", "criterion", "fraction"),
)
END_ACCURACY = Kind(
    "end_accuracy.json",
    "python -m benchmarks.end_accuracy",
    {
        "task": _text,
        "seed": _integer,
        "method": _text,
        "sparsity": _ratio,
        "self_regularization": _flag,
    },
    {
        "metric": _text,
        "score": _number,
        "test_rows": lambda value: _integer(value) and value > 0,
    },
    ("task", "seed", "method", "sparsity", "self_regularization"),
)
OVERHEAD = Kind(
    "overhead-*.json",
    "python -m benchmarks.overhead",
    {"network": _text, "precision": _text, "variant": _text, "device": _text},
    {"seconds": _seconds, "peak_bytes": _bytes},
    ("network", "precision", "variant"),
)
KINDS = (LOSS_DECREASE, END_ACCURACY, OVERHEAD)


@dataclass(frozen=True)
class Results:
    """The rows of one results file, each of them as its kind says.

    Attributes:
        name: of the file, without what all of its kind have in common.
        rows: those that were measured.
        failed: those of runs that failed.
    """

    name: str
    rows: tuple[Row, ...]
    failed: tuple[Row, ...] = ()


ByKind = Mapping[Kind, Sequence[Results]]


def read_folder(folder: Path) -> ByKind:
    """Every results file in the folder by its kind; files of other names are passed over.

    Raises:
        FileError: it is no folder, or one of the files is damaged.
    """
    if not folder.is_dir():
        raise FileError(f"{folder} is not a folder: give one with results files")
    return {kind: [read(kind, f) for f in sorted(folder.glob(kind.pattern))] for kind in KINDS}


def read(kind: Kind, file: Path) -> Results:
    """The results in a file.

    Raises:
        FileError: it cannot be read, or is no file of that kind.
    """
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(
            f"{file} is not a results file: {error}: run `{kind.command}` again"
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
        FileError: a row is not one of that kind, or stands there twice; the message begins with
            `where`.
    """
    measured: list[Row] = []
    failed: list[Row] = []
    seen = set()
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise FileError(f"{where}: row {number} is {row!r:.60}, not an object")
        tests = kind.fields if "error" in row else {**kind.fields, **kind.measured}
        for field, test in tests.items():
            if field not in row:
                raise FileError(f"{where}: row {number} has no {field!r}")
            if not test(row[field]):
                raise FileError(f"{where}: row {number} has {field!r} {row[field]!r:.60}")
        key = tuple(row[field] for field in kind.key)
        if key in seen:
            raise FileError(f"{where}: row {number} is there twice: {key}")
        seen.add(key)
        (failed if "error" in row else measured).append(row)
    return Results(name, tuple(measured), tuple(failed))
