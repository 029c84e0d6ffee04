"""The exception tree drawn on top of `pins.errors` is the one that is there."""

import inspect
import re

import pytest

import pins
from pins import errors
from pins.errors import PinsError, first_line


def classes() -> dict[str, type[Exception]]:
    return {
        name: value
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, Exception)
    }


def test_the_tree_in_the_docstring_names_every_class() -> None:
    drawn = re.findall(r"[├└]── (\w+) +(.+)", errors.__doc__ or "")
    assert [name for name, _ in drawn] == [name for name in classes() if name != "PinsError"]
    assert "\nPinsError\n" in (errors.__doc__ or "")


def test_the_tree_says_of_each_class_what_its_docstring_says() -> None:
    for name, meaning in re.findall(r"[├└]── (\w+) +(.+)", errors.__doc__ or ""):
        said = (classes()[name].__doc__ or "").rstrip(".")
        assert said.lower() == meaning.lower()


def test_every_error_hangs_directly_under_pins_error() -> None:
    for name, error in classes().items():
        if name != "PinsError":
            assert error.__bases__[0] is PinsError
            # a second, built-in base for those who do not know of PINS
            assert len(error.__bases__) == 2
            assert error.__bases__[1] in (ValueError, RuntimeError, OSError)


def test_the_package_exports_the_root_and_the_module() -> None:
    assert pins.PinsError is PinsError
    assert pins.errors is errors


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("one\ntwo", "one"),
        ("\n one \n", "one"),
        ("", "KeyError"),
        (" \n", "ValueError"),
        (
            "é \x1b[31m\ud800",
            "é \\x1b[31m\\ud800",
        ),  # would change a terminal
        ("x" * 9000, "x" * 400),
    ],
)
def test_the_first_line_of_an_error(text: str, line: str) -> None:
    error = ValueError(text) if line != "KeyError" else KeyError()
    assert first_line(error) == line
