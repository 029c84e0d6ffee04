"""Lagging averages: the smoothing of the released code, one window late and biased to zero."""

import torch
from torch import Tensor

from pins.errors import CriterionError
from pins.importance.running_mean import RunningMean, require_same_shape
from pins.importance.smoothing import Smoothing

BETA1, BETA2, INTERVAL = 0.85, 0.99, 10  # the values of the authors


class LaggingAverages(Smoothing):
    """Ī ← β₁Ī + (1−β₁)I, Ū ← β₂Ū + (1−β₂)|I − Ī|, both from 0, with I the mean of ΔT steps.

    A window enters the averages when the next window begins. A decision ranks Ī·Ū; for β₂ = 1, Ī;
    for β₂ = 0 (the default of the released code), Ī·|I − Ī| with I the current window. Keeps 3
    tensors.
    """

    name = "lagging"

    def __init__(
        self, beta1: float = BETA1, beta2: float = BETA2, interval: int = INTERVAL
    ) -> None:
        """Start at zero.

        Raises:
            CriterionError: a beta is not in [0, 1]; the released code fails for 2 and treats any
                other value as 0.
        """
        for name, beta in (("beta1", beta1), ("beta2", beta2)):
            if not 0 <= beta <= 1:
                raise CriterionError(f"{name} is {beta}: it is the weight of the past, 0 to 1")
        self._beta1, self._beta2, self._interval = beta1, beta2, interval
        self._window, self._average, self._error = RunningMean(), RunningMean(), RunningMean()
        super().__init__(window=self._window, average=self._average, error=self._error)

    def update(self, name: str, scores: Tensor) -> None:
        """Add the scores to the window, and the previous window to the averages."""
        means = (self._window, self._average, self._error)
        if name not in self._window.values:
            for mean in means:
                mean.values[name], mean.counts[name] = torch.zeros_like(scores), 0
        window, average, error = (mean.values[name] for mean in means)
        require_same_shape(name, scores, window)
        seen = self._window.counts[name] % self._interval
        if seen == 0:
            average.mul_(self._beta1).add_(window * (1 - self._beta1))
            distance = (window - average).abs_()
            error.mul_(self._beta2).add_(distance.mul_(1 - self._beta2))
        window.mul_(seen).add_(scores).div_(seen + 1)
        for mean in means:
            mean.counts[name] += 1

    def importance(self, name: str) -> Tensor:
        """Ī·Ū, Ī or Ī·|I − Ī|."""
        if name not in self._window.values:
            raise self._missing(name)
        average = self._average.values[name]
        if self._beta2 == 1:
            return average.clone()
        if self._beta2 == 0:
            return average * (self._window.values[name] - average).abs_()
        return average * self._error.values[name]

    def decided(self) -> None:
        """Do nothing: windows end by the calendar, not by decisions."""
