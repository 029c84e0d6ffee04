"""The number that tools prune, as they make it: nearest, down, up, or by a threshold with ties."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from verification.audit.rounding import rounding

RATIOS = st.sampled_from([Fraction(n, 100) for n in (10, 33, 50, 66, 70, 90)])


@given(RATIOS, st.integers(100, 3000), st.booleans())
def test_the_numbers_of_tools_are_told(ratio: Fraction, total: int, given_: bool) -> None:
    exact = ratio * total
    stated = ratio if given_ else None
    nearest = total - math.floor((1 - ratio) * total + Fraction(1, 2))
    said = rounding(nearest, total, 1, stated)
    assert said is not None
    assert said.startswith(f"exactly {float(100 * ratio):g} %") == (exact == nearest)
    for number in (math.floor(exact), math.ceil(exact)):
        assert rounding(number, total, 1, ratio)


@given(RATIOS, st.integers(50, 400), st.integers(0, 1000))
def test_a_threshold_by_index_prunes_one_more_and_its_ties(
    ratio: Fraction, total: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, total // 2, (total,), generator=generator).float()
    threshold = scores.sort().values[math.floor(ratio * total)]
    pruned, ties = int((scores <= threshold).sum()), int((scores == threshold).sum())
    assert rounding(pruned, total, ties, ratio)
    assert rounding(pruned + 1 + ties, total, ties, ratio) is None


def test_the_phrases() -> None:
    assert rounding(50, 100, 1) == "exactly 50 % of 100"
    assert rounding(50, 101, 1) == "50 % of 101, to the nearest number"
    assert rounding(51, 101, 1) == "50 % of 101, rounded up"
    assert rounding(51, 100, 1, Fraction(1, 2)) == (
        "1 more than 50 % of 100, rounded down: all up to a threshold"
    )
    assert rounding(53, 100, 3, Fraction(1, 2)) == (
        "3 more than 50 % of 100, rounded down: all up to a threshold, of which 3 are equal to the "
        "threshold"
    )


@pytest.mark.parametrize("pruned", [52, 48])
def test_other_numbers_are_not_explained(pruned: int) -> None:
    assert rounding(pruned, 100, 1, Fraction(1, 2)) is None
