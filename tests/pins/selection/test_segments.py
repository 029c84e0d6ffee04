"""Segments: each is selected from as if it were alone, whatever the pattern and the ranks."""

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import pins
from pins.distributed.process_group import SINGLE_PROCESS
from pins.errors import CardinalityError
from pins.selection import kth_largest as threshold
from pins.selection import rows, segments, ties
from pins.selection.kth_largest import count, kth_largest, validate_and_sample
from pins.selection.scan import float_keys, numpy_backend
from pins.selection.scan.dispatch import scan_of
from pins.selection.segments import each_tensor, runs, whole_model
from pins.selection.select import Pattern, largest
from verification.strategies import score_mappings
from verification.testing.threaded_group import shards, together


@pytest.fixture(autouse=True, scope="module", params=[1, 64], ids=["searched", "sorted"])
def small_numbers(request: pytest.FixtureRequest) -> Iterator[None]:
    """Several blocks, passes and batches of rows; runs that are long, and such as are short."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "LONGEST_ROW", request.param)
        patch.setattr(numpy_backend, "BLOCK", 8)
        for name in ("SAMPLE", "LEAST_ROOM", "MOST_ROOM"):
            patch.setattr(threshold, name, 5)
        yield


def flat_of(importance: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: scores.reshape(-1) for name, scores in importance.items()}


def parts_of(importance: Mapping[str, Tensor], length: int | None) -> list[Tensor]:
    """The scores of each segment; `length` 0: of each tensor, None: of all."""
    flat = flat_of(importance).values()
    if length is None:
        return [torch.cat([scores.double() for scores in flat])]
    if not length:
        return list(flat)
    return [part for scores in flat if len(scores) for part in torch.split(scores, length)]


def pattern_of(length: int | None) -> Pattern:
    if length is None:
        return whole_model
    return partial(runs, length) if length else each_tensor


def one_by_one(parts: list[Tensor], keeps: list[int]) -> Tensor:
    """Each segment by the plain selection."""
    masks = [
        pins.select(part, keep) if len(part) else part.bool()
        for part, keep in zip(parts, keeps, strict=True)
    ]
    return torch.cat(masks) if masks else torch.zeros(0, dtype=torch.bool)


def joined(masks: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([mask.reshape(-1) for mask in masks.values()])


lengths = st.sampled_from([None, 0, 1, 3, 4, 7, 1000])


@given(score_mappings(max_size=30, zero_size=True), lengths, st.data())
def test_each_segment_is_selected_from_as_if_it_were_alone(
    importance: dict[str, Tensor], length: int | None, data: st.DataObject
) -> None:
    parts = parts_of(importance, length)
    keeps = [data.draw(st.integers(0, len(part))) for part in parts]
    masks = largest(importance, keeps, pattern_of(length))
    assert torch.equal(joined(masks), one_by_one(parts, keeps))
    assert {n: m.shape for n, m in masks.items()} == {n: s.shape for n, s in importance.items()}


@settings(max_examples=30, deadline=None)
@given(
    score_mappings(max_size=30, zero_size=True),
    lengths,
    st.lists(st.floats(0, 1), min_size=1, max_size=3),
    st.data(),
)
def test_so_it_is_among_ranks(
    importance: dict[str, Tensor], length: int | None, cuts: list[float], data: st.DataObject
) -> None:
    parts = parts_of(importance, length)
    keeps = [data.draw(st.integers(0, len(part))) for part in parts]
    own = shards(importance, cuts)
    pattern = pattern_of(length)
    masks = together(len(own), lambda rank: largest(own[rank.rank], keeps, pattern, rank))
    found = torch.cat([mask[name] for name in importance for mask in masks])
    assert torch.equal(found, one_by_one(parts, keeps))


@given(score_mappings(max_size=30, zero_size=True), lengths, st.data())
def test_the_keys_beside_the_cut_are_those_of_the_ranked_scores(
    importance: dict[str, Tensor], length: int | None, data: st.DataObject
) -> None:
    parts = parts_of(importance, length)
    keeps = [data.draw(st.integers(0, len(part))) for part in parts]
    scan = scan_of(importance)
    ranked = validate_and_sample(
        scan, pattern_of(length)(scan.sizes, SINGLE_PROCESS), SINGLE_PROCESS
    )
    found = kth_largest(ranked, keeps)
    least, most = (
        float_keys.scores(torch.from_numpy(each), scan.dtype).double().tolist()
        for each in (found.kept_min, found.pruned_max)
    )
    counts = count(ranked, found.masks, found.kept_min)
    for i, (part, keep) in enumerate(zip(parts, keeps, strict=True)):
        order = part.double().sort(descending=True).values.tolist()
        if keep:
            assert least[i] == order[keep - 1]
            assert counts[i].tolist() == [keep, 0, 0, order[keep:].count(least[i])]
        if keep < len(part):
            assert most[i] == order[keep]


def test_groups_of_four_keep_two_each() -> None:
    scores = {"w": torch.tensor([[1.0, 1, 1, 1, 0, 3, 2, 1], [4, 5, 4, 4, -1, -2, -2, 0]])}
    keeps = np.full(4, 2)
    masks = largest(scores, keeps, partial(runs, 4))
    assert masks["w"].int().tolist() == [[1, 1, 0, 0, 0, 1, 1, 0], [1, 1, 0, 0, 1, 0, 0, 1]]
    with pytest.raises(CardinalityError, match=r"keep is 5: .*an int from 0 to 4"):
        largest(scores, keeps + np.array([0, 3, 0, 0]), partial(runs, 4))


def test_ties_by_another_rule_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: the last of equal scores, in rows and in what is searched."""

    def last(batch: rows.Batch, keeps: np.ndarray) -> tuple[Tensor, np.ndarray, np.ndarray]:
        other = rows.Batch(batch.piece, batch.segments, batch.keys[:, ::-1])
        mask, kth, after = first(other, keeps)
        return mask.view(other.keys.shape).flip(1).reshape(-1), kth, after

    scores, keeps = {"w": torch.tensor([1.0, 1.0, 0.0, 2.0])}, [1, 1]
    pattern = partial(runs, 2)
    expected = one_by_one(parts_of(scores, 2), keeps)
    assert torch.equal(joined(largest(scores, keeps, pattern)), expected)
    first = rows.Batch.largest
    monkeypatch.setattr(rows.Batch, "largest", last)
    monkeypatch.setattr(ties, "shared_out", lambda tied, *_: tied * 0)
    assert not torch.equal(joined(largest(scores, keeps, pattern)), expected)


def test_there_is_no_object_for_each_row() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "LONGEST_ROW", 1 << 16)
        found = runs(4, {"a": 4_000_000, "b": 10}, SINGLE_PROCESS)
    assert len(found.sizes) == 1_000_003
    assert not found.pieces
    assert len(found.rows) == 2
