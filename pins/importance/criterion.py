"""The interface of a criterion: from the observation of a tensor to its scores, larger = keep."""

from abc import ABC, abstractmethod
from enum import Enum
from typing import ClassVar

from torch import Tensor

from pins.errors import ObservationError
from pins.utils.tensors import upcast_half


class Reads(Enum):
    """What a criterion may read in addition to the weights after the step."""

    GRADIENT = "the gradient"
    BEFORE = "the weights before the step"
    CURVATURE = "a diagonal curvature"
    MOMENTUM = "an average of the gradient"
    LOSS = "the loss"


class Observation:
    """The known quantities of one tensor at a pruning decision; all have the same shape.

    16-bit floats are read as float32, which holds the product of two of them exactly.
    """

    def __init__(
        self,
        after: Tensor,
        gradient: Tensor | None = None,
        before: Tensor | None = None,
        curvature: Tensor | None = None,
        momentum: Tensor | None = None,
    ) -> None:
        """Collect the known quantities.

        Args:
            after: θ+u, the weights to which the mask will be applied.
            gradient: g at θ.
            before: θ; None means that no step was taken, so θ = θ+u.
            curvature: h ≥ 0, a diagonal approximation of the Hessian.
            momentum: ĝ, an average of the gradients of the last steps; default: the gradient.
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
        """The average ĝ of the gradient; the gradient itself if no average is known."""
        return self._get(Reads.MOMENTUM)

    def _get(self, what: Reads) -> Tensor:
        value = self._known[what]
        if value is None:
            raise ObservationError(f"the criterion reads {what.value}, and there is none")
        return upcast_half(value.detach())


class Criterion(ABC):
    """s = importance of each weight of a tensor, larger = keep."""

    name: ClassVar[str]
    program: ClassVar[str]  # the program whose exact optimum is the mask of the k largest scores
    reads: ClassVar[frozenset[Reads]] = frozenset()
    # True: parameters are fitted to each decision, so scores of two steps cannot be averaged
    adaptive: ClassVar[bool] = False

    @abstractmethod
    def importance(self, observation: Observation) -> Tensor:
        """Scores in the shape of the weights: float32 for 16-bit weights, else their own dtype.

        Raises:
            ObservationError: a quantity that this criterion reads is missing.
        """
