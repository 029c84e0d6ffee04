"""Lagging averages: the smoothing of the released code, one window late and biased to its start."""

import torch
from torch import Tensor

from pins.errors import CriterionError, ObservationError
from pins.importance.running_mean import RunningMean
from pins.importance.smoothing import Smoothing

BETA1, BETA2, INTERVAL = 0.85, 0.99, 10  # of the authors' recipe


class LaggingAverages(Smoothing):
    """Ī ← β₁Ī + (1−β₁)I, Ū ← β₂Ū + (1−β₂)|I − Ī|, both from 0, with I the mean of ΔT steps.

    They take a window in when the next begins. A decision ranks Ī·Ū; where β₂ = 1, Ī; where
    β₂ = 0 (the released code's default), Ī·|I − Ī| with I the window so far. Keeps 3 tensors.
    """

    name = "lagging"

    def __init__(
        self, beta1: float = BETA1, beta2: float = BETA2, interval: int = INTERVAL
    ) -> None:
        """Start at zero.

        Raises:
            CriterionError: a beta is not in [0, 1]; the released code has other rules for 2,
                which fails, and for everything else, which is that for 0.
        """
        for name, beta in (("beta1", beta1), ("beta2", beta2)):
            if not 0 <= beta <= 1:
                raise CriterionError(f"{name} is {beta}: it is the weight of the past, 0 to 1")
        self._beta1, self._beta2, self._interval = beta1, beta2, interval
        self._window, self._average, self._error = RunningMean(), RunningMean(), RunningMean()
        super().__init__(window=self._window, average=self._average, error=self._error)

    def update(self, name: str, scores: Tensor) -> None:
        """Take the scores into the window, and the window before into the averages."""
        means = (self._window, self._average, self._error)
        if name not in self._window.values:
            for mean in means:
                mean.values[name], mean.counts[name] = torch.zeros_like(scores), 0
        window, average, error = (mean.values[name] for mean in means)
        if window.shape != scores.shape:
            raise ObservationError(
                f"the scores of {name!r} have shape {tuple(scores.shape)}, their average has "
                f"{tuple(window.shape)}: a smoothing follows the tensors of one model"
            )
        seen = self._window.counts[name] % self._interval
        if seen == 0:
            average.mul_(self._beta1).add_(window * (1 - self._beta1))
            distance = (window - average).abs_()
            error.mul_(self._beta2).add_(distance.mul_(1 - self._beta2))
        window.mul_(seen).add_(scores).div_(seen + 1)
        for mean in means:
            mean.counts[name] += 1

    def importance(self, name: str) -> Tensor:
        """Ī·Ū, or what stands for it."""
        if name not in self._window.values:
            raise self._missing(name)
        average = self._average.values[name]
        if self._beta2 == 1:
            return average.clone()
        if self._beta2 == 0:
            return average * (self._window.values[name] - average).abs_()
        return average * self._error.values[name]

    def decided(self) -> None:
        """Windows end by the calendar, not by decisions."""
