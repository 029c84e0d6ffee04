"""The page computes what PINS computes: every score to the bit, every value as a fraction."""

import itertools
import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pins.runs import weight_sample
from pins.runs.weight_sample import WeightSample
from pins.selection.constraints import keep_count
from pins.selection.select import select
from tests.verification.explorer.expected import Settings, expected, rounded
from tests.verification.explorer.opened import Opened, opened
from verification import checker, explorer
from verification.strategies import selections, sparsities

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CRITERIA = ("path", "obd", "abs-pins", "magnitude", "sensitivity", "movement")
TIES = ("lower", "higher", "kept", "pruned")
BOUNDS = ("2:4", "4:8", "at-most-2:4", "halves", "halves-2:4")
PRECISIONS = ("float64", "float32", "bfloat16")
REAL = Path(__file__).parents[3] / "benchmarks" / "results" / "demo" / "sample.safetensors"
TREE = "pins.treeOf('none', scores.length, keep)"
SELECT = f"([scores, keep]) => pins.select(Float64Array.from(scores), {TREE})"
BY_SIZE = f"([scores, keep]) => pins.select(Float64Array.from(scores, Math.abs), {TREE})"
FLOATS = st.floats(allow_nan=False, allow_infinity=False)


def compare(
    page: Opened, sample: WeightSample, names: list[str], decisions: list[Settings]
) -> None:
    numbers = {name: number for number, name in enumerate(sample.weights)}
    for name, decision in itertools.product(names, decisions):
        told = page.explored(numbers[name], decision)
        assert told == expected(sample, name, decision), (name, decision)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_criterion_at_every_precision_and_tie_rule(
    numbers_page: Opened, sample: WeightSample, criterion: str
) -> None:
    decisions = [
        Settings(criterion, keep=9, precision=precision, ties=ties)
        for precision, ties in itertools.product(PRECISIONS, TIES)
    ]
    compare(numbers_page, sample, ["dense", "tied"], decisions)


@pytest.mark.parametrize("name", ["dense", "tied", "one"])
def test_every_number_of_weights_from_none_to_all(
    numbers_page: Opened, sample: WeightSample, name: str
) -> None:
    total = sample.weights[name].numel()
    keeps = sorted({0, 1, total // 2, total - 1, total} & set(range(total + 1)))
    compare(
        numbers_page,
        sample,
        [name],
        [Settings(keep=keep, ties=ties) for keep in keeps for ties in TIES],
    )


@pytest.mark.parametrize("bounds", BOUNDS)
def test_bounds_at_every_precision_and_tie_rule_by_index(
    numbers_page: Opened, sample: WeightSample, bounds: str
) -> None:
    for name, most in (("dense", 120), ("tied", 20)):
        keeps = {most} if bounds in ("2:4", "4:8") else {0, most - 3, most}
        kinds = [
            Settings(bounds=bounds),
            Settings("magnitude", precision="bfloat16", bounds=bounds),
            Settings("magnitude", precision="bfloat16", bounds=bounds, ties="higher"),
        ]
        decisions = [replace(kind, keep=keep) for kind, keep in itertools.product(kinds, keeps)]
        compare(numbers_page, sample, [name], decisions)


def test_bounds_change_the_mask_its_threshold_and_its_values(
    numbers_page: Opened, sample: WeightSample
) -> None:
    bound = Settings(keep=100, bounds="at-most-2:4")
    told, alone = (
        numbers_page.explored(0, each) for each in (bound, replace(bound, bounds="none"))
    )
    assert told.multiplier < alone.multiplier
    assert told.primal == told.dual < alone.primal
    assert told != expected(sample, "dense", replace(bound, keep=99))


@pytest.mark.parametrize(
    ("bounds", "count", "reason"),
    [
        ("2:4", 911, "911 is no multiple of 4"),
        ("4:8", 228, "228 is no multiple of 8"),
        ("halves", 911, "911 is no multiple of 2"),
        ("halves-2:4", 228, "228 is no multiple of 8"),
        ("halves-2:4", 8, "a half of 8 is a group"),
        ("halves", 228, ""),
        ("none", 911, ""),
    ],
)
def test_bounds_need_a_number_of_weights_that_they_divide(
    numbers_page: Opened, bounds: str, count: int, reason: str
) -> None:
    told = numbers_page.page.evaluate("([bounds, n]) => pins.misfit(bounds, n)", [bounds, count])
    assert told == reason


@pytest.mark.parametrize(
    ("gap", "said"),
    [
        (Fraction(5, 32), "5/32 (≈ 1.562e-1)"),  # half to even, as Python's decimals
        (Fraction(7, 32), "7/32 (≈ 2.188e-1)"),
        (Fraction(3), "3 (≈ 3.000e+0)"),
        (Fraction(99999), "99999 (≈ 1.000e+5)"),
        (Fraction(2**64 + 1, 2**100), "the claimed fraction (≈ 1.455e-11)"),
        (Fraction(1, 2**1074), "the claimed fraction (≈ 4.941e-324)"),
    ],
)
def test_a_gap_is_said_as_by_the_checker(numbers_page: Opened, gap: Fraction, said: str) -> None:
    power = gap.denominator.bit_length() - 1
    dyadic = "([n, e]) => pins.claimed({ n: BigInt(n), e })"
    assert numbers_page.page.evaluate(dyadic, [str(gap.numerator), -power]) == said
    assert checker._claimed(gap) == said


def test_every_learning_rate_and_multiplier(numbers_page: Opened, sample: WeightSample) -> None:
    rates = [0.0, 0.03, 1e-4, 100.0, 5000.0]
    multipliers = [0.0, 2.0**-60, 2.0**-24, 2.0**-19, 2.0**-3, math.inf]
    decisions = [
        Settings(rate=rate, multiplier=multiplier, keep=7)
        for rate, multiplier in itertools.product(rates, multipliers)
    ]
    compare(numbers_page, sample, ["dense", "tied"], decisions)


def test_a_real_run(browser: "Browser", tmp_path: Path) -> None:
    if not REAL.is_file():
        pytest.skip("no sample of a real run is among the results")
    sample = weight_sample.load(REAL)
    names = list(sample.weights)
    with opened(browser, explorer.write(sample, tmp_path / "real.html")) as page:
        own = Settings(rate=sample.learning_rate)
        kinds = [
            replace(own, keep=40),
            replace(own, keep=200, multiplier=2.0**-20),
            replace(own, keep=11, criterion="magnitude", precision="bfloat16", ties="kept"),
        ]
        compare(page, sample, [names[0], names[len(names) // 2], names[-1]], kinds)


def test_another_learning_rate_is_another_answer(
    numbers_page: Opened, sample: WeightSample
) -> None:
    told = numbers_page.explored(0, Settings(rate=100.0))
    assert told != expected(sample, "dense", Settings(rate=200.0))


def test_the_sampled_places_are_those_of_the_sample(
    numbers_page: Opened, sample: WeightSample
) -> None:
    told = numbers_page.page.evaluate("pins.sample.layers.map((layer) => layer.index)")
    assert told == [sample.indices(name).tolist() for name in sample.weights]


def selects_as_pins(page: Opened, rule: str, phases: tuple[Phase, ...]) -> None:
    @settings(phases=phases)
    @given(selections(zero_size=True))
    def holds(drawn: tuple[dict[str, torch.Tensor], int]) -> None:
        importance, keep = drawn
        scores = torch.cat([tensor.double().reshape(-1) for tensor in importance.values()])
        masks = select(importance, keep)
        kept = torch.cat([mask.reshape(-1) for mask in masks.values()])
        assert page.page.evaluate(rule, [scores.tolist(), keep]) == kept.tolist()

    holds()


def test_any_scores_are_selected_as_by_pins(numbers_page: Opened) -> None:
    selects_as_pins(numbers_page, SELECT, tuple(Phase))


def test_a_selection_by_size_is_told_apart(numbers_page: Opened) -> None:
    with pytest.raises(AssertionError):
        selects_as_pins(numbers_page, BY_SIZE, (Phase.generate,))


@given(data=st.data())
def test_floats_are_rounded_written_and_summed_as_in_python(
    data: st.DataObject, numbers_page: Opened
) -> None:
    values = data.draw(st.lists(FLOATS, min_size=1, max_size=6))
    finite = st.floats(-3e38, 3e38, allow_subnormal=True)
    narrow = data.draw(st.lists(finite, min_size=1, max_size=6))
    page = numbers_page.page
    assert page.evaluate("values => values.map(pins.repr)", values) == list(map(repr, values))
    told = map(float, page.evaluate("values => values.map(pins.toBfloat16)", narrow))
    assert list(told) == rounded(torch.tensor(narrow, dtype=torch.float64), "bfloat16").tolist()
    everything = "values => Object.values(pins.fraction(pins.exactSum(values))).join('/')"
    total = sum(map(Fraction, values), Fraction(0))
    assert page.evaluate(everything, values) == f"{total.numerator}/{total.denominator}"


@given(ratio=sparsities(), total=st.integers(0, 10**6))
def test_the_count_is_that_of_the_schedules(
    ratio: float | Fraction, total: int, numbers_page: Opened
) -> None:
    exact = ratio if isinstance(ratio, Fraction) else Fraction(repr(ratio))
    count = "([p, q, n]) => pins.keepCount({ p: BigInt(p), q: BigInt(q) }, n)"
    told = numbers_page.page.evaluate(count, [str(exact.numerator), str(exact.denominator), total])
    assert told == keep_count(ratio, total)
