"""Smoothing: importance averaged over training steps, because the gradient of a batch is noisy.

Window mean, exponential average, and exponential average times its uncertainty are running means:
none is biased to its start, and constant scores are their own average.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from pins.errors import CheckpointError, CriterionError, ObservationError
from pins.importance.criterion import Criterion
from pins.importance.running_mean import RunningMean
from pins.utils.io import unflatten
from pins.utils.lookup import find


class Smoothing(ABC):
    """The scores that a decision ranks instead of the scores of its own step.

    After each step, `update` receives the scores of every tensor. At a decision, `importance`
    returns the scores to rank; after the decision, `decided` is called.
    """

    name: ClassVar[str]
    every_step: ClassVar[bool] = True  # whether it needs the scores of steps without a decision

    def __init__(self, **means: RunningMean) -> None:
        self._means = means

    @abstractmethod
    def update(self, name: str, scores: Tensor) -> None:
        """Add the scores of this step, larger = keep, of the tensor `name`.

        Raises:
            ObservationError: the shape differs from that of the earlier scores.
        """

    @abstractmethod
    def importance(self, name: str) -> Tensor:
        """Return the scores to rank, larger = keep, as a new tensor; the state does not change.

        Raises:
            ObservationError: no scores of this name were added.
        """

    @abstractmethod
    def decided(self) -> None:
        """Record that a decision was taken."""

    @property
    def betas(self) -> dict[str, float]:
        """β of each running mean, by its kind."""
        return {kind: mean.beta for kind, mean in self._means.items()}

    def has(self, name: str) -> bool:
        """Whether an average holds scores of the tensor `name`."""
        return any(name in mean.values for mean in self._means.values())

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of the averages, "KIND/NAME", and their counts, "KIND.count/NAME" (int64)."""
        state = {}
        for kind, mean in self._means.items():
            for name, value in mean.values.items():
                state[f"{kind}/{name}"] = value.clone()
                state[f"{kind}.count/{name}"] = torch.tensor(mean.counts[name])
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from the state of another smoothing of the same kind.

        Raises:
            CheckpointError: the state belongs to something else; then nothing has changed.
        """
        found = {k: (unflatten(state, k), unflatten(state, f"{k}.count")) for k in self._means}
        for kind, (values, counts) in found.items():
            if values.keys() != counts.keys():
                name = min(values.keys() ^ counts.keys())
                raise CheckpointError(
                    f"the state of smoothing {self.name!r} has no "
                    f"{'count' if name in values else 'average'} for {kind}/{name}: give the "
                    "result of state_dict()"
                )
        known = tuple(f"{kind}{part}/" for kind in self._means for part in ("", ".count"))
        for key in state:
            if not key.startswith(known):
                raise CheckpointError(
                    f"the state has {key!r}, which smoothing {self.name!r} does not keep: give "
                    "the state of this smoothing"
                )
        for kind, (values, counts) in found.items():
            self._means[kind].values = {name: value.clone() for name, value in values.items()}
            self._means[kind].counts = {name: int(count) for name, count in counts.items()}

    def _missing(self, name: str) -> ObservationError:
        return ObservationError(
            f"smoothing {self.name!r} has no scores of {name!r} to average: call update() after "
            "each step, and decided() only after a decision"
        )


class NoSmoothing(Smoothing):
    """The scores of the decision's own step. Keeps no tensor between steps."""

    name = "none"
    every_step = False

    def __init__(self) -> None:
        super().__init__()
        self._latest: dict[str, Tensor] = {}

    def update(self, name: str, scores: Tensor) -> None:
        """Hold the scores until the decision."""
        self._latest[name] = scores

    def importance(self, name: str) -> Tensor:
        """The scores of this step."""
        if name not in self._latest:
            raise self._missing(name)
        return self._latest[name]

    def decided(self) -> None:
        """Release the scores."""
        self._latest = {}


class WindowMean(Smoothing):
    """Ī = mean of the scores of all steps since the last decision. Keeps 1 tensor."""

    name = "window"

    def __init__(self) -> None:
        self._window = RunningMean()
        super().__init__(window=self._window)

    def update(self, name: str, scores: Tensor) -> None:
        """Ī ← Ī + (I − Ī)/t."""
        self._window.add(name, scores)

    def importance(self, name: str) -> Tensor:
        """Ī."""
        if name not in self._window.values:
            raise self._missing(name)
        return self._window.values[name].clone()

    def decided(self) -> None:
        """Start the next window."""
        self._window.clear()


class ExponentialAverage(Smoothing):
    """Ī_t = Σⱼ βᵗ⁻ʲ Iⱼ / Σⱼ βᵗ⁻ʲ over all steps. Keeps 1 tensor, with windows 2.

    With `window`, each Iⱼ is the mean of the scores between two decisions, as in PLATON: β then
    counts decisions, not steps. A decision ranks the average that includes its own window.
    """

    name = "average"

    def __init__(self, beta: float = 0.85, *, window: bool = False, **means: RunningMean) -> None:
        """Start empty.

        Raises:
            CriterionError: beta is not in [0, 1).
        """
        self._average = RunningMean(_decay("beta", beta))
        self._window = RunningMean() if window else None
        windows = {} if self._window is None else {"window": self._window}
        super().__init__(average=self._average, **means, **windows)

    def update(self, name: str, scores: Tensor) -> None:
        """Add the scores to the average, or to the window if there is one."""
        if self._window is None:
            self._add(name, scores)
        else:
            self._window.add(name, scores)

    def importance(self, name: str) -> Tensor:
        """Ī, including the current window."""
        if self._window is not None and name in self._window.values:
            return self._after(name, self._window.values[name])
        if name not in self._average.values:
            raise self._missing(name)
        return self._current(name)

    def decided(self) -> None:
        """Add the window to the average and start the next window."""
        if self._window is not None:
            for name, mean in self._window.values.items():
                self._add(name, mean)
            self._window.clear()

    def _add(self, name: str, scores: Tensor) -> None:
        self._average.add(name, scores)

    def _current(self, name: str) -> Tensor:
        return self._average.values[name].clone()

    def _after(self, name: str, scores: Tensor) -> Tensor:
        """The result of `_current` after `_add`; the state does not change."""
        return self._average.after(name, scores)


class Uncertainty(ExponentialAverage):
    """Ī_t · Ū_t with Ū the average (β₂) of U_t = |I_t − Ī_{t−1}|. Keeps 2 tensors, with windows 3.

    PLATON (Zhang et al., ICML 2022, alg. 1) ranks by Ī·Ū with U_t = |I_t − Ī_t|. Its Ī starts at
    zero, where I_t − Ī_t = β₁(I_t − Ī_{t−1}): both definitions give the same ranking. The unbiased
    Ī_t contains the share w_t of I_t itself, all of it at t = 1, so |I_t − Ī_t| would be too small,
    most of all at the start. Ī_{t−1} is a prediction of I_t that has not seen I_t, and
    |I_t − Ī_{t−1}| is its error. After t steps there are t − 1 errors, and Ū is corrected for this
    number; after the first step there is no error, and Ī alone is ranked.

    Ū ≥ 0, so signed scores keep their sign: uncertainty moves them away from zero on both sides.
    """

    name = "uncertainty"

    def __init__(self, beta1: float = 0.85, beta2: float = 0.95, *, window: bool = False) -> None:
        """Start empty.

        Raises:
            CriterionError: a beta is not in [0, 1).
        """
        self._deviation = RunningMean(_decay("beta2", beta2))
        super().__init__(_decay("beta1", beta1), window=window, deviation=self._deviation)

    def _add(self, name: str, scores: Tensor) -> None:
        if name in self._average.values:
            self._deviation.add(name, self._error(name, scores), overwrite=True)
        super()._add(name, scores)

    def _current(self, name: str) -> Tensor:
        average = super()._current(name)
        if name in self._deviation.values:
            average *= self._deviation.values[name]
        return average

    def _after(self, name: str, scores: Tensor) -> Tensor:
        average = super()._after(name, scores)
        if name in self._average.values:
            average *= self._deviation.after(name, self._error(name, scores))
        return average

    def _error(self, name: str, scores: Tensor) -> Tensor:
        """|I_t − Ī_{t−1}|."""
        return (scores.detach() - self._average.values[name].to(scores.device)).abs_()


SMOOTHINGS: Mapping[str, Callable[[], Smoothing]] = {
    smoothing.name: smoothing
    for smoothing in (NoSmoothing, WindowMean, ExponentialAverage, Uncertainty)
}


def find_smoothing(name: str) -> Callable[[], Smoothing]:
    """Return the class of smoothing with this name.

    Raises:
        CriterionError: no smoothing has this name; the message lists the names.
    """
    return find(SMOOTHINGS, name, "smoothing", CriterionError)


def default_smoothing(criterion: Criterion) -> str:
    """The name of the default smoothing: uncertainty, and none for an adaptive criterion."""
    return NoSmoothing.name if criterion.adaptive else Uncertainty.name


def require_averageable(criterion: Criterion, smoothing: Smoothing) -> None:
    """Check that scores of different steps are averaged only if they are comparable.

    Raises:
        CriterionError: the criterion is adaptive, and the smoothing averages scores.
    """
    if criterion.adaptive and smoothing.every_step:
        raise CriterionError(
            f"criterion {criterion.name!r} was given smoothing {smoothing.name!r}: its inputs are "
            "averages already, and its multiplier differs from step to step; leave the smoothing "
            "out"
        )


def _decay(name: str, beta: float) -> float:
    if not 0 <= beta < 1:
        raise CriterionError(
            f"{name} is {beta}: it is the weight of the past, from 0 to less than 1"
        )
    return beta
