import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pins.utils.tensors import sample_indices


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))))
def test_indices_are_different_and_within(case: tuple[int, int]) -> None:
    size, count = case
    found = sample_indices(size, count).tolist()
    assert len(set(found)) == len(found) == count
    assert all(0 <= index < size for index in found)


def test_of_nothing_there_is_nothing() -> None:
    assert sample_indices(0, 0).tolist() == []


@pytest.mark.parametrize(("rows", "columns"), [(384, 384), (384, 1536), (768, 768), (3072, 768)])
def test_all_columns_have_their_share_where_every_kth_index_does_not(
    rows: int, columns: int
) -> None:
    size = rows * columns
    count = 16 * columns
    shares = torch.bincount(sample_indices(size, count) % columns, minlength=columns)
    assert shares.min() >= 8
    assert shares.max() <= 32
    every_kth = torch.arange(count) * (size // count) % columns
    assert (torch.bincount(every_kth, minlength=columns) == 0).any()
