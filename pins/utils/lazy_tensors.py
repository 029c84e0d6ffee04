"""Lazy scores of a model: each access computes the scores of one tensor.

A selection reads scores three or four times, tensor by tensor. Stored scores would take as much
memory as the weights; computed scores take the memory of one tensor.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


class Scores(Mapping[str, Tensor]):
    """Scores by tensor name, valid until the tensors that they are computed from change.

    Attributes:
        shapes: by tensor name, known without computing.
    """

    shapes: Mapping[str, torch.Size]

    @abstractmethod
    def __getitem__(self, name: str) -> Tensor: ...

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def __contains__(self, name: object) -> bool:
        return name in self.shapes  # Mapping would compute the tensor


class Computed(Scores):
    """Scores computed by a function of the tensor name."""

    def __init__(self, shapes: Mapping[str, torch.Size], compute: Callable[[str], Tensor]) -> None:
        self.shapes, self._compute = shapes, compute

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.shapes:
            raise KeyError(name)
        return self._compute(name)


def shapes_of(importance: Mapping[Any, Any]) -> Mapping[Any, torch.Size]:
    """The shape of each tensor; (0,) for a non-tensor and for a nested tensor, which has none."""
    if isinstance(importance, Scores):
        return importance.shapes
    return {
        name: scores.shape
        if isinstance(scores, Tensor) and not scores.is_nested
        else torch.Size([0])
        for name, scores in importance.items()
    }
