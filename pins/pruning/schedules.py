"""Sparsity over training: which steps decide, and exactly how many weights they keep.

Ratios are exact fractions; 0.8 means 4/5, the decimal that was written, not the float nearest it.
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

# the paper's run on RTE: 20 epochs of 156 steps, of which 200 warm up and 6 · 200 cool down
PAPER_STEPS, PAPER_WARMUP, PAPER_COOLDOWN = 3120, 200, 1200


@runtime_checkable
class Schedule(Protocol):
    """Which steps decide, and the sparsity they decide on. Steps are counted from 1."""

    @property
    def last(self) -> int:
        """The step of the last decision, at which the final sparsity is reached."""
        ...

    @property
    def end(self) -> int:
        """The last step of training, as far as the schedule knows it; at least `last`."""
        ...

    def decides(self, step: int) -> bool:
        """Whether a pruning decision is taken after that step."""
        ...

    def sparsity(self, step: int) -> Fraction:
        """1 − kept ratio after that step, in [0, 1]."""
        ...


def paper_phases(steps: int) -> tuple[int, int]:
    """Warm-up and cool-down of a run of `steps` in the paper's proportions, rounded down.

    200 and 6 · 200 of 3,120 steps (RTE: 20 epochs of 156 steps), so that 1,720 prune. Of any
    number of steps at least one is left to prune in.

    Raises:
        ScheduleError: less than one step.
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
        """`at`, the one decision."""
        return self.at

    @property
    def end(self) -> int:
        """`at`, as if nothing came after it."""
        return self.at

    def decides(self, step: int) -> bool:
        """True after step `at` alone."""
        return step == self.at

    def sparsity(self, step: int) -> Fraction:
        """0 before, `final_sparsity` from step `at` on."""
        return exact_ratio(self.final_sparsity) if step >= self.at else Fraction(0)


@dataclass(frozen=True)
class GradualSchedule(ABC):
    """Kept ratio v(t) = v_f + (v_i − v_f)·left(x), x = (t−t_i)/(T−t_i−t_f) cut to [0, 1].

    left falls from 1 to 0: what is still to do of the way to the final sparsity.

    Attributes:
        steps: T, the training steps in all.
        final_sparsity: 1 − v_f.
        initial_sparsity: 1 − v_i.
        warmup: t_i, steps at the initial sparsity.
        cooldown: t_f, steps at the final sparsity, in which nothing is decided any more.
        interval: ΔT, steps from one decision to the next.
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
        """What is still to do at a progress of [0, 1]: 1 at 0, 0 at 1, never rising."""

    @property
    def last(self) -> int:
        """The step of the last decision, at which the final sparsity is reached."""
        return self.steps - self.cooldown

    @property
    def end(self) -> int:
        """`steps`."""
        return self.steps

    def decides(self, step: int) -> bool:
        """Every `interval` steps after the warm-up, at the last step before the cool-down.

        And at the first step, where the initial sparsity is not 0: models start dense.
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
    """left = 1 − x: each interval prunes as much as any other."""

    def left(self, progress: Fraction) -> Fraction:
        """1 − x."""
        return 1 - progress


class CubicSchedule(GradualSchedule):
    """left = (1 − x)³: most is pruned early, while there is time to recover (Zhu & Gupta 2017)."""

    def left(self, progress: Fraction) -> Fraction:
        """(1 − x)³."""
        return (1 - progress) ** 3


SCHEDULES: Mapping[str, Callable[..., Schedule]] = {
    "cubic": CubicSchedule,
    "linear": LinearSchedule,
    "one-shot": OneShotSchedule,
}


def find_schedule(name: str) -> Callable[..., Schedule]:
    """The kind of schedule of that name: its class.

    Raises:
        ScheduleError: there is none; says which there are.
    """
    return find(SCHEDULES, name, "schedule", ScheduleError)


def schedule_of_run(
    name: str, *, sparsity: float, steps: int, warmup: int, cooldown: int, interval: int
) -> Schedule:
    """The schedule of that name; one-shot decides at the first step after the warm-up.

    Args:
        name: of `SCHEDULES`.
        sparsity: to reach.
        steps: of the whole run.
        warmup: steps at full density.
        cooldown: steps at the final sparsity.
        interval: steps from one decision to the next.

    Raises:
        ScheduleError: there is no such schedule, or a gradual one does not fit the steps.
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
