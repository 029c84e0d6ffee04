"""A plugin of pytest that runs the laws of the optimal mask on anybody's pruner.

    pytest -p pins.pytest_plugin --pins-selector my_package.pruning:prune_rows --pins-scope row

It runs one test for each law, and no other tests than those of files that are named. It is not
registered as a plugin that every pytest loads: without the option it imports nothing, so a project
may have a package `verification` of its own.
"""

import importlib.util
import sys
from operator import attrgetter
from pathlib import Path
from typing import Any

from pins.errors import PinsError, SettingError, first_line
from pins.utils.repository import install_command

LIBRARIES = ("hypothesis",)
EXAMPLES = 100


def pytest_addoption(parser: Any) -> None:
    """Add the three options."""
    group = parser.getgroup("pins", "PINS: the laws of the optimal mask")
    group.addoption("--pins-selector", metavar="MODULE:FUNCTION", help="Run the laws on it.")
    group.addoption(
        "--pins-scope",
        default="flat",
        metavar="SCOPE",
        help="flat, row, 2:4 or N:4 (any numbers), block or block:4x4, tree. Default: flat.",
    )
    group.addoption(
        "--pins-examples",
        type=int,
        default=EXAMPLES,
        metavar="N",
        help=f"Instances of each strategy of a law. Default: {EXAMPLES}.",
    )


def pytest_configure(config: Any) -> None:
    """Register the laws if a selector is given.

    Raises:
        pytest.UsageError: the selector, the scope or `verification` is not there, in one line.
    """
    given = config.getoption("pins_selector")
    if given is None:
        return
    import pytest

    try:
        _require_ours()
        items = importlib.import_module("verification.pytest_items")
        folder = str(config.invocation_params.dir)
        if folder not in sys.path:
            sys.path.append(folder)  # last, so that nothing in it hides what is installed
        laws = items.Laws(
            given, _load(given), config.getoption("pins_scope"), config.getoption("pins_examples")
        )
    except PinsError as error:
        raise pytest.UsageError(str(error)) from None
    except ModuleNotFoundError as error:
        if error.name not in LIBRARIES:
            raise
        line = f"{error.name} is not installed: run {install_command('laws')}"
        raise pytest.UsageError(line) from None
    config.pluginmanager.register(laws, "pins-laws")


def _require_ours() -> None:
    """Check that `verification` is the package beside this one.

    Raises:
        SettingError: it is another one, or none.
    """
    ours = Path(__file__).resolve().parents[1] / "verification" / "__init__.py"
    spec = importlib.util.find_spec("verification")
    origin = spec.origin if spec else None
    if origin is None or Path(origin).resolve() != ours:
        raise SettingError(
            f"the package verification of PINS is {ours}, and {origin or 'no file'} is imported "
            "in its place: run pytest in a folder without a package of that name"
        )


def _load(given: str) -> Any:
    """The function that module:function names.

    Raises:
        SettingError: there is none; one line says why.
    """
    module, _, name = given.partition(":")
    fault = "write module:function"
    if module and name:
        try:
            found = attrgetter(name)(importlib.import_module(module))
        except Exception as error:
            fault = f"{type(error).__name__}: {first_line(error)}"
        else:
            if callable(found):
                return found
            fault = f"it is an object of type {type(found).__name__}, and no function"
    raise SettingError(f"--pins-selector is {given!r}: {fault}")
