"""A group that writes down what goes through it."""

from torch import Tensor

from benchmarks.distributed.communication_plan import Exchange
from pins.distributed.process_group import Group


class Counted(Group):
    """Another group, each of whose exchanges is noted.

    Attributes:
        exchanges: in their order, in bytes.
    """

    def __init__(self, group: Group) -> None:
        self.rank, self.size = group.rank, group.size
        self.exchanges: list[Exchange] = []
        self._group = group

    def total(self, counts: Tensor) -> Tensor:
        """What the group comes to."""
        self.exchanges.append(Exchange("total", counts.nbytes, counts.nbytes))
        return self._group.total(counts)

    def gathered(self, values: Tensor) -> list[Tensor]:
        """What the group comes to."""
        parts = self._group.gathered(values)
        sizes = [part.nbytes for part in parts]
        self.exchanges.append(Exchange("gathered", max(sizes), sum(sizes)))
        return parts
