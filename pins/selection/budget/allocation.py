"""Anybody's allocation as a choice of the table's options: uniform, or levels by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from pins.errors import SettingError
from pins.selection.budget.program import BudgetProgram, Indices
from pins.selection.budget.table import Level
from pins.utils.lookup import choose_one
from pins.utils.text_files import read_object, shown

UNIFORM, OWL = "uniform", "owl"


@dataclass(frozen=True)
class LevelAllocation:
    """An option for each layer.

    Attributes:
        name: what it is.
        options: the number of each layer's option.
        moved: the layers whose number is no level of theirs: they have the nearest level.
    """

    name: str
    options: Indices
    moved: tuple[str, ...] = ()


def allocation(program: BudgetProgram, asked: str) -> LevelAllocation:
    """The allocation that a word or a file says.

    Args:
        program: the layers and their options.
        asked: "uniform", or the path of a JSON object: layer ↦ level, or layer ↦ a number, for
            which the nearest level is taken (of two equally near ones the smaller); or a
            budget.json.

    Raises:
        SettingError: no level is everywhere and within the budget; a layer is missing, unknown, or
            has no such level.
        FileError: the file cannot be read.
    """
    if asked == UNIFORM:
        return uniform(program)
    if asked == OWL:
        raise SettingError(
            "OWL computes sparsities from activations, which an error table does not hold: give "
            "them as a JSON file, layer: sparsity"
        )
    document = read_object(Path(asked))
    chosen = document.get("choice", document) if document.get("format") else document
    if not isinstance(chosen, dict):
        raise SettingError(f"{asked}: its choice is {shown(chosen)}: give layer: level")
    return of_levels(program, chosen, asked)


def uniform(program: BudgetProgram) -> LevelAllocation:
    """One level for all layers: of those within the budget the one with the least error.

    Of equal ones the cheapest, then the first in the first layer.

    Raises:
        SettingError: there is none.
    """
    found: list[tuple[int, int, int, Level, Indices]] = []
    for level in program.levels[0]:
        if all(level in levels for levels in program.levels):
            options = tuple(levels.index(level) for levels in program.levels)
            if (cost := program.cost(options)) <= program.budget:
                found.append((program.error(options), cost, len(found), level, options))
    if not found:
        raise SettingError(
            "there is no uniform allocation: no level that all layers have is within the budget"
        )
    *_, level, options = min(found)
    return LevelAllocation(f"uniform, {level}", options)


def of_levels(program: BudgetProgram, chosen: Mapping[str, Any], source: str) -> LevelAllocation:
    """The level of each layer by name; a number that is no level becomes the nearest.

    Raises:
        SettingError: a layer is missing, unknown, or has no such level.
    """
    if missing := [name for name in program.names if name not in chosen]:
        raise SettingError(
            f"{source} has no level for {len(missing)} of {len(program.names)} layers, such as "
            f"{shown(missing[0])}: give one for each"
        )
    if len(chosen) > len(program.names):
        unknown = next(name for name in chosen if name not in program.names)
        raise SettingError(f"{source}: the table has no layer {shown(unknown)}: leave it out")
    options, moved = [], []
    for name, levels in zip(program.names, program.levels, strict=True):
        wanted = chosen[name]
        numbers = [(level, j) for j, level in enumerate(levels) if not isinstance(level, str)]
        level = isinstance(wanted, str | int | float) and not isinstance(wanted, bool)
        if level and wanted in levels:
            options.append(levels.index(wanted))
        elif level and numbers and not isinstance(wanted, str) and abs(wanted) < inf:
            options.append(min(numbers, key=lambda each: _distance(each[0], wanted))[1])
            moved.append(name)
        else:
            raise SettingError(
                f"{source}: {shown(name)} has no level {shown(wanted)}: "
                f"{choose_one(wanted, map(str, levels))}"
            )
    return LevelAllocation(source, tuple(options), tuple(moved))


def _distance(level: Level, wanted: float) -> tuple[float, float]:
    assert not isinstance(level, str), "numbers are compared"
    return abs(level - wanted), level
