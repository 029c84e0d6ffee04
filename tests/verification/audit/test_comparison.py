"""What a zero means: kept, pruned, free, underflowed, grown; and how far the kept ones moved."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pins.errors import FileError
from tests.verification.audit.planted import seeds
from verification.audit.comparison import compare

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@given(seeds, st.sampled_from(DTYPES))
def test_each_weight_is_kept_pruned_or_free_and_a_copy_in_another_dtype_is_unchanged(
    seed: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(seed)
    dense = torch.randn(7, 9) * (torch.rand(7, 9) > 0.2)
    mask = torch.rand(7, 9) > 0.5
    found = compare("w", dense, (dense * mask).to(dtype))
    assert torch.equal(found.kept, mask & (dense != 0))
    assert torch.equal(found.pruned, ~mask & (dense != 0))
    assert torch.equal(found.free, dense == 0)
    assert (found.changed, found.grown, found.largest_change, found.relative_change) == (0,) * 4


def test_without_the_rounding_every_copy_would_look_changed() -> None:
    dense = torch.randn(64, 64)
    assert (dense.half().float() != dense).any()
    assert compare("w", dense.half().float(), dense).changed  # the control: nothing rounds here
    assert not compare("w", dense, dense.half()).changed


def test_minus_zero_is_a_zero() -> None:
    dense = torch.tensor([[-1.0, 2.0, -0.0]])
    found = compare("w", dense, torch.tensor([[-0.0, 2.0, 0.0]]))
    assert found.pruned.tolist() == [[True, False, False]]
    assert found.free.tolist() == [[False, False, True]]


def test_what_rounds_to_zero_is_counted_apart_and_not_pruned() -> None:
    dense = torch.tensor([[1e-9, 1.0, 0.5]])
    found = compare("w", dense, torch.tensor([[0.0, 1.0, 0.0]]).half())
    assert found.underflowed == 1
    assert found.pruned.tolist() == [[False, False, True]]
    assert not compare("w", dense, dense).underflowed


def test_a_change_is_measured_and_a_weight_that_was_zero_has_grown() -> None:
    dense = torch.tensor([[3.0, 4.0, 0.0, 2.0]])
    found = compare("w", dense, torch.tensor([[3.0, 4.5, 1.0, 0.0]]))
    assert (found.changed, found.grown, found.largest_change) == (2, 1, 1.0)
    assert found.relative_change == pytest.approx(math.sqrt(1.25) / 5)
    assert compare("w", torch.zeros(1, 1), torch.ones(1, 1)).relative_change == math.inf


def test_a_mask_of_its_own_says_what_is_kept_and_nothing_is_free() -> None:
    dense, mask = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[True, False, False]])
    found = compare("w", dense, dense * mask, mask)
    assert torch.equal(found.kept, mask)
    assert not found.free.any()
    with pytest.raises(FileError, match="'w' of the sparse model is not zero where its mask prune"):
        compare("w", dense, dense, mask)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_and_infinity_are_one_line(bad: float) -> None:
    good, wrong = torch.ones(2, 2), torch.tensor([[1.0, bad], [0.0, 1.0]])
    with pytest.raises(FileError, match="'w' of the sparse model holds NaN or infinity"):
        compare("w", good, wrong)
    with pytest.raises(FileError, match="'w' of the dense model holds NaN or infinity"):
        compare("w", wrong, good)
