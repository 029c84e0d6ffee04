"""Triton's kernels in its interpreter, on tensors of the CPU; `test_triton_scan` runs this file.

Needs TRITON_INTERPRET=1 from the start of the process.
"""

import math
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

import pins
from pins.errors import ImportanceError, OptimalityError
from pins.selection import kth_largest
from pins.selection import select as selection
from pins.selection.constraints import Cardinality, LayerBounds
from pins.selection.scan import float_keys, triton_kernels, triton_launch
from pins.selection.scan.dispatch import scan_of
from pins.selection.scan.reference import Partition, Scan
from pins.selection.scan.triton_backend import TritonScan
from pins.selection.segments import Piece, each_tensor
from pins.utils.lazy_tensors import Computed
from verification.strategies import DTYPES, score_mappings, selections

CPU = torch.device("cpu")
# failing examples are not made smaller: the interpreter would take minutes
FEW = settings(max_examples=10, deadline=None, phases=[Phase.explicit, Phase.generate])


def interpreted(importance: Any) -> TritonScan:
    return TritonScan(importance, device=CPU)


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


def whole(scan: Scan) -> list[Piece]:
    return [Piece(name, 0, size) for name, size in scan.sizes.items()]


def vector(pieces: list[Piece], number: int) -> np.ndarray:
    return np.full(len(pieces), number)


def key(score: float) -> int:
    return int(float_keys.keys(torch.tensor([score])))


def require_equal(one: Partition, other: Partition) -> None:
    """The same counts; and, where all fitted, the same gathered scores."""
    assert one.complete == other.complete
    assert (one.above == other.above).all()
    assert (one.inside == other.inside).all()
    for a, b, c, d in zip(one.positions, other.positions, one.keys, other.keys, strict=True):
        if one.complete:
            assert a.tolist() == b.tolist()
            assert (c == d).all()
            assert c.dtype == d.dtype
        else:
            assert not len(b)


def require_same_masks(masks: dict[Any, Tensor], others: dict[Any, Tensor]) -> None:
    assert list(masks) == list(others)
    assert all(torch.equal(mask, others[name]) for name, mask in masks.items())


@FEW
@given(score_mappings(max_size=20, zero_size=True), st.integers(0, 40), st.data())
def test_a_pass_finds_what_a_scan_finds(
    importance: dict[str, Tensor], room: int, data: st.DataObject
) -> None:
    plain, fast = Scan(importance), interpreted(importance)
    pieces = []
    for piece in whole(plain):
        cut = data.draw(st.integers(0, piece.size))
        pieces += [piece._replace(stop=cut), piece._replace(start=cut)]
    for way in (plain, fast):
        way.validate_and_sample([], [])
    assert fast.dtype == plain.dtype
    flat = [
        float_keys.keys(float_keys.widened(s.reshape(-1), plain.dtype)) for s in importance.values()
    ]
    values = st.sampled_from([0, *torch.cat(flat).tolist()])
    low, high = np.array([sorted(data.draw(st.tuples(values, values))) for _ in pieces]).T
    every = np.array([data.draw(st.integers(0, 5)) for _ in pieces])
    total = sum(plain.sizes.values())
    masks: tuple[dict[Any, Tensor], ...] = ({}, {})
    for size in (room, total):
        parted = [
            way.partition(pieces, low, high, every, own, size)
            for way, own in zip((plain, fast), masks, strict=True)
        ]
        if parted[0].complete == parted[1].complete:  # blocks of other sizes fit another room
            require_equal(*parted)
        require_same_masks(*masks)
        require_equal(
            *(way.partition(pieces, low, high, every, None, total) for way in (plain, fast))
        )
    for against in (low, high):
        counts = [way.count(pieces, against, masks[0]) for way in (plain, fast)]
        assert (counts[0] == counts[1]).all()


@FEW
@given(selections(max_size=20, zero_size=True))
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
    decision = pins.decide(importance, Cardinality(3) & LayerBounds({"b": 1}))
    assert [mask.tolist() for mask in decision.masks.values()] == [
        [True, True, False],
        [True, False],
    ]


@FEW
@given(score_mappings(max_size=20, zero_size=True), st.floats(0, 1))
def test_segments_are_those_of_a_scan(importance: dict[str, Tensor], share: float) -> None:
    keeps = [int(share * scores.numel()) for scores in importance.values()]
    expected = selection.largest(importance, keeps, each_tensor)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "scan_of", interpreted)
        found = selection.largest(importance, keeps, each_tensor)
    require_same_masks(dict(expected), dict(found))


def test_computed_scores_exist_one_tensor_at_a_time() -> None:
    alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
    most = 0

    def compute(_: str) -> Tensor:
        nonlocal most
        scores = torch.arange(30.0)
        alive.add(scores)
        most = max(most, len(alive))
        return scores

    scan = interpreted(Computed(dict.fromkeys("abc", torch.Size([30])), compute))
    pieces = whole(scan)
    scan.validate_and_sample(pieces, [3] * 3)
    masks: dict[Any, Tensor] = {}
    low, high = vector(pieces, float_keys.finite(torch.float32)[0]), vector(pieces, key(20.0))
    parted = scan.partition(pieces, low, high, vector(pieces, 1), masks, 90)
    assert parted.above.tolist() == [9, 9, 9]
    assert scan.count(pieces, high, masks).tolist() == [[9, 0, 0, 1]] * 3
    # the last one asked for and the one before, which the loop still names
    assert most <= 2


@pytest.mark.parametrize("dtype", DTYPES)
def test_scores_that_begin_anywhere_and_are_not_contiguous_are_read(dtype: torch.dtype) -> None:
    many = torch.arange(400).to(dtype)
    importance = {"from": many[1:], "across": many.view(20, 20).T, "every other": many[::2]}
    ways = Scan(importance), interpreted(importance)
    low, high = float_keys.keys(torch.tensor([100, 300]).to(dtype)).tolist()
    found = []
    for way in ways:
        pieces = whole(way)
        way.validate_and_sample([], [])
        asked = vector(pieces, low), vector(pieces, high), vector(pieces, 1)
        found.append(way.partition(pieces, *asked, {}, 1000))
    require_equal(*found)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_scores_that_cannot_be_ranked_are_named(bad: float, dtype: torch.dtype) -> None:
    scores = torch.zeros(3, 50, dtype=dtype)
    scores[2, 41] = bad
    with pytest.raises(ImportanceError, match=rf"importance\['b'\] at index \(2, 41\) is {bad}"):
        interpreted({"a": torch.zeros(9), "b": scores}).validate_and_sample([], [])
    with pytest.raises(ImportanceError, match=r"importance\['b'\] is torch.int64"):
        interpreted(
            {"a": torch.zeros(9), "b": torch.zeros(3, dtype=torch.int64)}
        ).validate_and_sample([], [])


def test_a_sample_is_of_each_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_launch, "BLOCK", 512)
    importance = {"a": torch.arange(3000.0), "e": torch.zeros(0), "b": -torch.arange(1000.0)}
    pieces = [Piece("a", 0, 1500), Piece("a", 1500, 3000), Piece("e", 0, 0), Piece("b", 0, 1000)]
    draws = [900, 100, 0, 500]
    sample = interpreted(importance).validate_and_sample(pieces, draws)
    values = [float_keys.scores(torch.from_numpy(each), torch.float32) for each in sample]
    assert [len(each) for each in values] == draws
    assert ((values[0] >= 0) & (values[0] < 1500)).all()
    assert abs(int((values[0] < 750).sum()) - 450) < 100
    assert (values[1] >= 1500).all()
    assert (values[3] <= 0).all()
    again = interpreted(importance).validate_and_sample(pieces, draws)
    assert all((a == b).all() for a, b in zip(sample, again, strict=True))


def test_scores_of_the_cpu_are_not_read_by_kernels() -> None:
    assert not isinstance(scan_of({"a": torch.zeros(3)}), TritonScan)


# ---- Kernels that are wrong ----------------------------------------------------------------------


class Spoilt:
    """A kernel whose results are changed."""

    def __init__(self, kernel: Any, change: Callable[[tuple[Any, ...]], object]) -> None:
        self.kernel, self.change = kernel, change

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        def launch(*arguments: Any, **constants: Any) -> None:
            self.kernel[grid](*arguments, **constants)
            self.change(arguments)

        return launch


WRONG = {
    "counts one too many": ("mark", lambda a: a[3][:, 0].add_(1)),
    "loses the order": ("order", lambda a: a[4].copy_(a[4].flip(0))),
    "sees no kept score": ("count", lambda a: a[2][:, 0].zero_()),
}


@pytest.mark.usefixtures("on_kernels")
@pytest.mark.parametrize(("kernel", "change"), WRONG.values(), ids=WRONG)
def test_masks_of_wrong_kernels_are_refused(
    kernel: str, change: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    importance = {"w": torch.randn(60, generator=torch.Generator().manual_seed(0))}
    pins.decide(importance, 20)
    spoilt = Spoilt(getattr(triton_kernels, kernel), change)
    monkeypatch.setattr(triton_kernels, kernel, spoilt)
    with pytest.raises((OptimalityError, ImportanceError, IndexError, ValueError)):
        pins.decide(importance, 20)
