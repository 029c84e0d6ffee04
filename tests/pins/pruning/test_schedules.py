"""Schedules: exact ratios, the cubic formula, and when decisions are taken."""

import math
import re
from fractions import Fraction
from itertools import pairwise
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pins.errors import ScheduleError
from pins.pruning.schedules import (
    SCHEDULES,
    CubicSchedule,
    GradualSchedule,
    LinearSchedule,
    OneShotSchedule,
    Schedule,
    find_schedule,
    paper_phases,
    schedule_of_run,
)
from pins.selection.constraints import exact_ratio, keep_count
from verification.strategies import cubic_schedules, schedules, sparsities

GRADUAL: dict[str, type[GradualSchedule]] = {"linear": LinearSchedule, "cubic": CubicSchedule}


def as_linear(schedule: CubicSchedule) -> LinearSchedule:
    return LinearSchedule(**vars(schedule))


def gradual_schedules() -> st.SearchStrategy[GradualSchedule]:
    return st.one_of(cubic_schedules(), cubic_schedules().map(as_linear))


def decisions(schedule: Schedule, until: int = 200) -> list[int]:
    return [step for step in range(-5, until) if schedule.decides(step)]


def test_a_float_means_the_decimal_that_was_written() -> None:
    assert exact_ratio(0.8) == Fraction(4, 5)
    assert Fraction(0.8) != Fraction(4, 5)
    assert exact_ratio(Fraction(1, 3)) == Fraction(1, 3)
    assert exact_ratio(1e-7) == Fraction(1, 10**7)
    assert [exact_ratio(value) for value in (0, 1, -0.0)] == [0, 1, 0]


def test_a_float_of_numpy_means_what_a_float_means() -> None:
    # np.float64 is a float: what np.linspace gives goes in as it is
    assert exact_ratio(np.float64(0.8)) == Fraction(4, 5)


@pytest.mark.parametrize(
    "value", [-0.1, 1.5, float("nan"), float("inf"), Fraction(3, 2), "0.8", None, True]
)
def test_what_is_no_ratio_is_refused(value: Any) -> None:
    message = re.escape(f"share is {value!r}: it is a ratio from 0 (dense) to 1 (all zero)")
    with pytest.raises(ScheduleError, match=message):
        exact_ratio(value, "share")


@given(sparsities(), st.integers(0, 10**12))
def test_keep_count_is_the_nearest_integer(sparsity: float | Fraction, total: int) -> None:
    keep = keep_count(sparsity, total)
    distance = keep - (1 - exact_ratio(sparsity)) * total
    assert Fraction(-1, 2) < distance <= Fraction(1, 2)  # a half keeps the extra weight
    assert 0 <= keep <= total


def test_keep_count_is_that_of_the_written_decimal() -> None:
    assert keep_count(0.8, 5) == 1
    assert keep_count(0.9, 5) == 1  # 0.5: the half is kept
    assert keep_count(0.7, 5) == 2  # 1.5
    # the float nearest 0.9 lies above it, and what it leaves of 5·10¹⁷ is short by 12
    total = 5 * 10**17
    assert keep_count(0.9, total) == total // 10 != keep_count(Fraction(0.9), total)


@given(gradual_schedules(), st.integers(-10, 80))
def test_a_gradual_schedule_is_its_formula(schedule: GradualSchedule, step: int) -> None:
    power = {LinearSchedule: 1, CubicSchedule: 3}[type(schedule)]
    v_i, v_f = 1 - exact_ratio(schedule.initial_sparsity), 1 - exact_ratio(schedule.final_sparsity)
    t_i, t_f, steps = schedule.warmup, schedule.cooldown, schedule.steps
    if step <= t_i:
        kept = v_i
    elif step >= steps - t_f:
        kept = v_f
    else:
        left = 1 - Fraction(step - t_i) / (steps - t_i - t_f)
        kept = v_f + (v_i - v_f) * left**power
    assert 1 - schedule.sparsity(step) == kept


def test_the_cubic_schedule_on_numbers_that_tell_it_from_linear_and_quadratic() -> None:
    schedule = CubicSchedule(steps=8, final_sparsity=0.8)
    sparsities = [schedule.sparsity(step) for step in (2, 4, 6)]
    assert sparsities == [Fraction(4, 5) * (1 - Fraction(left, 4) ** 3) for left in (3, 2, 1)]
    assert sparsities[1] == Fraction(7, 10)


def test_the_linear_schedule_on_numbers() -> None:
    schedule = LinearSchedule(steps=12, final_sparsity=0.8, warmup=2, cooldown=2)
    sparsities = [schedule.sparsity(step) for step in (2, 4, 6, 8, 10, 12)]
    assert sparsities == [Fraction(part, 5) for part in (0, 1, 2, 3, 4, 4)]


@given(cubic_schedules())
def test_cubic_is_never_behind_linear_and_ahead_of_it_on_the_way(schedule: CubicSchedule) -> None:
    linear = as_linear(schedule)
    rises = exact_ratio(schedule.final_sparsity) > exact_ratio(schedule.initial_sparsity)
    for step in range(schedule.steps + 2):
        ahead = schedule.sparsity(step) - linear.sparsity(step)
        on_the_way = schedule.warmup < step < schedule.last
        assert (ahead > 0) == (rises and on_the_way)
        assert ahead >= 0
    assert decisions(linear) == decisions(schedule)
    assert linear.last == schedule.last


@given(gradual_schedules())
def test_sparsity_never_falls_and_stays_between_its_ends(schedule: GradualSchedule) -> None:
    values = [schedule.sparsity(step) for step in range(schedule.steps + 2)]
    assert all(before <= after for before, after in pairwise(values))
    assert values[0] == exact_ratio(schedule.initial_sparsity)
    assert values[-1] == exact_ratio(schedule.final_sparsity)


@given(st.one_of(schedules(), gradual_schedules()))
def test_the_last_decision_reaches_the_final_sparsity_exactly_and_it_stays(
    schedule: GradualSchedule | OneShotSchedule,
) -> None:
    taken = decisions(schedule)
    assert taken
    assert taken[0] >= 1
    assert taken[-1] == schedule.last
    final = exact_ratio(schedule.final_sparsity)
    assert all(schedule.sparsity(step) == final for step in range(schedule.last, 200))


@given(st.one_of(schedules(), gradual_schedules()))
def test_the_end_is_the_last_step_that_the_schedule_knows(
    schedule: GradualSchedule | OneShotSchedule,
) -> None:
    assert schedule.end >= schedule.last
    if isinstance(schedule, GradualSchedule):
        assert schedule.end == schedule.steps == schedule.last + schedule.cooldown
    else:
        assert schedule.end == schedule.at


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_schedule_of_a_run_reaches_its_sparsity_after_the_warm_up(name: str) -> None:
    run: dict[str, Any] = {"steps": 40, "warmup": 7, "cooldown": 12, "interval": 5}
    schedule = schedule_of_run(name, sparsity=0.8, **run)
    assert type(schedule) is find_schedule(name)
    taken = decisions(schedule)
    assert taken[0] == (8 if name == "one-shot" else 12)
    assert taken[-1] == (8 if name == "one-shot" else 28)
    assert schedule.sparsity(schedule.last) == Fraction(4, 5)
    assert schedule.end == (8 if name == "one-shot" else 40)


def test_a_schedule_that_stops_short_of_its_end_breaks_that() -> None:
    # what happens where decisions come every 10 steps and nothing is added for the last step
    schedule = CubicSchedule(steps=25, final_sparsity=0.8, interval=10)
    assert schedule.sparsity(20) < Fraction(4, 5) == schedule.sparsity(schedule.last)


@given(gradual_schedules())
def test_decisions_come_every_interval_after_the_warmup_and_none_in_the_cooldown(
    schedule: GradualSchedule,
) -> None:
    taken = decisions(schedule)
    last = schedule.steps - schedule.cooldown
    assert schedule.last == last
    every = range(schedule.warmup + schedule.interval, last, schedule.interval)
    # a model starts dense, so an initial sparsity has to be decided too, at the first step
    first = {1} if schedule.initial_sparsity > 0 else set()
    assert taken == sorted({*first, *every, last})
    inside = [step for step in taken if step not in first]
    assert all(schedule.warmup < step <= last for step in inside)
    if not first:
        assert len(taken) == math.ceil(Fraction(last - schedule.warmup, schedule.interval))


def test_decisions_on_an_example() -> None:
    schedule = CubicSchedule(steps=30, final_sparsity=0.5, warmup=4, cooldown=3, interval=10)
    assert [step for step in range(40) if schedule.decides(step)] == [14, 24, 27]
    half = CubicSchedule(30, 0.5, initial_sparsity=0.25, warmup=4, cooldown=3, interval=10)
    assert [step for step in range(40) if half.decides(step)] == [1, 14, 24, 27]
    assert half.sparsity(1) == Fraction(1, 4)


def test_one_shot_decides_once() -> None:
    schedule = OneShotSchedule(0.25, at=3)
    assert [step for step in range(10) if schedule.decides(step)] == [3]
    assert [schedule.sparsity(step) for step in (2, 3, 4)] == [0, Fraction(1, 4), Fraction(1, 4)]


def test_all_are_schedules() -> None:
    everyone: list[Schedule] = [
        OneShotSchedule(0.5, at=10),
        LinearSchedule(10, 0.5),
        CubicSchedule(10, 0.5),
    ]
    for schedule in everyone:
        assert 0 <= schedule.sparsity(1) <= 1
        assert schedule.last == 10


@pytest.mark.parametrize(("name", "kind"), [("one-shot", OneShotSchedule), *GRADUAL.items()])
def test_a_schedule_is_found_by_its_name(name: str, kind: type[Schedule]) -> None:
    assert find_schedule(name) is kind
    assert name in SCHEDULES


def test_a_schedule_that_does_not_exist_says_which_do() -> None:
    message = "there is no schedule 'quartic': choose one of cubic, linear, one-shot$"
    with pytest.raises(ScheduleError, match=message):
        find_schedule("quartic")


def test_the_phases_of_the_paper() -> None:
    assert paper_phases(3120) == (200, 1200)
    assert paper_phases(400) == (25, 153)  # 25.64… and 153.84…, not 6 · 25
    assert paper_phases(1) == (0, 0)
    with pytest.raises(ScheduleError, match="steps is 0: a run has at least 1"):
        paper_phases(0)


@given(st.integers(1, 10**7))
def test_the_phases_of_the_paper_fit_any_run_in_its_proportions(steps: int) -> None:
    warmup, cooldown = paper_phases(steps)
    CubicSchedule(steps=steps, final_sparsity=0.8, warmup=warmup, cooldown=cooldown)
    assert 0 <= Fraction(200, 3120) * steps - warmup < 1
    assert 0 <= 6 * Fraction(200, 3120) * steps - cooldown < 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"final_sparsity": 1.2}, r"final_sparsity is 1\.2: it is a ratio"),
        ({"initial_sparsity": -0.5}, r"initial_sparsity is -0\.5: it is a ratio"),
        (
            {"initial_sparsity": 0.9},
            r"initial_sparsity is 0\.9 and final_sparsity 0\.8: sparsity must not fall",
        ),
        ({"warmup": -1}, "warmup -1, cooldown 0, interval 10: the first two are at least 0"),
        ({"cooldown": -2}, "warmup 0, cooldown -2, interval 10"),
        ({"interval": 0}, "interval 0: .* the interval at least 1"),
        (
            {"warmup": 60, "cooldown": 40},
            r"warm-up 60 \+ cool-down 40 leave no step to prune in 100: 1 too many",
        ),
        ({"warmup": 150}, "leave no step to prune in 100: 51 too many"),
        ({"steps": 0}, "leave no step to prune in 0: 1 too many"),
        ({"steps": 99.5}, r"steps is 99\.5: it is a whole number of steps"),
        ({"warmup": 0.1}, r"warmup is 0\.1: it is a whole number of steps"),
        ({"cooldown": None}, "cooldown is None: it is a whole number of steps"),
        ({"interval": "10"}, "interval is '10': it is a whole number of steps"),
    ],
)
@pytest.mark.parametrize("kind", GRADUAL.values(), ids=GRADUAL)
def test_a_schedule_that_does_not_fit_its_steps_says_by_how_much(
    kind: type[GradualSchedule], wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(ScheduleError, match=message):
        kind(**{"steps": 100, "final_sparsity": 0.8, **wrong})


def test_the_longest_warmups_that_fit_are_taken() -> None:
    schedule = CubicSchedule(steps=100, final_sparsity=0.8, warmup=59, cooldown=40)
    assert [step for step in range(101) if schedule.decides(step)] == [60]


def test_one_shot_is_checked_too() -> None:
    with pytest.raises(ScheduleError, match="at is 0: steps are counted from 1"):
        OneShotSchedule(0.5, at=0)
    with pytest.raises(ScheduleError, match="final_sparsity is 2: it is a ratio"):
        OneShotSchedule(2)
    with pytest.raises(ScheduleError, match=r"at is 1\.5: it is a whole number of steps"):
        OneShotSchedule(0.5, at=cast(int, 1.5))
