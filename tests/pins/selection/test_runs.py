"""Runs: the largest scores of each, and the scores beside the cut, on every path to them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pins.selection import runs
from pins.selection.runs import extremes_of_runs, filled, largest_of_runs
from pins.selection.scan import float_keys
from tests.flushing import flushing
from verification.strategies import DTYPES, scores

LENGTHS = (1, 2, 3, 4, 8, 16, 17, 40, 130)


@contextmanager
def path(name: str, block: int = 48) -> Iterator[None]:
    """Several blocks; numpy's floats, its integer keys, or the operations of any device."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "BLOCK", block)
        if name == "keys":
            patch.setattr(float_keys, "denormals_compare", lambda: False)
        if name == "torch":
            patch.setattr(runs, "_comparison", lambda _: None)
        yield


every_path = pytest.mark.parametrize("name", ["floats", "keys", "torch"])


@st.composite
def scores_in_runs(draw: st.DrawFn) -> tuple[Tensor, int]:
    """A few values many times, among them both zeros and both infinities; shrinks to no run."""
    length, number = draw(st.sampled_from(LENGTHS)), draw(st.integers(0, 5))
    few = draw(scores(max_size=3))
    values = torch.cat([few, torch.tensor([0.0, -0.0, torch.inf, -torch.inf], dtype=few.dtype)])
    some = draw(st.integers(1, len(values)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    return values[torch.randint(some, (number * length,), generator=generator)], length


@st.composite
def selections_in_runs(draw: st.DrawFn) -> tuple[Tensor, int, int | Tensor]:
    """Scores, length, and k for all runs or for each."""
    values, length = draw(scores_in_runs())
    keeps = st.integers(0, length)
    if draw(st.booleans()):
        return values, length, draw(keeps)
    number = len(values) // length
    each = draw(st.lists(keeps, min_size=number, max_size=number))
    return values, length, torch.tensor(each, dtype=torch.int64)


def in_runs(flat: Tensor, length: int) -> list[list[float]]:
    return flat.view(-1, length).tolist()


def require_largest(values: Tensor, length: int, keep: int | Tensor) -> None:
    """The mask is the one of Python's stable sort, run by run."""
    mask = in_runs(largest_of_runs(values, length, keep), length)
    keeps = [keep] * len(mask) if isinstance(keep, int) else keep.tolist()
    for run, kept, number in zip(in_runs(values, length), mask, keeps, strict=True):
        order = sorted(range(length), key=lambda i: -run[i])
        assert {i for i in range(length) if kept[i]} == set(order[:number])


@every_path
@settings(max_examples=60)
@given(instance=selections_in_runs())
def test_each_run_keeps_its_largest_scores_and_the_first_of_equals(
    name: str, instance: tuple[Tensor, int, int | Tensor]
) -> None:
    with path(name):
        require_largest(*instance)


@every_path
@settings(max_examples=60)
@given(
    instance=scores_in_runs(), seed=st.integers(0, 1000), share=st.sampled_from([0, 0.1, 0.5, 1])
)
def test_extremes_are_the_keys_beside_the_cut_of_any_mask(
    name: str, instance: tuple[Tensor, int], seed: int, share: float
) -> None:
    values, length = instance
    mask = torch.rand(len(values), generator=torch.Generator().manual_seed(seed)) < share
    with path(name):
        found = extremes_of_runs(values, mask, length)
    keys = float_keys.keys(values)
    ends = torch.iinfo(keys.dtype)
    assert {found.kept_min.dtype, found.pruned_max.dtype} == {keys.dtype}
    infinite = float_keys.keys(torch.tensor([torch.inf, -torch.inf], dtype=values.dtype))
    assert ends.min < infinite[1] < infinite[0] < ends.max  # beyond every score
    for run, kept, least, most, number in zip(
        in_runs(keys, length),
        in_runs(mask, length),
        *(each.tolist() for each in found),
        strict=True,
    ):
        assert least == min((k for k, on in zip(run, kept, strict=True) if on), default=ends.max)
        assert most == max((k for k, on in zip(run, kept, strict=True) if not on), default=ends.min)
        assert number == sum(kept)


@settings(max_examples=30)
@given(scores_in_runs(), st.sampled_from([-torch.inf, torch.inf, 0.5]))
def test_what_is_not_chosen_has_the_value_and_the_rest_stays_to_the_bit(
    instance: tuple[Tensor, int], value: float
) -> None:
    values, _ = instance
    chosen = torch.rand(len(values), generator=torch.Generator().manual_seed(0)) < 0.5
    bits = float_keys.DTYPES[values.dtype]
    with path("floats"):
        found = filled(values, chosen, value)
    assert torch.equal(found.view(bits)[chosen], values.view(bits)[chosen])
    assert (found[~chosen] == value).all()


@pytest.mark.parametrize("length", [4, 40])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_number_of_threads_gives_the_same_bits(dtype: torch.dtype, length: int) -> None:
    values = torch.randn(length * 500, generator=torch.Generator().manual_seed(0)).to(dtype)
    keep = torch.arange(500) % (length + 1)
    found, before = [], torch.get_num_threads()
    with path("floats", block=512):
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            mask = largest_of_runs(values, length, keep)
            found.append(
                [mask, *extremes_of_runs(values, mask, length), filled(values, mask, -torch.inf)]
            )
    torch.set_num_threads(before)
    assert found[0][3].tolist() == keep.tolist()
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("length", [4, 40])
def test_blocks_as_they_are_give_what_small_ones_give(length: int) -> None:
    values = torch.randn(200_000, generator=torch.Generator().manual_seed(1)).half()
    mask = largest_of_runs(values, length, length // 2)
    with path("torch"):
        assert torch.equal(largest_of_runs(values, length, length // 2), mask)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("repeats", [1, 10])
def test_denormals_are_ranked_exactly_where_they_are_flushed(
    dtype: torch.dtype, repeats: int
) -> None:
    integer = float_keys.DTYPES[dtype]
    steps = [3, -1, 0, 5, 2, 5, -4, 1] * repeats
    patterns = [s if s >= 0 else torch.iinfo(integer).min - s for s in steps]
    values = torch.tensor(patterns, dtype=integer).view(dtype)
    with flushing():
        mask = largest_of_runs(values, len(steps), 3 * repeats)
        found = extremes_of_runs(values, mask, len(steps))
        copy = filled(values, ~mask, torch.inf)
    assert mask.tolist() == [step >= 3 for step in steps]
    assert [each.tolist() for each in found] == [[3], [2], [3 * repeats]]
    assert torch.equal(copy.view(integer)[~mask], values.view(integer)[~mask])


def test_a_tensor_without_weights_has_no_runs() -> None:
    nothing = torch.empty(0)
    for length in (0, 4):
        mask = largest_of_runs(nothing, length, 0)
        assert mask.shape == (0,)
        assert [len(each) for each in extremes_of_runs(nothing, mask, length)] == [0, 0, 0]
    assert filled(nothing, mask, 1.0).shape == (0,)


def last_of_equals(first: Callable[..., Any]) -> Callable[..., Any]:
    """The same, from each run's end."""

    def way(of: Any, keep: Any, *out: Any) -> Tensor | None:
        if not out:
            found: Tensor = first(of.flip(1), keep).flip(1)
            return found
        mask = np.empty_like(out[0])
        first(np.ascontiguousarray(of[:, ::-1]), keep, mask)
        out[0][:] = mask[:, ::-1]
        return None

    return way


@pytest.mark.parametrize(
    ("way", "name", "length"),
    [
        ("_packed", "floats", 4),
        ("_ranked", "floats", 8),
        ("_cut", "keys", 40),
        ("_sorted", "torch", 4),
    ],
)
def test_ties_by_another_rule_are_found_out(
    way: str, name: str, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: the last of equal scores."""
    distinct, tied = torch.arange(2.0 * length), torch.ones(2 * length)
    with path(name):
        require_largest(tied, length, 1)
        monkeypatch.setattr(runs, way, last_of_equals(getattr(runs, way)))
        require_largest(distinct, length, 1)
        with pytest.raises(AssertionError):
            require_largest(tied, length, 1)
