"""A level: the masks that a layer may have."""

from fractions import Fraction
from typing import NamedTuple

from pins.errors import SettingError
from pins.selection.allocation import Allocation
from pins.selection.constraints import exact_ratio
from pins.utils.text_files import shown


class Level(NamedTuple):
    """The masks that an allocation allows at a sparsity.

    Attributes:
        allocation: scope, pattern and bounds.
        sparsity: 1 − kept ratio.
    """

    allocation: Allocation
    sparsity: Fraction

    @classmethod
    def parse(cls, text: str, scope: str, *, skip_indivisible: bool = False) -> "Level":
        """The level of a text: a sparsity such as "0.5" of each row or tensor, or "2:4".

        Args:
            text: the level.
            scope: of a sparsity.
            skip_indivisible: as that of `Allocation`.

        Raises:
            SettingError: it is neither.
            CardinalityError: the pattern has another form.
            ScheduleError: the sparsity is not in [0, 1].
        """
        if ":" in text:
            allocation = Allocation.parse(
                counted=False, pattern=text, skip_indivisible=skip_indivisible
            )
            assert allocation.sparsity is not None, "of a pattern alone"
            return cls(allocation, allocation.sparsity)
        try:
            number = float(text)
        except ValueError:
            raise SettingError(
                f"a level is {shown(text)}: give sparsities and patterns, as in 0,0.5,2:4"
            ) from None
        return cls(Allocation.parse(counted=True, scope=scope), exact_ratio(number))

    @property
    def name(self) -> str | float:
        """What an error table calls it."""
        return self.allocation.pattern or float(self.sparsity)
