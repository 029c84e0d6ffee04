"""What an error table, a budget and an allocation say, and what is refused in one line."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from pins.errors import FileError, SettingError
from pins.selection.budget import Budget, ErrorTable
from pins.selection.budget.allocation import allocation
from pins.selection.budget.program import BudgetProgram
from tests.pins.selection.budget.tables import document


def layer(name: object = "a", options: object = None, **more: Any) -> dict[str, Any]:
    given = [{"level": 0, "error": 0, "bytes": 1}] if options is None else options
    return {"name": name, "options": given, **more}


def option(**fields: Any) -> dict[str, Any]:
    return layer(options=[{"level": 0, "error": 0, "bytes": 1, **fields}])


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], r"layers are \[\]: give a list of objects, at least one"),
        ({}, r"layers are \{\}: give a list"),
        ([1], r"layers are \[1\]: give a list of objects"),
        ([layer(options=[])], r"options of 'a' are \[\]: give a list of objects, at least one"),
        ([layer(3)], r"has the name 3 and 'dense' \{\}: give a string and an object"),
        ([layer(dense=3)], "'dense' 3: give a string and an object"),
        ([layer(), layer()], "has the layer 'a' twice: leave one out"),
        ([option(level=None)], "a level is None: give a string or a finite number"),
        ([option(level=True)], "a level is True"),
        ([option(level=float("nan"))], "a level is nan"),
        ([layer(options=[{"level": 1}, {"level": 1.0}])], "the level 1.0 is there twice"),
        ([option(error=float("nan"))], "'a', level 0 has error = nan: give a finite number, at"),
        ([option(error=-1)], "level 0 has error = -1: give a finite number, at least 0"),
        ([option(error="1")], "level 0 has error = '1'"),
        ([option(error=True)], "level 0 has error = True"),
        ([option(bytes=-0.5)], "level 0 has bytes = -0.5: give a finite number, at least 0"),
        ([option(bytes=float("inf"))], "level 0 has bytes = inf"),
        ([option(bytes=10**400)], "level 0 has bytes = 10{30}"),
        ([layer(options=[{"level": 0, "bytes": 1}])], "'a', level 0 has no 'error': add the"),
        ([layer(options=[{"level": 0, "error": 1}])], "'a', level 0 has no 'bytes'"),
    ],
)
def test_a_table_that_lacks_something_is_refused(layers: object, message: str) -> None:
    with pytest.raises(SettingError, match=message) as refused:
        BudgetProgram.of(ErrorTable.of(document(layers=layers)), Budget.parse("bytes=5"))
    assert "\n" not in str(refused.value)


def test_another_format_and_a_number_that_nobody_gave_are_refused() -> None:
    with pytest.raises(SettingError, match="has format 'x', version 1: give a table of format"):
        ErrorTable.of(document(format="x"))
    table = ErrorTable.of(document())
    with pytest.raises(SettingError, match="'a', level 0 has no 'latency': add the number"):
        BudgetProgram.of(table, Budget.parse("latency=2"))
    with pytest.raises(SettingError, match="level 0 has no 'absolute_error'"):
        BudgetProgram.of(table, Budget.parse("bytes=90"), "absolute")
    with pytest.raises(SettingError, match=r"no error 'los'.*did you mean 'loss'"):
        BudgetProgram.of(table, Budget.parse("bytes=90"), "los")
    with pytest.raises(SettingError, match="what 'b' costs as it is, is not known: give it"):
        Budget.parse("flops=0.5").limit(table)


def test_numbers_are_decimals_and_units_are_common() -> None:
    program = BudgetProgram.of(ErrorTable.of(document()), Budget.parse("bytes=0.5"))
    assert program.errors == ((0, 1, 3), (1, 3))
    assert [program.error_unit, program.cost_unit] == [Fraction(1, 10), 20]
    assert program.costs == ((5, 3, 2), (3, 2))
    assert program.budget == 5  # of 110 bytes
    exact = document(layers=[option(error=Fraction(1, 3), bytes=Fraction(7, 2))])
    made = BudgetProgram.of(ErrorTable.of(exact), Budget.parse("bytes=5"))
    assert (made.error_unit, made.cost_unit, made.budget) == (Fraction(1, 3), Fraction(7, 2), 1)


@pytest.mark.parametrize(
    ("text", "cost", "amount", "share"),
    [
        ("bytes=0.6", "bytes", Fraction(3, 5), True),
        ("bytes=1", "bytes", Fraction(1), True),
        ("bytes=1.5", "bytes", Fraction(3, 2), False),
        ("bytes=120M", "bytes", Fraction(120 * 10**6), False),
        ("bytes=0.5Gi", "bytes", Fraction(2**29), False),
        ("latency=500m", "latency", Fraction(1, 2), False),
        ("flops=1e9", "flops", Fraction(10**9), False),
    ],
)
def test_a_budget_is_a_share_or_an_amount(
    text: str, cost: str, amount: Fraction, share: bool
) -> None:
    assert Budget.parse(text) == Budget(cost, amount, share)


@pytest.mark.parametrize(
    "text",
    ["bytes", "bytes=", "=3", "bytes=0", "bytes=-1", "bytes=nan", "bytes=3X", "bytes=1e999", ""],
)
def test_another_budget_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match="give the name of a cost and a share"):
        Budget.parse(text)


def program(budget: str = "bytes=0.6") -> BudgetProgram:
    return BudgetProgram.of(ErrorTable.of(document()), Budget.parse(budget))


def allocated(folder: Path, chosen: object) -> Any:
    file = folder / "levels.json"
    file.write_text(json.dumps(chosen))
    return allocation(program(), str(file))


def test_uniform_is_the_best_level_of_all_layers() -> None:
    assert allocation(program(), "uniform").options == (1, 0)
    assert allocation(program("bytes=119"), "uniform").options == (2, 1)
    layers = [layer(options=[{"level": t, "error": 0, "bytes": 1}], name=str(t)) for t in range(2)]
    none = BudgetProgram.of(ErrorTable.of(document(layers=layers)), Budget.parse("bytes=9"))
    with pytest.raises(SettingError, match="there is no uniform allocation: no level that all"):
        allocation(none, "uniform")


def test_levels_and_nearest_numbers_of_a_file(tmp_path: Path) -> None:
    found = allocated(tmp_path, {"b": "2:4", "a": 0.5})
    assert (found.options, found.moved) == ((1, 1), ())
    found = allocated(tmp_path, {"a": 0.25, "b": 9})
    assert (found.options, found.moved) == ((0, 0), ("a", "b"))  # of two the smaller
    written = {"format": "pins-budget", "choice": {"a": 0, "b": 0.5}}
    assert allocated(tmp_path, written).options == (0, 0)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"a": 0}, "has no level for 1 of 2 layers, such as 'b': give one for each"),
        ({"a": 0, "b": 0.5, "c": 1}, "the table has no layer 'c': leave it out"),
        ({"a": "4:8", "b": 0.5}, "'a' has no level '4:8': choose one of 0, 0.5, 2:4"),
        ({"a": None, "b": 0.5}, "'a' has no level None: choose one of"),
        ({"a": float("nan"), "b": 0.5}, "'a' has no level nan"),
        ({"a": True, "b": 0.5}, "'a' has no level True"),
        ({"a": [], "b": 0.5}, r"'a' has no level \[\]"),
        ({"format": 1, "choice": 3}, "its choice is 3: give layer: level"),
    ],
)
def test_an_allocation_that_lacks_something_is_refused(
    tmp_path: Path, chosen: object, message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        allocated(tmp_path, chosen)


def test_words_and_files_that_say_nothing(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="OWL computes sparsities from activations"):
        allocation(program(), "owl")
    with pytest.raises(FileError, match=r"cannot be read|No such file"):
        allocation(program(), str(tmp_path / "none.json"))
