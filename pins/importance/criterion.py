"""What a criterion is: from what is known of a tensor at a decision to scores, larger = keep."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import Enum
from typing import ClassVar, Self

from torch import Tensor

from pins.errors import ObservationError
from pins.selection.constraints import Constraint
from pins.utils.tensors import upcast_half


class Reads(Enum):
    """What a criterion may read beside the weights after the step."""

    GRADIENT = "the gradient"
    BEFORE = "the weights before the step"
    CURVATURE = "a diagonal curvature"
    MOMENTUM = "an average of the gradient"
    LOSS = "the loss"


class Observation:
    """What is known of one tensor at a pruning decision; all of one shape.

    16-bit floats are read as float32, in which a product of two of them has room for every bit.
    """

    def __init__(
        self,
        after: Tensor,
        gradient: Tensor | None = None,
        before: Tensor | None = None,
        curvature: Tensor | None = None,
        momentum: Tensor | None = None,
    ) -> None:
        """Collect what is known.

        Args:
            after: θ+u, the weights that the mask will be applied to.
            gradient: g at θ.
            before: θ; None when no step was taken, so that θ = θ+u.
            curvature: h ≥ 0, a diagonal approximation of the Hessian.
            momentum: ĝ, an average of the gradients of the last steps; None where the gradient is
                as good as there is.
        """
        self.after = upcast_half(after.detach())
        self._known = {
            Reads.GRADIENT: gradient,
            Reads.BEFORE: after if before is None else before,
            Reads.CURVATURE: curvature,
            Reads.MOMENTUM: gradient if momentum is None else momentum,
        }

    @property
    def gradient(self) -> Tensor:
        """The gradient g at θ."""
        return self._get(Reads.GRADIENT)

    @property
    def before(self) -> Tensor:
        """The weights θ before the step."""
        return self._get(Reads.BEFORE)

    @property
    def curvature(self) -> Tensor:
        """The diagonal curvature h at θ."""
        return self._get(Reads.CURVATURE)

    @property
    def momentum(self) -> Tensor:
        """The average ĝ of the gradient; the gradient itself where there is none."""
        return self._get(Reads.MOMENTUM)

    def _get(self, what: Reads) -> Tensor:
        value = self._known[what]
        if value is None:
            raise ObservationError(f"the criterion reads {what.value}, and there is none")
        return upcast_half(value.detach())


class Criterion(ABC):
    """s = importance of each weight of a tensor, larger = keep."""

    name: ClassVar[str]
    program: ClassVar[str]  # what the mask of the k largest scores is the exact optimum of
    reads: ClassVar[frozenset[Reads]] = frozenset()
    fits: ClassVar[bool] = False  # whether it has to be `fitted` to each decision

    @abstractmethod
    def importance(self, observation: Observation) -> Tensor:
        """Scores in the shape of the weights: float32 for 16-bit weights, else their own dtype.

        Raises:
            ObservationError: something this criterion reads is missing.
        """

    def fitted(
        self,
        observations: Mapping[str, Observation],  # noqa: ARG002 (for those that need it)
        constraint: Constraint,  # noqa: ARG002
        allowance: float = 0.0,  # noqa: ARG002
    ) -> Self:
        """The criterion with what it has to know of all tensors together before it scores any.

        Args:
            observations: of every tensor, by name; asked for one at a time and not held.
            constraint: of the decision.
            allowance: what a radius of 1 lets this decision promise, in units of the loss.

        Returns:
            Itself, where it needs nothing of the kind.
        """
        return self
