import itertools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from pins.errors import FileError
from verification.experiments.loss_change import STEP_ALONE, LossChange
from verification.experiments.seed_comparison import (
    FIELDS,
    RIVALS,
    Crossover,
    by_point,
    changes,
    crossover,
    reach,
    winners,
)
from verification.experiments.student_interval import Sign, interval

FIELD = "measured_unseen"
STEP = -0.02  # change of the loss by the step without a mask

Changes = Mapping[str, Mapping[float, Sequence[float]]]


def rows_of(measured: Changes, alone: Sequence[float] | None = None) -> list[dict[str, Any]]:
    """Rows of criterion → fraction → the change of each seed, negated on the gradient's rows."""
    seeds = len(next(iter(next(iter(measured.values())).values())))
    everything: Changes = {STEP_ALONE: {0.0: alone or [STEP] * seeds}, **measured}
    return [
        {
            "criterion": name,
            "fraction": fraction,
            "seed": seed,
            "measured_unseen": value,
            "measured": -value,
        }
        for name, cells in everything.items()
        for fraction, values in cells.items()
        for seed, value in enumerate(values)
    ]


losses = st.floats(-1, 1).map(lambda value: round(value, 6))


@st.composite
def measured_rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rows of one to four seeds; shrink to one seed, one criterion, one fraction, no change."""
    seeds = draw(st.integers(1, 4))
    names = draw(st.lists(st.sampled_from(["pins", *RIVALS, "obd"]), min_size=1, unique=True))
    fractions = draw(st.lists(st.sampled_from([0.001, 0.01, 0.5]), min_size=1, unique=True))
    values = st.lists(losses, min_size=seeds, max_size=seeds)
    measured = {name: {fraction: draw(values) for fraction in fractions} for name in names}
    return rows_of(measured, draw(values))


def mean(rows: Sequence[Mapping[str, Any]], name: str, fraction: float) -> float:
    return statistics.fmean(
        row[FIELD] for row in rows if (row["criterion"], row["fraction"]) == (name, fraction)
    )


@given(values=st.lists(losses, min_size=2, max_size=6, unique=True))
def test_the_interval_equals_the_interval_of_students_test(values: list[float]) -> None:
    found = interval(values)
    assert found.half_width is not None
    expected = scipy.stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert found.mean - found.half_width == pytest.approx(expected.low, abs=1e-9)
    assert found.mean + found.half_width == pytest.approx(expected.high, abs=1e-9)
    normal = 1.96 * statistics.stdev(values) / len(values) ** 0.5
    assert found.half_width > 1.2 * normal  # the quantile of few seeds is not the normal one


def test_one_value_has_no_interval_and_equal_ones_have_no_width() -> None:
    assert interval([0.5]).half_width is None
    assert interval([0.5]).sign is Sign.OPEN
    assert interval([0.5, 0.5]).half_width == 0
    assert interval([0.5, 0.5]).sign is Sign.ABOVE
    assert interval([0.0, 0.0]).sign is Sign.OPEN
    assert interval([-0.5, -0.5]).sign is Sign.BELOW


@given(rows=measured_rows())
def test_no_criterion_is_below_the_winner(rows: list[dict[str, Any]]) -> None:
    found = winners(rows, FIELD)
    assert [winner.fraction for winner in found] == sorted({r["fraction"] for r in rows} - {0.0})
    for winner in found:
        others = {r["criterion"] for r in rows if r["fraction"] == winner.fraction}
        assert winner.margins.keys() == others - {winner.criterion}
        own = mean(rows, winner.criterion, winner.fraction)
        assert winner.change.mean == own
        for name, margin in winner.margins.items():
            other = mean(rows, name, winner.fraction)
            assert other >= own
            assert margin.mean == pytest.approx(other - own, abs=1e-9)
        order = [mean(rows, name, winner.fraction) for name in winner.margins]
        assert order == sorted(order)
        assert set(winner.near) <= winner.margins.keys()
        assert winner.confident == (winner.second is not None and winner.second not in winner.near)


def test_each_field_has_its_own_winner() -> None:
    rows = rows_of({"pins": {0.1: [0.1, 0.1]}, "obd": {0.1: [0.2, 0.2]}})
    assert [winners(rows, field)[0].criterion for field in FIELDS] == ["pins", "obd"]


def test_seeds_are_compared_in_pairs() -> None:
    spread = [0.1, 0.5, 0.9]
    shifted = [value + shift for value, shift in zip(spread, (0.010, 0.011, 0.012), strict=True)]
    (winner,) = winners(rows_of({"obd": {0.1: shifted}, "pins": {0.1: spread}}), FIELD)
    assert (winner.criterion, winner.second, winner.near) == ("pins", "obd", ())
    assert winner.confident
    # the same numbers with the seeds of one criterion exchanged
    (mixed,) = winners(rows_of({"obd": {0.1: shifted[::-1]}, "pins": {0.1: spread}}), FIELD)
    assert mixed.criterion == "pins"
    assert not mixed.confident
    assert mixed.near == ("obd",)


def test_confidence_depends_on_the_second_best_and_near_on_each_criterion() -> None:
    measured = {
        "pins": {0.1: [0.0, 2.0, 9.0]},
        "obd": {0.1: [0.0, 0.1, 0.2]},
        "magnitude": {0.1: [0.5, 0.6, 0.7]},
    }
    (winner,) = winners(rows_of(measured), FIELD)
    assert list(winner.margins) == ["magnitude", "pins"]
    assert winner.confident
    assert winner.near == ("pins",)


def test_one_seed_or_equal_changes_give_no_confidence() -> None:
    (single,) = winners(rows_of({"pins": {0.1: [0.1]}, "obd": {0.1: [0.9]}}), FIELD)
    assert (single.criterion, single.change.half_width, single.near) == ("pins", None, ("obd",))
    assert not single.confident
    (equal,) = winners(rows_of({"pins": {0.1: [0.1, 0.2]}, "obd": {0.1: [0.1, 0.2]}}), FIELD)
    assert (equal.criterion, equal.near) == ("pins", ("obd",))
    assert not equal.confident
    (alone,) = winners(rows_of({"pins": {0.1: [0.1, 0.2]}}), FIELD)
    assert (alone.second, alone.confident) == (None, False)


def test_a_criterion_is_compared_with_the_step_and_not_with_zero() -> None:
    measured = {
        "pins": {0.001: [-0.03], 0.01: [-0.03], 0.1: [-0.01], 0.5: [0.3]},  # −0.01 > the step's
        "obd": {0.001: [-0.02], 0.01: [-0.03], 0.1: [-0.01], 0.5: [-0.03]},
        "magnitude": {0.001: [0.1], 0.01: [0.1], 0.1: [0.1], 0.5: [-0.02]},
    }
    found = crossover(rows_of(measured), FIELD)
    assert found == {
        "pins": Crossover(0.01, None, ()),
        "obd": Crossover(0.5, None, (0.001, 0.1)),
        "magnitude": Crossover(None, None, ()),
    }
    no_step = crossover(rows_of(measured, [0.0]), FIELD)
    assert no_step["pins"] == Crossover(0.1, None, ())


def test_the_confident_fraction_may_be_smaller_than_the_largest() -> None:
    sure, likely = [-0.05, -0.051, -0.052], [-0.3, 0.0, 0.1]
    found = crossover(rows_of({"pins": {0.01: sure, 0.1: likely, 0.5: [1.0, 1.0, 1.0]}}), FIELD)
    assert found["pins"] == Crossover(0.1, 0.01, ())
    assert crossover(rows_of({"pins": {0.1: likely}}), FIELD)["pins"] == Crossover(0.1, None, ())


def test_pins_has_to_be_below_both_of_its_rivals() -> None:
    measured = {
        "pins": {0.001: [0.1, 0.1], 0.01: [0.1, 0.1], 0.1: [0.1, 0.1]},
        "magnitude": {0.001: [0.2, 0.2], 0.01: [0.2, 0.5], 0.1: [0.2, 0.2]},
        "sensitivity": {0.001: [0.2, 0.2], 0.01: [0.2, 0.2], 0.1: [0.0, 0.0]},
    }
    rows = rows_of(measured)
    assert reach(rows, FIELD, "pins", RIVALS) == Crossover(0.01, 0.001, ())
    assert reach(rows, FIELD, "pins", ("magnitude",)).largest == 0.1
    assert reach(rows, "measured", "pins", RIVALS) == Crossover(None, None, ())


@given(rows=measured_rows())
def test_the_crossover_is_the_last_fraction_below_the_step(rows: list[dict[str, Any]]) -> None:
    alone = mean(rows, STEP_ALONE, 0.0)
    fractions = sorted({row["fraction"] for row in rows} - {0.0})
    for name, found in crossover(rows, FIELD).items():
        gains = {fraction: alone - mean(rows, name, fraction) for fraction in fractions}
        if any(0 < abs(gain) < 1e-9 for gain in gains.values()):
            continue  # rounding decides
        lower = [fraction for fraction, gain in gains.items() if gain > 0]
        assert found.largest == max(lower, default=None)
        assert found.confident is None or found.confident in lower
        if found.largest is not None:
            below = [f for f in fractions if f <= found.largest]
            assert sorted([*found.gaps, *lower]) == below


@given(rows=measured_rows(), data=st.data())
def test_the_order_of_the_rows_does_not_matter(
    rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    mixed = data.draw(st.permutations(rows))
    assert crossover(mixed, FIELD) == crossover(rows, FIELD)
    for one, other in zip(winners(mixed, FIELD), winners(rows, FIELD), strict=True):
        if other.second is None or other.margins[other.second].mean > 0:  # no equals
            assert one.criterion == other.criterion


def test_rows_of_the_demo_are_of_one_seed() -> None:
    found = [
        LossChange(STEP_ALONE, 0.0, 0, -0.1, -0.1, -0.01, -0.02),
        LossChange("pins", 0.5, 5, -0.1, -0.1, -0.03, 0.0),
    ]
    rows = [vars(change) for change in found]
    assert crossover(rows, "measured") == {"pins": Crossover(0.5, None, ())}
    assert crossover(rows, "measured_unseen") == {"pins": Crossover(None, None, ())}
    assert winners(rows, "measured")[0].change.half_width is None


def test_missing_rows_are_named() -> None:
    rows = rows_of({"pins": {0.1: [0.1, 0.2]}, "obd": {0.1: [0.1, 0.2]}})
    with pytest.raises(
        FileError, match=r"obd at fraction 0\.1 has rows of the seeds \[0\], others"
    ):
        winners(rows[:-1], FIELD)
    with pytest.raises(FileError, match=r"no rows of magnitude to compare at fraction 0\.1"):
        reach(rows, FIELD, "pins", RIVALS)
    with pytest.raises(FileError, match=r"no rows of step alone to compare at fraction 0\.1"):
        crossover(rows[2:], FIELD)
    assert list(changes(rows, FIELD)) == [0.0, 0.1]


def test_points_come_in_the_course_of_training() -> None:
    places = [(2e-4, 0), (5e-5, 130), (5e-5, 0)]
    rows = [
        {"learning_rate": rate, "progress": progress, "seed": seed}
        for seed, (rate, progress) in itertools.product(range(2), places)
    ]
    found = by_point(rows)
    assert list(found) == [(5e-5, 0), (5e-5, 130), (2e-4, 0)]
    assert all([row["seed"] for row in point] == [0, 1] for point in found.values())
