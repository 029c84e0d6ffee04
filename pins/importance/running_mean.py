"""Running mean: Ī_t = Σⱼ βᵗ⁻ʲ Iⱼ / Σⱼ βᵗ⁻ʲ; the newest scores have the largest weight.

    Ī ← Ī + w_t (I_t − Ī),   w_t = (1 − β) / (1 − βᵗ),   w_t = 1/t for β = 1.

This is the exponential average that starts at zero, divided by its bias 1 − βᵗ; for β = 1 it is the
plain mean. In this form the mean of constant scores is the constant from the first step on, bit for
bit. Each difference, product and sum is rounded once per weight, so the result does not depend on
the device or on the order of the weights.
"""

import torch
from torch import Tensor

from pins.errors import ObservationError
from pins.utils.tensors import upcast_half


class RunningMean:
    """Ī by tensor name: one tensor and one count per name.

    Attributes:
        values: Ī by name; float32 for 16-bit scores, else in the dtype of the scores.
        counts: t by name, the number of averaged scores.
        beta: β, the weight of the past.
    """

    def __init__(self, beta: float = 1.0) -> None:
        """Start empty; beta in [0, 1], and 0 keeps only the latest scores."""
        self.values: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.beta = beta

    def add(self, name: str, scores: Tensor, *, overwrite: bool = False) -> None:
        """Ī ← Ī + w (I − Ī), in place.

        Args:
            name: name of the tensor.
            scores: I, in the shape of the earlier scores.
            overwrite: whether `scores` may be overwritten, which saves one temporary tensor.

        Raises:
            ObservationError: the shape differs from that of the earlier scores.
        """
        if name in self.values:
            change = self._change(name, scores, out=scores if overwrite else None)
            # a loaded state may be on another device
            self.values[name] = self.values[name].to(change.device).add_(change)
            self.counts[name] += 1
        else:
            self.values[name], self.counts[name] = upcast_half(scores.detach()).clone(), 1

    def after(self, name: str, scores: Tensor) -> Tensor:
        """Return the mean that `add` would give, as a new tensor."""
        if name not in self.values:
            return upcast_half(scores.detach()).clone()
        change = self._change(name, scores)
        return change.add_(self.values[name].to(change.device))

    def clear(self) -> None:
        """Remove all means."""
        self.values, self.counts = {}, {}

    def _change(self, name: str, scores: Tensor, out: Tensor | None = None) -> Tensor:
        mean, count = self.values[name].to(scores.device), self.counts[name] + 1
        require_same_shape(name, scores, mean)
        weight = 1 / count if self.beta == 1 else (1 - self.beta) / (1 - self.beta**count)
        return torch.sub(scores.detach(), mean, out=out).mul_(weight)


def require_same_shape(name: str, scores: Tensor, mean: Tensor) -> None:
    """Check that scores and their mean have the same shape.

    Raises:
        ObservationError: the shapes differ.
    """
    if mean.shape != scores.shape:
        raise ObservationError(
            f"the scores of {name!r} have shape {tuple(scores.shape)}, their average has "
            f"{tuple(mean.shape)}: a smoothing follows the tensors of one model"
        )
