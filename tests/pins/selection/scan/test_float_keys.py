"""Keys are in the order of the scores, also where the processor flushes denormals."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import pins
from benchmarks.harness.process import fresh
from pins.selection.optimality import optimality
from pins.selection.scan import float_keys
from tests.flushing import flushing
from verification.strategies import DTYPES, scores

HALVES = (torch.float16, torch.bfloat16)


def every(dtype: torch.dtype) -> Tensor:
    """All finite floats of 16 bits."""
    floats = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16).view(dtype)
    return floats[floats.isfinite()]


def pattern(score: float) -> str:
    """A float to the bit: where denormals are flushed, == takes them for 0."""
    return score.hex()


@given(scores())
def test_keys_are_ordered_and_equal_as_the_scores_are(values: Tensor) -> None:
    found, exact = float_keys.keys(values).tolist(), values.double().tolist()
    for key, score in zip(found, exact, strict=True):
        for other, other_score in zip(found, exact, strict=True):
            assert (key < other, key == other) == (score < other_score, score == other_score)


def test_the_bits_themselves_are_not_in_order() -> None:
    """The negative control: they are but for the sign."""
    values = torch.tensor([-2.0, -1.0, 1.0, 2.0])
    assert values.view(torch.int32).argsort().tolist() == [1, 0, 2, 3]
    assert float_keys.keys(values).argsort().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("dtype", HALVES)
def test_all_scores_of_16_bits_have_keys_of_their_order_and_come_back(dtype: torch.dtype) -> None:
    values = every(dtype)
    ranks = torch.unique(values.double(), return_inverse=True)[1]
    order = float_keys.keys(values).long().argsort(stable=True)
    assert torch.equal(order, ranks.argsort(stable=True))
    assert torch.equal(float_keys.scores(float_keys.keys(values), dtype), values)


@given(scores())
def test_a_score_is_that_of_its_key(values: Tensor) -> None:
    assert torch.equal(float_keys.scores(float_keys.keys(values), values.dtype), values)


@pytest.mark.parametrize("dtype", HALVES)
def test_bits_are_above_a_key_as_their_key_is(dtype: torch.dtype) -> None:
    values = every(dtype)
    found, bits = float_keys.keys(values).numpy(), values.view(torch.int16).numpy()
    least, most = float_keys.finite(dtype)
    for key in (least - 1, least, -1000, -3, -2, -1, 0, 1, 2, 1000, most - 1, most):
        out = np.zeros(len(bits), dtype=bool)
        float_keys.above(bits, key, out)
        assert (out == (found > key)).all()


@given(scores(), st.data())
def test_bits_of_every_type_are_above_a_key_as_their_key_is(
    values: Tensor, data: st.DataObject
) -> None:
    flat = values.reshape(-1)
    found, bits = float_keys.keys(flat), flat.view(float_keys.DTYPES[values.dtype]).numpy()
    key = data.draw(st.sampled_from([0, *found.tolist()])) + data.draw(st.integers(-2, 1))
    out = np.zeros(len(bits), dtype=bool)
    float_keys.above(bits, key, out)
    assert (out == (found.numpy() > key)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_both_zeros_have_one_key_and_the_largest_scores_the_outermost(dtype: torch.dtype) -> None:
    assert float_keys.keys(torch.tensor([0.0, -0.0], dtype=dtype)).tolist() == [0, 0]
    low, high = float_keys.finite(dtype)
    largest = torch.finfo(dtype).max
    outermost = torch.tensor([low, high, high + 1])
    assert float_keys.scores(outermost, dtype).tolist() == [-largest, largest, float("inf")]


@given(scores(), st.sampled_from(DTYPES))
def test_widened_scores_are_the_scores(values: Tensor, dtype: torch.dtype) -> None:
    wide = torch.promote_types(values.dtype, dtype)
    found = float_keys.widened(values, wide)
    assert found.dtype == wide
    assert torch.equal(found, values.to(wide))


# ---- A processor that flushes --------------------------------------------------------------------


@pytest.fixture(name="flushing")
def flushing_thread() -> Iterator[None]:
    with flushing():
        yield


def denormals(dtype: torch.dtype) -> tuple[Tensor, list[int]]:
    """Denormals of both signs, zeros and ties; and their order, largest first, as Python ranks."""
    steps = [3, -1, 0, 5, 2, 5, -4, 1, -1, 0, 4]
    patterns = [s if s >= 0 else torch.iinfo(float_keys.DTYPES[dtype]).min - s for s in steps]
    values = torch.tensor(patterns, dtype=float_keys.DTYPES[dtype]).view(dtype)
    return values, sorted(range(len(steps)), key=lambda i: (-steps[i], i))


@pytest.mark.usefixtures("flushing")
def test_whether_denormals_compare_is_seen() -> None:
    values, _ = denormals(torch.float32)
    assert not (values > 0).any()  # flushed indeed
    assert not float_keys.denormals_compare()
    torch.set_flush_denormal(False)
    assert float_keys.denormals_compare()


@pytest.mark.usefixtures("flushing")
@pytest.mark.parametrize("dtype", DTYPES)
def test_denormals_are_selected_exactly_where_they_are_flushed(dtype: torch.dtype) -> None:
    values, order = denormals(dtype)
    for keep in range(len(order) + 1):
        kept = pins.select(values, keep).nonzero().view(-1).tolist()
        assert kept == sorted(order[:keep])
    found = [pins.decide({"w": values}, keep) for keep in range(1, len(order))]
    torch.set_flush_denormal(False)
    exact = values.double().tolist()
    for keep, decision in enumerate(found, start=1):
        mask = decision.masks["w"].tolist()
        least = min(score for score, kept in zip(exact, mask, strict=True) if kept)
        most = max(score for score, kept in zip(exact, mask, strict=True) if not kept)
        assert sum(mask) == keep
        assert (decision.proof.kept_min, decision.proof.pruned_max) == (least, most)


@pytest.mark.usefixtures("flushing")
def test_denormals_of_two_types_are_compared_by_value_where_they_are_flushed() -> None:
    single, _ = denormals(torch.float32)
    coarse, _ = denormals(torch.bfloat16)
    double = torch.tensor([2.0**-148, 2.0**-140, -(2.0**-149), 1e-320], dtype=torch.float64)
    parts = {"single": single, "double": double, "coarse": coarse}
    size = sum(part.numel() for part in parts.values())
    found = [pins.decide(parts, keep).masks for keep in range(1, size)]
    wide = torch.cat([float_keys.widened(part, torch.float64) for part in parts.values()])
    torch.set_flush_denormal(False)
    exact = torch.cat([part.double() for part in parts.values()])
    assert torch.equal(wide, exact)
    order = sorted(range(size), key=lambda i: (-exact.tolist()[i], i))
    for keep, masks in enumerate(found, start=1):
        assert torch.cat(list(masks.values())).nonzero().view(-1).tolist() == sorted(order[:keep])


@pytest.mark.usefixtures("flushing")
@pytest.mark.parametrize("dtype", DTYPES)
def test_keys_and_scores_of_denormals_are_exact_where_they_are_flushed(dtype: torch.dtype) -> None:
    values, _ = denormals(dtype)
    found = float_keys.widened(
        float_keys.scores(float_keys.keys(values), dtype), torch.float64
    ).tolist()
    torch.set_flush_denormal(False)
    assert [pattern(s) for s in found] == [pattern(s) for s in values.double().tolist()]


def of_threads_that_went_on_flushing() -> tuple[bool, bool, bool]:
    """Whether they do, whether it is noticed, and whether a selection is right all the same."""
    if not torch.set_flush_denormal(True):
        return False, False, True
    torch.set_num_threads(2)
    size = 1 << 18
    steps = torch.arange(size, dtype=torch.int32)  # starts the second thread, flushing
    torch.set_flush_denormal(False)
    values = steps.view(torch.float32)
    flush = int((values[1:] > 0).count_nonzero()) < size - 1
    mask = pins.select(values, size // 3)
    right = torch.equal(mask, steps >= size - size // 3)
    proof = optimality({"": values}, {"": mask})
    right &= (proof.kept_min, proof.pruned_max) == (
        (size - size // 3) * 2.0**-149,
        (size - size // 3 - 1) * 2.0**-149,
    )
    return flush, not float_keys.denormals_compare_everywhere(), right


def test_threads_that_flush_though_this_one_does_not_do_no_harm() -> None:
    flush, noticed, right = fresh(of_threads_that_went_on_flushing)
    assert right
    assert noticed == flush
    if not flush:
        pytest.skip("the threads of this machine do as the one that they work for")
