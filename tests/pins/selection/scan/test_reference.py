"""One pass: what is marked, counted and gathered is what a look at each score finds."""

from collections.abc import Mapping

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pins.errors import ImportanceError
from pins.selection.scan import float_keys, numpy_backend, reference
from pins.selection.scan.numpy_backend import ArrayScan
from pins.selection.scan.reference import Compared, Scan
from verification.strategies import score_mappings

NAN, INF = float("nan"), float("inf")


@st.composite
def passes(draw: st.DrawFn) -> tuple[Scan, list[Tensor], float, float]:
    """A scan in blocks of 8 of floats or keys, its scores in the common type, and an interval."""
    importance = draw(score_mappings(max_size=40))
    found = draw(st.sampled_from([Scan, ArrayScan]))(importance)
    found._as_keys = draw(st.booleans())
    found.survey(0, 1)
    flat = [scores.reshape(-1).to(found.dtype) for scores in importance.values()]
    compared = [float_keys.keys(scores) if found._as_keys else scores for scores in flat]
    values = torch.cat(compared).tolist()
    low, high = sorted([draw(st.sampled_from(values)), draw(st.sampled_from(values))])
    return found, compared, low, high


@pytest.fixture(autouse=True, scope="module")
def small_blocks() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "BLOCK", 8)
        patch.setattr(numpy_backend, "BLOCK", 8)  # five blocks and more are shared by threads
        yield


@given(passes(), st.booleans())
def test_a_pass_marks_what_is_above_and_gathers_what_is_inside(
    drawn: tuple[Scan, list[Tensor], float, float], bounded: bool
) -> None:
    found, scores, low, high = drawn
    marked = found.mark(low if bounded else None, high, room=1000)
    assert marked.complete
    for number, (name, values) in enumerate(zip(found.sizes, scores, strict=True)):
        inside = (values <= high) & ((values >= low) if bounded else True)
        assert torch.equal(marked.masks[name].reshape(-1), values > high)
        assert marked.positions[number].tolist() == inside.nonzero().view(-1).tolist()
        assert torch.equal(marked.values[number], values[inside])
        assert int(marked.above[number]) == int((values > high).sum())
        assert int(marked.inside[number]) == int(inside.sum())


@given(passes(), st.integers(0, 30), st.integers(1, 9))
def test_no_more_is_gathered_than_there_is_room_for_and_that_is_said(
    drawn: tuple[Scan, list[Tensor], float, float], room: int, every: int
) -> None:
    found, scores, low, high = drawn
    marked = found.mark(low, high, room=room, every=every)
    inside = [((values >= low) & (values <= high)) for values in scores]
    gathered = sum(len(positions) for positions in marked.positions)
    assert [int(count) for count in marked.inside] == [int(each.sum()) for each in inside]
    if every == 1:
        assert gathered <= room
        assert marked.complete == (0 < room >= int(marked.inside.sum()))
    else:
        assert not marked.complete
    for positions, values, own, each in zip(
        marked.positions, marked.values, scores, inside, strict=True
    ):
        assert torch.equal(values, own[positions])
        assert each[positions].all()
        assert not (positions % every).any()
    if room >= 200:
        multiples = sum(int(each[::every].sum()) for each in inside)
        assert gathered == multiples


def test_of_scores_at_multiples_all_that_are_inside_are_gathered() -> None:
    values = torch.arange(100.0)
    found = Scan({"w": values})
    found.survey(0, 1)
    marked = found.mark(10.0, 80.0, room=1000, every=7)
    assert marked.positions[0].tolist() == list(range(14, 81, 7))


@given(passes(), st.data())
def test_ties_are_marked_from_the_first_on(
    drawn: tuple[Scan, list[Tensor], float, float], data: st.DataObject
) -> None:
    found, scores, low, _ = drawn
    allowed, expected = {}, []
    for name, values in zip(found.sizes, scores, strict=True):
        places = (values == low).nonzero().view(-1)
        allowed[name] = data.draw(st.integers(0, len(places)))
        expected.append((values > low).index_fill(0, places[: allowed[name]], True))
    marked = found.mark(low, low)
    found.tie(marked.masks, low, allowed)
    for mask, wanted in zip(marked.masks.values(), expected, strict=True):
        assert torch.equal(mask.reshape(-1), wanted)


@given(passes())
def test_the_largest_below_is_the_next_score(
    drawn: tuple[Scan, list[Tensor], float, float],
) -> None:
    found, scores, _, value = drawn
    below = [score for score in torch.cat(scores).tolist() if score < value]
    assert found.largest_below(value).tolist() == ([max(below)] if below else [])


@given(passes(), st.data())
def test_what_speaks_against_a_mask_is_counted_one_by_one(
    drawn: tuple[Scan, list[Tensor], float, float], data: st.DataObject
) -> None:
    found, scores, value, _ = drawn
    flat = torch.cat(scores)
    flips = data.draw(st.lists(st.integers(0, len(flat) - 1), max_size=3))
    kept = flat >= value
    kept[flips] ^= True
    parts = torch.split(kept, [len(values) for values in scores])
    counts = found.compared(dict(zip(found.sizes, parts, strict=True)), value)
    assert counts == Compared(
        int(kept.sum()),
        int((kept & (flat < value)).sum()),
        int((~kept & (flat > value)).sum()),
        int((~kept & (flat == value)).sum()),
    )


@given(score_mappings(max_size=40), st.integers(1, 50))
def test_a_sample_has_each_tensors_share_and_is_the_same_each_time(
    importance: Mapping[str, Tensor], size: int
) -> None:
    found, again = ArrayScan(importance), Scan(importance)
    total = sum(found.sizes.values())
    sample = found.survey(size, total)
    assert sample.dtype == found.dtype
    assert size <= len(sample) <= size + len(importance)
    values = torch.cat([scores.reshape(-1).to(found.dtype) for scores in importance.values()])
    assert torch.isin(sample, values).all()
    assert torch.equal(sample, again.survey(size, total))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_what_is_not_finite_is_found_and_large_sums_are_not_taken_for_it(
    dtype: torch.dtype, bad: float
) -> None:
    scores = torch.full((5, 9), torch.finfo(dtype).max, dtype=dtype)  # their sum is infinite
    Scan({"w": scores}).survey(0, 1)
    scores[3, 4] = bad
    with pytest.raises(ImportanceError, match=rf"importance\['w'\] at index \(3, 4\) is {bad}"):
        Scan({"w": scores}).survey(0, 1)
    both = torch.tensor([INF, -INF] if bad == INF else [bad, 1.0], dtype=dtype)
    with pytest.raises(ImportanceError, match=r"at index \(0\)"):
        Scan({"w": both}).survey(0, 1)


def test_what_has_no_values_is_refused() -> None:
    with pytest.raises(ImportanceError, match="on the meta device: importance is a dense tensor"):
        Scan({"w": torch.zeros(3, device="meta")}).survey(0, 1)
    with pytest.raises(ImportanceError, match=r"torch\.sparse_coo: importance is a dense tensor"):
        Scan({"w": torch.eye(3).to_sparse()}).survey(0, 1)
