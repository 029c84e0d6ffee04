"""Smoothing: importance averaged over training steps, since the gradient of one batch is noisy.

Window mean, exponential average, exponential average times its uncertainty: running means all, so
that none of them is biased to its start, and constant scores are smoothed to themselves.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from pins.errors import CheckpointError, CriterionError, ObservationError
from pins.importance.criterion import Criterion
from pins.importance.running_mean import RunningMean
from pins.utils.lookup import find


class Smoothing(ABC):
    """What a decision ranks in place of the scores of its own step.

    After each step `update` takes the scores of every tensor. At a decision `importance` says what
    to rank, and `decided` that it was.
    """

    name: ClassVar[str]
    every_step: ClassVar[bool] = True  # whether it wants the scores of steps without a decision

    def __init__(self, **means: RunningMean) -> None:
        self._means = means

    @abstractmethod
    def update(self, name: str, scores: Tensor) -> None:
        """Take the scores of this step, larger = keep, of the tensor of that name.

        Raises:
            ObservationError: the shape is not that of the scores before.
        """

    @abstractmethod
    def importance(self, name: str) -> Tensor:
        """What to rank, larger = keep, as a tensor of its own; asking changes nothing.

        Raises:
            ObservationError: there is nothing of that name to average.
        """

    @abstractmethod
    def decided(self) -> None:
        """A decision was taken on what `importance` said."""

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of the averages, "KIND/NAME", with their counts, "KIND.count/NAME" (int64)."""
        state = {}
        for kind, mean in self._means.items():
            for name, value in mean.values.items():
                state[f"{kind}/{name}"] = value.clone()
                state[f"{kind}.count/{name}"] = torch.tensor(mean.counts[name])
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on where another smoothing of the same kind stood.

        Raises:
            CheckpointError: it is the state of something else; nothing has changed then.
        """
        found = {}
        for kind in self._means:
            values, counts = _under(state, f"{kind}/"), _under(state, f"{kind}.count/")
            found[kind] = (values, counts)
            if values.keys() != counts.keys():
                name = min(values.keys() ^ counts.keys())
                raise CheckpointError(
                    f"the state of smoothing {self.name!r} has no "
                    f"{'count' if name in values else 'average'} for {kind}/{name}: give what "
                    "state_dict() returned"
                )
        if len(state) != sum(len(values) + len(counts) for values, counts in found.values()):
            strange = next(key for key in state if not key.startswith(self._prefixes()))
            raise CheckpointError(
                f"the state has {strange!r}, which smoothing {self.name!r} does not keep: it is "
                "of another smoothing, or none"
            )
        for kind, (values, counts) in found.items():
            self._means[kind].values = {name: value.clone() for name, value in values.items()}
            self._means[kind].counts = {name: int(count) for name, count in counts.items()}

    def _prefixes(self) -> tuple[str, ...]:
        return tuple(f"{kind}{part}/" for kind in self._means for part in ("", ".count"))

    def _missing(self, name: str) -> ObservationError:
        return ObservationError(
            f"smoothing {self.name!r} has no scores of {name!r} to average: call update() after "
            "each step, and decided() only after a decision"
        )


class NoSmoothing(Smoothing):
    """The scores of the decision's own step. Keeps nothing."""

    name = "none"
    every_step = False

    def __init__(self) -> None:
        super().__init__()
        self._latest: dict[str, Tensor] = {}

    def update(self, name: str, scores: Tensor) -> None:
        """Hold on to the scores until the decision."""
        self._latest[name] = scores

    def importance(self, name: str) -> Tensor:
        """The scores of this step."""
        if name not in self._latest:
            raise self._missing(name)
        return self._latest[name]

    def decided(self) -> None:
        """Let the scores go."""
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
        """Begin the next window."""
        self._window.clear()


class ExponentialAverage(Smoothing):
    """Ī_t = Σⱼ βᵗ⁻ʲ Iⱼ / Σⱼ βᵗ⁻ʲ over all steps. Keeps 1 tensor, with windows 2.

    With `window`, the averaged Iⱼ are means of the scores between decisions, as in PLATON: β then
    counts decisions, not steps. The window that a decision ends is averaged in *before* it ranks.
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
        """Average the scores in, into the window where there is one."""
        if self._window is None:
            self._fold(name, scores)
        else:
            self._window.add(name, scores)

    def importance(self, name: str) -> Tensor:
        """Ī, with the window that ends now."""
        if self._window is not None and name in self._window.values:
            return self._ahead(name, self._window.values[name])
        if name not in self._average.values:
            raise self._missing(name)
        return self._now(name)

    def decided(self) -> None:
        """Average the window in and begin the next one."""
        if self._window is not None:
            for name, mean in self._window.values.items():
                self._fold(name, mean)
            self._window.clear()

    def _fold(self, name: str, scores: Tensor) -> None:
        self._average.add(name, scores)

    def _now(self, name: str) -> Tensor:
        return self._average.values[name].clone()

    def _ahead(self, name: str, scores: Tensor) -> Tensor:
        """What `_now` would be after `_fold`."""
        return self._average.after(name, scores)


class Uncertainty(ExponentialAverage):
    """Ī_t · Ū_t with Ū the average (β₂) of U_t = |I_t − Ī_{t−1}|. Keeps 2 tensors, with windows 3.

    PLATON (Zhang et al., ICML 2022, alg. 1) ranks by Ī·Ū with U_t = |I_t − Ī_t|. Its Ī starts at
    zero, where I_t − Ī_t = β₁(I_t − Ī_{t−1}): both choices rank alike. Free of its bias, Ī_t holds
    the share w_t of I_t itself, all of it at t = 1, so |I_t − Ī_t| would be too small, and most so
    at the start. The average *before* the step predicts I_t without having seen it, and
    |I_t − Ī_{t−1}| is its error. After t steps there are t − 1 errors, and Ū is corrected for as
    many; after the first there is none, and Ī alone is ranked.

    Ū ≥ 0, so the sign of signed scores stays: uncertainty takes them away from zero on both sides.
    """

    name = "uncertainty"

    def __init__(self, beta1: float = 0.85, beta2: float = 0.95, *, window: bool = False) -> None:
        """Start empty.

        Raises:
            CriterionError: a beta is not in [0, 1).
        """
        self._deviation = RunningMean(_decay("beta2", beta2))
        super().__init__(_decay("beta1", beta1), window=window, deviation=self._deviation)

    def _fold(self, name: str, scores: Tensor) -> None:
        if name in self._average.values:
            self._deviation.add(name, self._error(name, scores), overwrite=True)
        super()._fold(name, scores)

    def _now(self, name: str) -> Tensor:
        average = super()._now(name)
        if name in self._deviation.values:
            average *= self._deviation.values[name]
        return average

    def _ahead(self, name: str, scores: Tensor) -> Tensor:
        average = super()._ahead(name, scores)
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
    """The kind of smoothing of that name: call it for a fresh one.

    Raises:
        CriterionError: there is none; says which there are.
    """
    return find(SMOOTHINGS, name, "smoothing", CriterionError)


def default_smoothing(criterion: Criterion) -> str:
    """Where none is chosen: uncertainty, and none of what is fitted to each decision."""
    return NoSmoothing.name if criterion.fits else Uncertainty.name


def require_averageable(criterion: Criterion, smoothing: Smoothing) -> None:
    """Scores of one step mean at another what they mean at their own.

    Raises:
        CriterionError: they do not, and averages of them are asked for.
    """
    if criterion.fits and smoothing.every_step:
        raise CriterionError(
            f"criterion {criterion.name!r} was given smoothing {smoothing.name!r}: what it reads "
            "are averages already, and its multiplier differs from step to step; leave the "
            "smoothing out"
        )


def _decay(name: str, beta: float) -> float:
    if not 0 <= beta < 1:
        raise CriterionError(
            f"{name} is {beta}: it is the weight of the past, from 0 to less than 1"
        )
    return beta


def _under(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): state[key] for key in state if key.startswith(prefix)}
