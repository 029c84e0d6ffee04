"""Entry points: what installed packages add to the command line, loaded by registered name.

A package that is hidden by another one of the same name, or whose metadata is of another version,
gives one line that says so, and breaks nothing else.
"""

import importlib.util
import sys
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from pins.errors import EntryPointError
from pins.utils.repository import REINSTALL


@cache
def registered(group: str) -> dict[str, EntryPoint]:
    """The entry points of a group, by name and in the order of the names."""
    return {entry.name: entry for entry in sorted(entry_points(group=group), key=lambda e: e.name)}


def load(entry: EntryPoint) -> Any:
    """The registered object; its module is imported only if it is where it is registered.

    Raises:
        EntryPointError: it cannot be imported; one line says why and what to do.
    """
    fault: Exception | str = f"there is no module {entry.module}"
    if _exists(entry.module):
        try:
            return entry.load()
        except (ImportError, AttributeError) as error:
            fault = error
    missing = getattr(fault, "name", None) if isinstance(fault, ImportError) else entry.module
    package = entry.dist.name if entry.dist else entry.module.partition(".")[0]
    raise EntryPointError(
        f"{entry.name} is registered as {entry.value}, and "
        + (hidden(missing) or f"{fault}: install {package} again, {REINSTALL}")
    )


def hidden(module: str | None) -> str | None:
    """A line that says which package hides the one that `module` belongs to; None if none does."""
    if not module:
        return None
    package = module.partition(".")[0]
    specs = [PathFinder.find_spec(package, [folder]) for folder in dict.fromkeys(sys.path)]
    files = list(dict.fromkeys(spec.origin for spec in specs if spec and spec.origin))
    beside_this = Path(__file__).parents[2]  # of the same installation or checkout
    if len(files) < 2 or beside_this in Path(files[0]).parents:
        return None
    return f"{files[0]} hides {files[1]}: run the command in another folder, or rename the first"


def _exists(module: str) -> bool:
    """Whether the module can be found, without running the packages that it is in."""
    package, *names = module.split(".")
    spec: ModuleSpec | None = importlib.util.find_spec(package)
    for name in names:
        if spec is None or spec.submodule_search_locations is None:
            return False
        package += f".{name}"
        spec = PathFinder.find_spec(package, spec.submodule_search_locations)
    return spec is not None
