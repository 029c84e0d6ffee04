"""N:M patterns as they are written: `2:4`, `8:16`, `transposable-4:8`."""

import re
from dataclasses import dataclass

from pins.errors import CardinalityError

TRANSPOSABLE = "transposable-"


@dataclass(frozen=True)
class Pattern:
    """N kept weights of each M.

    Attributes:
        n: number of *kept* weights; SparseGPT's `prunen` is the number of pruned ones.
        m: length of a group.
        transposable: N of M in the rows and in the columns of each M × M block.
    """

    n: int
    m: int
    transposable: bool = False

    @classmethod
    def parse(cls, text: str) -> "Pattern":
        """Read what `str` writes.

        Raises:
            CardinalityError: it is no pattern, or not 1 ≤ N ≤ M.
        """
        found = re.fullmatch(rf"({TRANSPOSABLE})?(\d{{1,6}}):(\d{{1,6}})", text, re.ASCII)
        if found is None or not 1 <= int(found[2]) <= int(found[3]):
            raise CardinalityError(
                f"the pattern is {text[:40]!r}: give N:M with 1 ≤ N ≤ M, as in 2:4, of which N are "
                f"kept, or {TRANSPOSABLE}N:M"
            )
        return cls(int(found[2]), int(found[3]), found[1] is not None)

    def __str__(self) -> str:
        """As it is written on the command line."""
        return f"{TRANSPOSABLE if self.transposable else ''}{self.n}:{self.m}"
