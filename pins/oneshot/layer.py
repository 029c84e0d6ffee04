"""A linear layer as a quadratic program, and what a method makes of it.

A layer with weights W, of shape (outputs, inputs), reads calibration vectors X, of shape (vectors,
inputs). Pruned to W′ it is wrong by

    ‖XWᵀ − XW′ᵀ‖²  =  tr((W − W′) G (W − W′)ᵀ),    G = XᵀX                                       (R)

the reconstruction error, a sum over the rows of W. G says all that (R) needs of X.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from pins.distributed.process_group import SINGLE_PROCESS, Group


@dataclass(frozen=True, eq=False)
class Layer:
    """A linear layer and what it reads.

    Attributes:
        name: of its weight in the model.
        weight: W, float32 of shape (outputs, inputs).
        gram: G, float64 of shape (inputs, inputs).
        vectors: number of the calibration vectors.
        group: the ranks that prune it together, each with the same W and G.
        decided: the mask of a decision over the layers of all blocks, True = keep; None: the method
            makes none.
    """

    name: str
    weight: Tensor
    gram: Tensor
    vectors: int
    group: Group = SINGLE_PROCESS

    @property
    def live(self) -> Tensor:
        """W in float64, 0 for inputs that are always 0, so that these go first."""
        return self.weight.double().where(self.gram.diagonal() > 0, 0.0)

    decided: Tensor | None = None

    @property
    def norms(self) -> Tensor:
        """‖X_j‖ of each input j, float64."""
        return self.gram.diagonal().clamp(min=0).sqrt()

    def error(self, pruned: Tensor) -> float:
        """(R) of W′, in float64."""
        return quadratic(self.weight.double() - pruned.double(), self.gram)

    def relative_error(self, pruned: Tensor) -> float:
        """(R) of W′ divided by that of 0; 0 where both are."""
        return self.relative(self.error(pruned))

    def relative(self, error: float) -> float:
        """An error divided by that of 0."""
        zero = quadratic(self.weight.double(), self.gram)
        return error / zero if zero > 0 else 0.0


@dataclass(frozen=True, eq=False)
class Pruned:
    """A layer after a method.

    Attributes:
        weight: W′, float32, exactly 0 where it is pruned.
        mask: bool of the same shape, True = keep.
        scores: of a method whose mask is the optimum of a score sum, these; else None.
        report: further numbers, by name.
    """

    weight: Tensor
    mask: Tensor
    scores: Tensor | None = None
    report: Mapping[str, float] = field(default_factory=dict)


def quadratic(difference: Tensor, gram: Tensor) -> float:
    """tr(D G Dᵀ)."""
    return float(((difference @ gram) * difference).sum())


def damped(gram: Tensor, share: float) -> Tensor:
    """G + share · (mean of G's diagonal) · I, positive definite for share > 0; I where G is 0."""
    mean = float(gram.diagonal().mean())
    found = gram.clone()
    found.diagonal().add_(share * mean if mean > 0 else 1.0)
    return found
