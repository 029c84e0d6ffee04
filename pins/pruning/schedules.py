"""Schedules: the decision steps of a training, and the exact sparsity after each step.

Ratios are exact fractions; 0.8 means 4/5, the written decimal, not the nearest float.
"""

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol, SupportsIndex, runtime_checkable

from pins.errors import ScheduleError
from pins.selection.constraints import exact_ratio
from pins.utils.lookup import find

# the paper's run on RTE: 20 epochs of 156 steps, with 200 steps of warm-up, 6 · 200 of cool-down
PAPER_STEPS, PAPER_WARMUP, PAPER_COOLDOWN = 3120, 200, 1200


@runtime_checkable
class Schedule(Protocol):
    """The decision steps and their sparsities. Steps are counted from 1."""

    @property
    def last(self) -> int:
        """The step of the last decision, at which the final sparsity is reached."""

    @property
    def end(self) -> int:
        """The last step of training that the schedule knows; at least `last`."""

    def decides(self, step: int) -> bool:
        """Whether a pruning decision is taken after this step."""

    def sparsity(self, step: int) -> Fraction:
        """1 − kept ratio after this step, in [0, 1]; a `Pruner` never lets it fall.

        Step 0 is the time before the first step.
        """


def sparsity_from(schedule: Schedule, start: Fraction, step: int) -> Fraction:
    """The sparsity after a step of a training that starts at the sparsity `start`.

    Each step goes the same share of the way to the final sparsity as in the schedule itself, which
    is unchanged if it starts as sparse.
    """
    scheduled = schedule.sparsity(step)
    if not start or start <= (first := schedule.sparsity(0)):
        return scheduled
    final = schedule.sparsity(schedule.last)
    return (
        start + (scheduled - first) * (final - start) / (final - first) if final > first else start
    )


def paper_phases(steps: int) -> tuple[int, int]:
    """Warm-up and cool-down of a run of `steps` in the paper's proportions, rounded down.

    The paper has 200 and 6 · 200 of 3,120 steps, so 1,720 steps prune. At least one step prunes.

    Raises:
        ScheduleError: `steps` is less than 1.
    """
    if steps < 1:
        raise ScheduleError(f"steps is {steps}: a run has at least 1")
    return steps * PAPER_WARMUP // PAPER_STEPS, steps * PAPER_COOLDOWN // PAPER_STEPS


@dataclass(frozen=True)
class OneShotSchedule:
    """One decision, after step `at`."""

    final_sparsity: float | Fraction
    at: int = 1

    def __post_init__(self) -> None:
        exact_ratio(self.final_sparsity, "final_sparsity")
        _require_integers(at=self.at)
        if self.at < 1:
            raise ScheduleError(f"at is {self.at}: steps are counted from 1")

    @property
    def last(self) -> int:
        """`at`."""
        return self.at

    @property
    def end(self) -> int:
        """`at`."""
        return self.at

    def decides(self, step: int) -> bool:
        """True only for step `at`."""
        return step == self.at

    def sparsity(self, step: int) -> Fraction:
        """0 before step `at`, `final_sparsity` from it on."""
        return exact_ratio(self.final_sparsity) if step >= self.at else Fraction(0)


@dataclass(frozen=True)
class GradualSchedule(ABC):
    """Kept ratio v(t) = v_f + (v_i − v_f)·left(x), x = (t−t_i)/(T−t_i−t_f) clipped to [0, 1].

    left decreases from 1 to 0: the remaining share of the way to the final sparsity.

    Attributes:
        steps: T, the number of training steps.
        final_sparsity: 1 − v_f.
        initial_sparsity: 1 − v_i.
        warmup: t_i, steps at the initial sparsity.
        cooldown: t_f, steps at the final sparsity without decisions.
        interval: ΔT, steps between two decisions.
    """

    steps: int
    final_sparsity: float | Fraction
    initial_sparsity: float | Fraction = 0.0
    warmup: int = 0
    cooldown: int = 0
    interval: int = 10

    def __post_init__(self) -> None:
        final = exact_ratio(self.final_sparsity, "final_sparsity")
        if exact_ratio(self.initial_sparsity, "initial_sparsity") > final:
            raise ScheduleError(
                f"initial_sparsity is {self.initial_sparsity} and final_sparsity "
                f"{self.final_sparsity}: sparsity must not fall"
            )
        _require_integers(
            steps=self.steps, warmup=self.warmup, cooldown=self.cooldown, interval=self.interval
        )
        if self.warmup < 0 or self.cooldown < 0 or self.interval < 1:
            raise ScheduleError(
                f"warmup {self.warmup}, cooldown {self.cooldown}, interval {self.interval}: "
                "the first two are at least 0, the interval at least 1"
            )
        missing = self.warmup + self.cooldown + 1 - self.steps
        if missing > 0:
            raise ScheduleError(
                f"warm-up {self.warmup} + cool-down {self.cooldown} leave no step to prune in "
                f"{self.steps}: {missing} too many"
            )

    @abstractmethod
    def left(self, progress: Fraction) -> Fraction:
        """The remaining share at a progress in [0, 1]: 1 at 0, 0 at 1, non-increasing."""

    @property
    def last(self) -> int:
        """The step of the last decision, at which the final sparsity is reached."""
        return self.steps - self.cooldown

    @property
    def end(self) -> int:
        """`steps`."""
        return self.steps

    def decides(self, step: int) -> bool:
        """Every `interval` steps after the warm-up, and at the last step before the cool-down.

        Also at the first step if the initial sparsity is not 0: the model may start dense.
        """
        if step == 1 and self.initial_sparsity > 0:
            return True
        since = step - self.warmup
        return step == self.last or (
            0 < since < self.last - self.warmup and since % self.interval == 0
        )

    def sparsity(self, step: int) -> Fraction:
        """1 − v(step), exactly."""
        initial, final = exact_ratio(self.initial_sparsity), exact_ratio(self.final_sparsity)
        progress = Fraction(step - self.warmup, self.steps - self.cooldown - self.warmup)
        return final + (initial - final) * self.left(min(max(progress, Fraction(0)), Fraction(1)))


class LinearSchedule(GradualSchedule):
    """left = 1 − x: every interval prunes the same number of weights."""

    def left(self, progress: Fraction) -> Fraction:
        """1 − x."""
        return 1 - progress


class CubicSchedule(GradualSchedule):
    """left = (1 − x)³: most weights are pruned early, with time to recover (Zhu & Gupta 2017)."""

    def left(self, progress: Fraction) -> Fraction:
        """(1 − x)³."""
        return (1 - progress) ** 3


SCHEDULES: Mapping[str, Callable[..., Schedule]] = {
    "cubic": CubicSchedule,
    "linear": LinearSchedule,
    "one-shot": OneShotSchedule,
}


def find_schedule(name: str) -> Callable[..., Schedule]:
    """Return the class of schedule with this name.

    Raises:
        ScheduleError: no schedule has this name; the message lists the names.
    """
    return find(SCHEDULES, name, "schedule", ScheduleError)


def schedule_of_run(
    name: str, *, sparsity: float | Fraction, steps: int, warmup: int, cooldown: int, interval: int
) -> Schedule:
    """The schedule with this name; one-shot decides at the first step after the warm-up.

    Args:
        name: a name in `SCHEDULES`.
        sparsity: final sparsity.
        steps: number of training steps.
        warmup: steps before the first decision.
        cooldown: steps at the final sparsity.
        interval: steps between two decisions.

    Raises:
        ScheduleError: no schedule has this name, or a gradual schedule does not fit the steps.
    """
    kind = find_schedule(name)
    if kind is OneShotSchedule:
        return OneShotSchedule(sparsity, at=warmup + 1)
    return kind(
        steps=steps,
        final_sparsity=sparsity,
        warmup=warmup,
        cooldown=cooldown,
        interval=interval,
    )


def _require_integers(**values: SupportsIndex) -> None:
    for name, value in values.items():
        try:
            operator.index(value)
        except TypeError:
            raise ScheduleError(f"{name} is {value!r}: it is a whole number of steps") from None
