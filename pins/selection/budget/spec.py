"""A budget: the name of a cost, and the most of it that all layers together may take."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from pins.errors import SettingError
from pins.selection.budget.table import ErrorTable
from pins.utils.text_files import shown

SUFFIXES = {"": Fraction(1), "u": Fraction(1, 10**6), "m": Fraction(1, 10**3)}
SUFFIXES |= {letter: Fraction(10 ** (3 * power)) for power, letter in enumerate("kMGT", 1)}
SUFFIXES |= {f"{letter}i": Fraction(2 ** (10 * power)) for power, letter in enumerate("KMGT", 1)}
_FORM = re.compile(r"([A-Za-z_][\w-]*)=([0-9]{1,30}(?:\.[0-9]{0,30})?(?:e[+-]?[0-9]{1,2})?)(\w*)")


@dataclass(frozen=True)
class Budget:
    """Σ c ≤ C.

    Attributes:
        cost: the name of c in the error table, such as "bytes".
        amount: C, or C as a share of the cost of all layers as they are.
        share: whether it is a share.
    """

    cost: str
    amount: Fraction
    share: bool = False

    @classmethod
    def parse(cls, text: str) -> Budget:
        """The budget that a text such as "bytes=0.6", "bytes=120M" or "latency=500m" says.

        A number of at most 1 without a suffix is a share of the cost of all layers as they are. A
        greater one, and every number with a suffix (u, m, k, M, G, T; Ki, Mi, Gi, Ti), is an
        amount, in the unit of the table. Decimals are exact.

        Raises:
            SettingError: it has another form, or is not above 0.
        """
        found = _FORM.fullmatch(text)
        amount = Fraction(found[2]) if found else Fraction(0)
        if not found or found[3] not in SUFFIXES or amount <= 0:
            raise SettingError(
                f"budget is {shown(text)}: give the name of a cost and a share, as in bytes=0.6, "
                "or an amount above 1 or with a suffix, as in bytes=120M (u, m, k, M, G, T, Ki, "
                "Mi, Gi, Ti)"
            )
        return cls(found[1], amount * SUFFIXES[found[3]], share=not found[3] and amount <= 1)

    def limit(self, table: ErrorTable) -> Fraction:
        """C.

        Raises:
            SettingError: it is a share, and the table does not say of what.
        """
        return self.amount * table.dense(self.cost) if self.share else self.amount
