"""A process group that counts its exchanges."""

from torch import Tensor

from benchmarks.distributed.cost_model import Exchange
from pins.distributed.process_group import Group


class CountingGroup(Group):
    """Passes every exchange on to another group and records its size.

    Attributes:
        exchanges: in order.
    """

    def __init__(self, group: Group) -> None:
        self.rank, self.size = group.rank, group.size
        self.exchanges: list[Exchange] = []
        self._group = group

    def total(self, counts: Tensor) -> Tensor:
        """The other group's sum."""
        self.exchanges.append(Exchange("total", counts.nbytes, counts.nbytes))
        return self._group.total(counts)

    def gathered(self, values: Tensor) -> list[Tensor]:
        """The other group's parts."""
        parts = self._group.gathered(values)
        sizes = [part.nbytes for part in parts]
        self.exchanges.append(Exchange("gathered", max(sizes), sum(sizes)))
        return parts
