"""Triton's kernels in its interpreter, on tensors of the CPU; `test_triton_scan` runs this file.

Needs TRITON_INTERPRET=1 from the start of the process.
"""

import math
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import pins
from pins.errors import ImportanceError
from pins.selection import kth_largest
from pins.selection.constraints import MinimumPerTensor
from pins.selection.scan import dispatch, float_keys, triton_kernels, triton_launch
from pins.selection.scan.dispatch import rehearsed, scan_of
from pins.selection.scan.reference import Compared, Marked, Scan
from pins.selection.scan.triton_backend import TritonScan
from pins.selection.select import select as selection
from pins.utils.lazy_tensors import Computed
from verification.strategies import DTYPES, score_mappings, selections

CPU = torch.device("cpu")
FEW = settings(max_examples=10)


def interpreted(importance: Any, names: Any = None, _: Any = None) -> TritonScan:
    return TritonScan(importance, names, device=CPU)


class Keyed(Scan):
    """`Scan`, with scores compared as keys, as they always are in a `TritonScan`."""

    def __init__(self, importance: Any, names: Any = None) -> None:
        super().__init__(importance, names)
        self._as_keys = True


@pytest.fixture(autouse=True, scope="module")
def small_numbers() -> Iterator[None]:
    """Several blocks and samples of a few scores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triton_launch, "BLOCK", 8)
        patch.setattr(kth_largest, "SAMPLE", 8)
        patch.setattr(kth_largest, "LEAST_ROOM", 4)
        yield


@pytest.fixture
def on_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "scan_of", interpreted)


def equal(one: Marked, other: Marked) -> bool:
    return dispatch._alike(one, other, gathered=True)


@st.composite
def passes(draw: st.DrawFn) -> tuple[dict[str, Tensor], int, int]:
    """Scores, and an interval of keys between any two of them."""
    importance = draw(score_mappings(max_size=20))
    plain = Keyed(importance)
    plain.survey(0, 1)
    ranked = torch.cat([plain._comparable(s.reshape(-1)) for s in importance.values()]).tolist()
    low, high = sorted((draw(st.sampled_from(ranked)), draw(st.sampled_from(ranked))))
    return importance, low, high


@FEW
@given(passes(), st.booleans(), st.integers(1, 5), st.integers(0, 40))
def test_a_pass_finds_what_a_scan_finds(
    scores: tuple[dict[str, Tensor], int, int], below_all: bool, every: int, room: int
) -> None:
    importance, low, high = scores
    plain, fast = Keyed(importance), interpreted(importance)
    total = sum(plain.sizes.values())
    plain.survey(0, total)
    fast.survey(0, total)
    assert fast.dtype == plain.dtype
    least = None if below_all else low
    for size in (room, total):
        expected = plain.mark(least, high, every=every, room=size)
        marked = fast.mark(least, high, every=every, room=size)
        assert dispatch._alike(expected, marked, gathered=size >= int(expected.inside.sum()))
        if not expected.complete and every == 1:
            assert not any(len(values) for values in marked.values)
    for value in (low, high):
        assert plain.compared(marked.masks, value) == fast.compared(expected.masks, value)
        assert torch.equal(plain.largest_below(value), fast.largest_below(value))


@FEW
@given(passes(), st.data())
def test_ties_and_what_was_gathered_are_marked_as_by_a_scan(
    scores: tuple[dict[str, Tensor], int, int], data: st.DataObject
) -> None:
    importance, low, high = scores
    ways = plain, fast = Keyed(importance), interpreted(importance)
    for way in ways:
        way.survey(0, 1)
    one, other = (way.mark(low, high, room=1000) for way in ways)
    value = data.draw(st.sampled_from(torch.cat(one.values).tolist()))
    ties = plain.ties(one, value)
    assert torch.equal(ties, fast.ties(other, value))
    allowed = [data.draw(st.integers(0, int(count))) for count in ties]
    plain.settle(one, value, allowed)
    fast.settle(other, value, allowed)
    assert equal(one, other)
    one, other = (way.mark(value, value) for way in ways)
    by_name = dict(zip(importance, allowed, strict=True))
    plain.tie(one.masks, value, by_name)
    fast.tie(other.masks, value, by_name)
    assert equal(one, other)
    assert sum(int(mask.sum()) for mask in other.masks.values()) == int(one.above.sum()) + sum(
        allowed
    )


@FEW
@given(selections(max_size=20))
def test_a_selection_is_that_of_a_scan(instance: tuple[dict[str, Tensor], int]) -> None:
    importance, keep = instance
    expected = pins.decide(importance, keep)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "scan_of", interpreted)
        decision = pins.decide(importance, keep)
        lazy = pins.decide(
            Computed({n: s.shape for n, s in importance.items()}, importance.__getitem__), keep
        )
    for name, mask in expected.masks.items():
        assert torch.equal(decision.masks[name], mask)
        assert torch.equal(lazy.masks[name], mask)
    assert decision.proof == lazy.proof == expected.proof


@pytest.mark.usefixtures("on_kernels")
def test_a_selection_among_many_scores_is_that_of_sorting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_launch, "BLOCK", 512)
    monkeypatch.setattr(kth_largest, "SAMPLE", 256)
    monkeypatch.setattr(kth_largest, "LEAST_ROOM", 1500)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(6_000, generator=generator)
    for scores in (drawn, drawn.half().float(), (drawn * 3).round(), drawn.relu()):
        order = scores.sort(descending=True, stable=True).indices
        for keep in (1, 2_345):
            mask = torch.zeros(len(scores), dtype=torch.bool)
            mask[order[:keep]] = True
            assert torch.equal(pins.select(scores, keep), mask)


@pytest.mark.usefixtures("on_kernels")
def test_minimums_are_kept() -> None:
    importance = {"a": torch.tensor([5.0, 4.0, 3.0]), "b": torch.tensor([2.0, 1.0])}
    decision = pins.decide(importance, MinimumPerTensor(3, {"b": 1}))
    assert [mask.tolist() for mask in decision.masks.values()] == [
        [True, True, False],
        [True, False],
    ]


def test_computed_scores_exist_one_tensor_at_a_time() -> None:
    alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
    most = 0

    def compute(_: str) -> Tensor:
        nonlocal most
        scores = torch.arange(30.0)
        alive.add(scores)
        most = max(most, len(alive))
        return scores

    scores = Computed(dict.fromkeys("abc", torch.Size([30])), compute)
    scan = interpreted(scores)
    scan.survey(8, 90)
    marked = scan.mark(None, float_keys.key(20, torch.float32), room=90)
    assert marked.above.tolist() == [9, 9, 9]
    scan.tie(marked.masks, float_keys.key(20, torch.float32), dict.fromkeys("abc", 1))
    assert scan.compared(marked.masks, float_keys.key(20, torch.float32)) == Compared(30, 0, 0, 0)
    # the last one asked for and the one before, which the loop still names
    assert most <= 2


@pytest.mark.parametrize("dtype", DTYPES)
def test_scores_that_begin_anywhere_and_are_not_contiguous_are_read(dtype: torch.dtype) -> None:
    many = torch.arange(400).to(dtype)
    importance = {"from": many[1:], "across": many.view(20, 20).T, "every other": many[::2]}
    plain, fast = Keyed(importance), interpreted(importance)
    for way in (plain, fast):
        way.survey(0, 1)
    low, high = (float_keys.key(value, fast.dtype) for value in (100, 300))
    assert equal(plain.mark(low, high, room=1000), fast.mark(low, high, room=1000))


def test_masks_that_are_not_contiguous_are_changed() -> None:
    scan = interpreted({"w": torch.ones(20, 30)})
    scan.survey(0, 1)
    mask = torch.zeros(30, 20, dtype=torch.bool).T
    scan.tie({"w": mask}, float_keys.key(1, torch.float32), {"w": 37})
    assert mask.reshape(-1).nonzero().view(-1).tolist() == list(range(37))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_scores_that_cannot_be_ranked_are_named(bad: float, dtype: torch.dtype) -> None:
    scores = torch.zeros(3, 50, dtype=dtype)
    scores[2, 41] = bad
    with pytest.raises(ImportanceError, match=rf"importance\['b'\] at index \(2, 41\) is {bad}"):
        interpreted({"a": torch.zeros(9), "b": scores}).survey(0, 1)
    with pytest.raises(ImportanceError, match=r"importance\['b'\] is torch.int64"):
        interpreted({"a": torch.zeros(9), "b": torch.zeros(3, dtype=torch.int64)}).survey(0, 1)


def test_a_sample_is_of_all_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_launch, "BLOCK", 512)
    importance = {"a": torch.arange(3000.0), "e": torch.zeros(0), "b": -torch.arange(1000.0)}
    scan = interpreted(importance)
    sample = scan.survey(2000, 4000)
    values = torch.tensor([scan.score(key) for key in sample.tolist()])
    assert len(values) == 2000
    assert abs(int((values < 0).sum()) - 500) < 100
    assert abs(int((values > 1500).sum()) - 750) < 150
    assert torch.equal(sample, interpreted(importance).survey(2000, 4000))


# ---- The rehearsal -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtypes", [(torch.float32,), (torch.float64,), DTYPES[2:]])
def test_kernels_that_are_right_pass_the_rehearsal(
    dtypes: tuple[torch.dtype, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_launch, "BLOCK", 4096)
    assert rehearsed.__wrapped__(CPU, dtypes)


class Spoilt:
    """A kernel that does something else: its arguments are changed before, or its results after."""

    def __init__(self, kernel: Any, change: Callable[[list[Any]], None], *, after: bool) -> None:
        self.kernel, self.change, self.after = kernel, change, after

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        def launch(*arguments: Any, **constants: Any) -> None:
            changed = list(arguments)
            if not self.after:
                self.change(changed)
            self.kernel[grid](*changed, **constants)
            if self.after:
                self.change(changed)

        return launch


def plus(place: int, number: int) -> Callable[[list[Any]], None]:
    def change(arguments: list[Any]) -> None:
        arguments[place] = arguments[place] + number

    return change


def refuse(_: list[Any]) -> None:
    raise RuntimeError("out of registers")


WRONG = {
    "marks what is at the upper end": ("mark", plus(3, -1), False, "survey|mark"),
    "gathers what is below": ("mark", plus(2, -1 << 20), False, "survey|mark"),
    "counts one too many": ("mark", lambda a: a[6][-1].add_(1), True, "survey|mark"),
    "loses the order": ("order", lambda a: a[4].copy_(a[4].flip(0)), True, "mark"),
    "ties the next value": ("tie", plus(2, 1), False, "tie"),
    "allows one more": ("tie", plus(5, 1), False, "tie"),
    "finds the value itself": ("largest_below", plus(2, 1), False, "largest_below"),
    "sees no contradiction": ("contradictions", lambda a: a[3].zero_(), True, "compared"),
    "draws what is no score": ("draw", lambda a: a[4].fill_(3.1415), True, "sample"),
    "keeps all that was gathered": ("settle", lambda a: a[3].fill_(1), False, "settle"),
    "does not compile": ("mark", refuse, False, "RuntimeError: out of registers"),
}


@pytest.mark.parametrize(("kernel", "change", "after", "found"), WRONG.values(), ids=WRONG)
def test_kernels_that_are_wrong_are_refused(
    kernel: str, change: Any, after: bool, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoilt = Spoilt(getattr(triton_kernels, kernel), change, after=after)
    monkeypatch.setattr(triton_kernels, kernel, spoilt)
    monkeypatch.setattr(triton_launch, "BLOCK", 4096)
    message = rf"^PINS selects on cpu without kernels of its own, .*rehearsal \(({found})"
    with pytest.warns(UserWarning, match=message):
        assert not rehearsed.__wrapped__(CPU, (torch.float32,))


def test_scores_of_the_cpu_are_read_by_a_scan() -> None:
    assert not isinstance(scan_of({"a": torch.zeros(3)}), TritonScan)
