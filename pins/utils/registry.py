"""Find an entry of a table by its name."""

from collections.abc import Mapping
from typing import TypeVar

from pins.errors import PinsError

T = TypeVar("T")


def find(table: Mapping[str, T], name: str, kind: str, error: type[PinsError]) -> T:
    """Return `table[name]`.

    Raises:
        PinsError: of class `error`: the table has no such name; the message lists the names.
    """
    if name not in table:
        raise error(f"there is no {kind} {name!r}: choose one of {', '.join(table)}")
    return table[name]
