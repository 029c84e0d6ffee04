"""Look a name up in a table; the error for an unknown name lists the known ones."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from pins.errors import PinsError

Row = TypeVar("Row")


def find(table: Mapping[str, Row], name: str, kind: str, error: type[PinsError]) -> Row:
    """table[name].

    Args:
        table: rows by name.
        name: of a row.
        kind: what a row is, for the message: "criterion".
        error: the class to raise.

    Raises:
        PinsError: of class `error`; no row has this name. The message lists the names.
    """
    if name not in table:
        raise error(f"there is no {kind} {name!r}: {choose_one(name, table)}")
    return table[name]


def choose_one(name: object, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the known names, and the nearest of them."""
    names = list(known)
    near = difflib.get_close_matches(str(name), names, n=1)
    return f"choose one of {', '.join(names)}" + "".join(f"; did you mean {n!r}?" for n in near)
