"""The error table: for each layer its options, each with a level, errors and costs.

    {"format": "pins-error-table", "version": 1,
     "layers": [{"name": "…", "dense": {"bytes": 2000},
                 "options": [{"level": 0.5, "error": 0.01, "bytes": 1100, …}, …]}, …]}

A level is a string or a number, such as "2:4" or the sparsity 0.5, and no layer has one twice.
`error` is the relative reconstruction error, `absolute_error` and `loss` are others; any further
number is a cost of that name. `dense` has the costs of the layer as it is; without it they are
those of the option whose level is the number 0. A float is the shortest decimal that denotes it, as
Python prints it: 0.1 is 1/10.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from pins.errors import SettingError
from pins.utils.lookup import find
from pins.utils.text_files import read_object, shown

FORMAT, VERSION = "pins-error-table", 1
ERRORS = {"relative": "error", "absolute": "absolute_error", "loss": "loss"}
"""Kind of error ↦ its field in an option. A loss may be below 0, the others may not."""

LARGEST = 2**1000  # so that the sum over all layers is a float
Level: TypeAlias = str | int | float


class Option(NamedTuple):
    """A level, and all fields of the option."""

    level: Level
    fields: Mapping[str, Any]


class Layer(NamedTuple):
    """A layer's options, and its costs as it is."""

    name: str
    options: tuple[Option, ...]
    dense: Mapping[str, Any]


@dataclass(frozen=True)
class ErrorTable:
    """The layers, each with at least one option.

    Attributes:
        layers: their names differ, and the levels of each.
        source: the file, for messages.
    """

    layers: tuple[Layer, ...]
    source: str = "the error table"

    @classmethod
    def read(cls, path: Path) -> ErrorTable:
        """The table in a JSON file.

        Raises:
            FileError: the file cannot be read, or holds no JSON object.
            SettingError: as `of`.
        """
        return cls.of(read_object(path), str(path))

    @classmethod
    def of(cls, document: Mapping[str, Any], source: str = "the error table") -> ErrorTable:
        """The table in a document of the format; its numbers may be Fractions too.

        Raises:
            SettingError: another format; no layer; a layer without options; a name or a level that
                is missing, of another type, or there twice.
        """
        if document.get("format") != FORMAT or document.get("version") != VERSION:
            kind = f"format {shown(document.get('format'))}, version "
            raise SettingError(
                f"{source} has {kind}{shown(document.get('version'))}: give a table of format "
                f"{FORMAT!r}, version {VERSION}"
            )
        layers: dict[str, Layer] = {}
        for entry in _entries(document.get("layers"), f"{source}: layers"):
            name, dense = entry.get("name"), entry.get("dense", {})
            if not isinstance(name, str) or not isinstance(dense, dict):
                raise SettingError(
                    f"{source}: a layer has the name {shown(name)} and 'dense' {shown(dense)}: "
                    "give a string and an object"
                )
            if name in layers:
                raise SettingError(f"{source} has the layer {shown(name)} twice: leave one out")
            where = f"{source}: options of {shown(name)}"
            options: dict[Level, Option] = {}
            for fields in _entries(entry.get("options"), where):
                level = fields.get("level")
                number = isinstance(level, int | float) and _exact(level) is not None
                if level is None or not (number or isinstance(level, str)):
                    raise SettingError(
                        f"{where}: a level is {shown(level)}: give a string or a finite number"
                    )
                if level in options:
                    raise SettingError(f"{where}: the level {shown(level)} is there twice")
                options[level] = Option(level, fields)
            layers[name] = Layer(name, tuple(options.values()), dense)
        return cls(tuple(layers.values()), source)

    def numbers(self, field: str, *, signed: bool = False) -> list[list[Fraction]]:
        """A field of each option of each layer, exactly.

        Args:
            field: the name of a cost, or a field of `ERRORS`.
            signed: numbers below 0 are allowed.

        Raises:
            SettingError: an option has no such number, or it is not finite, or below 0.
        """
        return [
            [
                self._number(
                    fields, field, f"{shown(layer.name)}, level {shown(level)}", signed=signed
                )
                for level, fields in layer.options
            ]
            for layer in self.layers
        ]

    def dense(self, cost: str) -> Fraction:
        """The cost of all layers as they are.

        Raises:
            SettingError: of a layer it is not known.
        """
        total = Fraction(0)
        for layer in self.layers:
            own = [option.fields for option in layer.options if option.level == 0]
            fields = next((each for each in (layer.dense, *own) if cost in each), None)
            if fields is None:
                raise SettingError(
                    f"{self.source}: what {shown(layer.name)} costs as it is, is not known: give "
                    f'it "dense": {{"{cost}": …}}, or an option of level 0, or an absolute budget'
                )
            total += self._number(fields, cost, f"{shown(layer.name)}, dense", signed=False)
        return total

    def _number(
        self, fields: Mapping[str, Any], field: str, where: str, *, signed: bool
    ) -> Fraction:
        value, said = fields.get(field), f"{self.source}: {where}"
        if field not in fields:
            raise SettingError(f"{said} has no {shown(field)}: add the number, or ask for another")
        exact = _exact(value)
        if exact is None or (exact < 0 and not signed):
            least = "" if signed else ", at least 0"
            raise SettingError(f"{said} has {field} = {shown(value)}: give a finite number{least}")
        return exact


def error_field(kind: str) -> str:
    """The field of a kind of error.

    Raises:
        SettingError: there is no such kind.
    """
    return find(ERRORS, kind, "error", SettingError)


def _entries(value: Any, where: str) -> Sequence[Mapping[str, Any]]:
    if not isinstance(value, list) or not value or not all(isinstance(v, dict) for v in value):
        raise SettingError(f"{where} are {shown(value)}: give a list of objects, at least one")
    return value


def _exact(value: object) -> Fraction | None:
    """The number; None if it is none, or is not finite, or too large."""
    number = None
    if isinstance(value, float) and isfinite(value):
        number = Fraction(float.__repr__(value))
    elif isinstance(value, int | Fraction) and not isinstance(value, bool):
        number = Fraction(value)
    return number if number is not None and abs(number) < LARGEST else None
