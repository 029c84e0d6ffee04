"""Running mean: Ī_t = Σⱼ βᵗ⁻ʲ Iⱼ / Σⱼ βᵗ⁻ʲ, the newest scores weighing most.

    Ī ← Ī + w_t (I_t − Ī),   w_t = (1 − β) / (1 − βᵗ),   w_t = 1/t for β = 1.

It is the exponential average that starts at zero, divided by its bias 1 − βᵗ; with β = 1 the plain
mean. Written in this way, constant scores are their own mean from the first step on, bit for bit.
Differences, products and sums are rounded one by one, weight by weight: no device and no order of
the weights gives another answer.
"""

import torch
from torch import Tensor

from pins.errors import ObservationError
from pins.utils.tensors import upcast_half


class RunningMean:
    """Ī by tensor name: one tensor and one count for each.

    Attributes:
        values: Ī by name; float32 for 16-bit scores, else of the scores' own dtype.
        counts: t by name, how many scores are averaged.
    """

    def __init__(self, beta: float = 1.0) -> None:
        """Start empty; beta of [0, 1], where 0 keeps the latest scores alone."""
        self.values: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self._beta = beta

    def add(self, name: str, scores: Tensor, *, overwrite: bool = False) -> None:
        """Ī ← Ī + w (I − Ī), in place.

        Args:
            name: of the tensor.
            scores: I, of the shape that came before.
            overwrite: whether `scores` may be used up, which saves the one temporary tensor.

        Raises:
            ObservationError: the shape is not that of the scores before.
        """
        if name in self.values:
            change = self._change(name, scores, out=scores if overwrite else None)
            # a state that was loaded may have lain on another device
            self.values[name] = self.values[name].to(change.device).add_(change)
            self.counts[name] += 1
        else:
            self.values[name], self.counts[name] = upcast_half(scores.detach()).clone(), 1

    def after(self, name: str, scores: Tensor) -> Tensor:
        """What `add` would make of the mean, as a tensor of its own."""
        if name not in self.values:
            return upcast_half(scores.detach()).clone()
        change = self._change(name, scores)
        return change.add_(self.values[name].to(change.device))

    def clear(self) -> None:
        """Forget everything."""
        self.values, self.counts = {}, {}

    def _change(self, name: str, scores: Tensor, out: Tensor | None = None) -> Tensor:
        mean, count = self.values[name].to(scores.device), self.counts[name] + 1
        if mean.shape != scores.shape:
            raise ObservationError(
                f"the scores of {name!r} have shape {tuple(scores.shape)}, their average has "
                f"{tuple(mean.shape)}: a smoothing follows the tensors of one model"
            )
        weight = 1 / count if self._beta == 1 else (1 - self._beta) / (1 - self._beta**count)
        return torch.sub(scores.detach(), mean, out=out).mul_(weight)
