"""One pass: what is counted, marked and gathered is what a look at each key finds."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pins.errors import ImportanceError
from pins.selection.scan import float_keys, numpy_backend, reference
from pins.selection.scan.numpy_backend import ArrayScan
from pins.selection.scan.reference import Scan
from pins.selection.segments import Piece
from verification.strategies import score_mappings

NAN, INF = float("nan"), float("inf")


class Pass(NamedTuple):
    """A scan in blocks of 8, pieces of its tensors, their keys, and an interval for each."""

    scan: Scan
    pieces: list[Piece]
    keys: list[np.ndarray]
    low: np.ndarray
    high: np.ndarray


def whole(found: Scan) -> list[Piece]:
    return [Piece(name, 0, size) for name, size in found.sizes.items()]


@st.composite
def passes(draw: st.DrawFn) -> Pass:
    importance = draw(score_mappings(max_size=40, zero_size=True))
    found = draw(st.sampled_from([Scan, ArrayScan]))(importance)
    found.validate_and_sample([], [])
    pieces, parts = [], []
    for name, scores in importance.items():
        flat = float_keys.keys(float_keys.widened(scores.reshape(-1), found.dtype)).numpy()
        ends = sorted(draw(st.lists(st.integers(0, len(flat)), max_size=2)))
        for start, stop in zip([0, *ends], [*ends, len(flat)], strict=True):
            pieces.append(Piece(name, start, stop))
            parts.append(flat[start:stop])
    values = [0, *np.concatenate(parts).tolist()]
    bounds = [sorted(draw(st.tuples(*[st.sampled_from(values)] * 2))) for _ in pieces]
    low, high = np.array(bounds, dtype=np.int64).T
    return Pass(found, pieces, parts, low, high)


@pytest.fixture(autouse=True, scope="module", params=[True, False], ids=["floats", "bits"])
def ways(request: pytest.FixtureRequest) -> object:
    """Small blocks; and numpy's two ways to compare."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "BLOCK", 8)
        patch.setattr(numpy_backend, "BLOCK", 8)  # five blocks and more are shared by threads
        if not request.param:
            patch.setattr(numpy_backend, "FLOATS", ())
        yield


@given(passes())
def test_a_partition_marks_what_is_above_and_gathers_what_is_inside(drawn: Pass) -> None:
    masks: dict[str, Tensor] = {}
    parted = drawn.scan.partition(
        drawn.pieces, drawn.low, drawn.high, np.ones_like(drawn.low), masks, 1000
    )
    assert parted.complete
    for i, (piece, found) in enumerate(zip(drawn.pieces, drawn.keys, strict=True)):
        above, inside = found > drawn.high[i], (found >= drawn.low[i]) & (found <= drawn.high[i])
        mask = masks[piece.name].reshape(-1)[piece.start : piece.stop]
        assert (mask.numpy() == above).all()
        assert (parted.above[i], parted.inside[i]) == (above.sum(), inside.sum())
        assert parted.positions[i].tolist() == (np.flatnonzero(inside) + piece.start).tolist()
        assert (parted.keys[i] == found[inside]).all()
        assert parted.keys[i].dtype == found.dtype


@given(passes(), st.integers(0, 30), st.data())
def test_no_more_is_gathered_than_there_is_room_for_and_that_is_said(
    drawn: Pass, room: int, data: st.DataObject
) -> None:
    every = np.array([data.draw(st.integers(0, 9)) for _ in drawn.pieces])
    parted = drawn.scan.partition(drawn.pieces, drawn.low, drawn.high, every, None, room)
    asked = gathered = 0
    for i, found in enumerate(drawn.keys):
        inside = np.flatnonzero((found >= drawn.low[i]) & (found <= drawn.high[i]))
        assert parted.inside[i] == len(inside)
        places = parted.positions[i].numpy() - drawn.pieces[i].start
        assert (parted.keys[i] == found[places]).all()
        wanted = inside[inside % every[i] == 0] if every[i] else inside[:0]
        assert np.isin(places, wanted).all()
        assert not parted.complete or len(places) == len(wanted)
        asked, gathered = asked + len(inside) * (every[i] > 0), gathered + len(places)
    if (every <= 1).all():
        assert gathered <= room
        assert parted.complete == (asked <= room)


@given(passes(), st.data())
def test_what_speaks_against_masks_is_counted_one_by_one(drawn: Pass, data: st.DataObject) -> None:
    sizes = drawn.scan.sizes
    masks = {name: torch.zeros(size, dtype=torch.bool) for name, size in sizes.items()}
    expected = []
    for piece, found, key in zip(drawn.pieces, drawn.keys, drawn.low.tolist(), strict=True):
        kept = found >= key
        if len(kept):
            kept[data.draw(st.lists(st.integers(0, len(kept) - 1), max_size=3))] ^= True
        masks[piece.name][piece.start : piece.stop] = torch.from_numpy(kept)
        parts = kept, kept & (found < key), ~kept & (found > key), ~kept & (found == key)
        expected.append([int(part.sum()) for part in parts])
    assert drawn.scan.count(drawn.pieces, drawn.low, masks).tolist() == expected


@given(score_mappings(max_size=40, zero_size=True), st.integers(1, 50))
def test_a_sample_is_of_each_piece_and_the_same_each_time(
    importance: Mapping[str, Tensor], size: int
) -> None:
    found, again = ArrayScan(importance), Scan(importance)
    pieces = [piece for piece in whole(found) if piece.size]
    sample = found.validate_and_sample(pieces, [size] * len(pieces))
    for piece, drawn in zip(pieces, sample, strict=True):
        values = float_keys.keys(
            float_keys.widened(importance[piece.name].reshape(-1), found.dtype)
        )
        assert len(drawn) == size
        assert np.isin(drawn, values.numpy()).all()
    others = again.validate_and_sample(pieces, [size] * len(pieces))
    assert all((a == b).all() for a, b in zip(sample, others, strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_what_is_not_finite_is_found_and_large_sums_are_not_taken_for_it(
    dtype: torch.dtype, bad: float
) -> None:
    scores = torch.full((5, 9), torch.finfo(dtype).max, dtype=dtype)  # their sum is infinite
    Scan({"w": scores}).validate_and_sample([], [])
    scores[3, 4] = bad
    with pytest.raises(ImportanceError, match=rf"importance\['w'\] at index \(3, 4\) is {bad}"):
        Scan({"w": scores}).validate_and_sample([], [])
    both = torch.tensor([INF, -INF] if bad == INF else [bad, 1.0], dtype=dtype)
    with pytest.raises(ImportanceError, match=r"at index \(0\)"):
        Scan({"w": both}).validate_and_sample([], [])


def test_what_has_no_values_is_refused() -> None:
    with pytest.raises(ImportanceError, match="on the meta device: importance is a dense tensor"):
        Scan({"w": torch.zeros(3, device="meta")}).validate_and_sample([], [])
    with pytest.raises(ImportanceError, match=r"torch\.sparse_coo: importance is a dense tensor"):
        Scan({"w": torch.eye(3).to_sparse()}).validate_and_sample([], [])
