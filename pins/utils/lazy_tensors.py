"""Scores of a whole model that are computed tensor by tensor whenever they are asked for.

A selection reads scores three or four times, tensor by tensor. Held, they would take as much room
as the weights; computed again, they take that of one tensor.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


class Scores(Mapping[str, Tensor]):
    """Scores by tensor name, as long as what they are computed from stays what it is.

    Attributes:
        shapes: of all tensors by name, known without computing.
    """

    shapes: Mapping[str, torch.Size]

    @abstractmethod
    def __getitem__(self, name: str) -> Tensor: ...

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def __contains__(self, name: object) -> bool:
        return name in self.shapes  # a Mapping would compute the tensor to see


class Computed(Scores):
    """Scores that a function computes of a name."""

    def __init__(self, shapes: Mapping[str, torch.Size], compute: Callable[[str], Tensor]) -> None:
        self.shapes, self._compute = shapes, compute

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.shapes:
            raise KeyError(name)
        return self._compute(name)


def shapes_of(importance: Mapping[Any, Any]) -> Mapping[Any, torch.Size]:
    """The shape of each tensor; of what is none, that of nothing."""
    if isinstance(importance, Scores):
        return importance.shapes
    return {
        name: scores.shape if isinstance(scores, Tensor) else torch.Size([0])
        for name, scores in importance.items()
    }
