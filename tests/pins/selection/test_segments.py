"""Segments: each is selected from as if it were alone, whatever the pattern and the ranks."""

from collections.abc import Iterator, Mapping

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
from pins.selection import ties
from pins.selection.kth_largest import count, kth_largest, validate_and_sample
from pins.selection.scan import float_keys, numpy_backend
from pins.selection.scan.dispatch import scan_of
from pins.selection.segments import each_tensor, whole_model
from pins.selection.select import Pattern, largest
from verification.strategies import score_mappings
from verification.testing.threaded_group import shards, together


@pytest.fixture(autouse=True, scope="module")
def small_numbers() -> Iterator[None]:
    """Several blocks and passes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numpy_backend, "BLOCK", 8)
        for name in ("SAMPLE", "LEAST_ROOM", "MOST_ROOM"):
            patch.setattr(threshold, name, 5)
        yield


def parts_of(importance: Mapping[str, Tensor], pattern: Pattern) -> list[Tensor]:
    """The scores of each segment."""
    parts = [scores.reshape(-1) for scores in importance.values()]
    return parts if pattern is each_tensor else [torch.cat([part.double() for part in parts])]


def one_by_one(parts: list[Tensor], keeps: list[int]) -> Tensor:
    """Each segment by the plain selection."""
    masks = [
        pins.select(part, keep) if len(part) else part.bool()
        for part, keep in zip(parts, keeps, strict=True)
    ]
    return torch.cat(masks) if masks else torch.zeros(0, dtype=torch.bool)


def joined(masks: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([mask.reshape(-1) for mask in masks.values()])


patterns = st.sampled_from([whole_model, each_tensor])


@given(score_mappings(max_size=30, zero_size=True), patterns, st.data())
def test_each_segment_is_selected_from_as_if_it_were_alone(
    importance: dict[str, Tensor], pattern: Pattern, data: st.DataObject
) -> None:
    parts = parts_of(importance, pattern)
    keeps = [data.draw(st.integers(0, len(part))) for part in parts]
    masks = largest(importance, keeps, pattern)
    assert torch.equal(joined(masks), one_by_one(parts, keeps))
    assert {n: m.shape for n, m in masks.items()} == {n: s.shape for n, s in importance.items()}


@settings(max_examples=30, deadline=None)
@given(
    score_mappings(max_size=30, zero_size=True),
    patterns,
    st.lists(st.floats(0, 1), min_size=1, max_size=3),
    st.data(),
)
def test_so_it_is_among_ranks(
    importance: dict[str, Tensor], pattern: Pattern, cuts: list[float], data: st.DataObject
) -> None:
    parts = parts_of(importance, pattern)
    keeps = [data.draw(st.integers(0, len(part))) for part in parts]
    own = shards(importance, cuts)
    masks = together(len(own), lambda rank: largest(own[rank.rank], keeps, pattern, rank))
    found = torch.cat([mask[name] for name in importance for mask in masks])
    assert torch.equal(found, one_by_one(parts, keeps))


@given(score_mappings(max_size=30, zero_size=True), patterns, st.data())
def test_the_keys_beside_the_cut_are_those_of_the_ranked_scores(
    importance: dict[str, Tensor], pattern: Pattern, data: st.DataObject
) -> None:
    parts = parts_of(importance, pattern)
    keeps = [data.draw(st.integers(0, len(part))) for part in parts]
    scan = scan_of(importance)
    ranked = validate_and_sample(scan, pattern(scan.sizes, SINGLE_PROCESS), SINGLE_PROCESS)
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


def test_ties_by_another_rule_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: none of the scores that are equal to the border."""
    scores, keeps = {"a": torch.ones(3), "b": torch.tensor([1.0, 2.0])}, [1, 1]
    expected = one_by_one(parts_of(scores, each_tensor), keeps)
    assert torch.equal(joined(largest(scores, keeps, each_tensor)), expected)
    monkeypatch.setattr(ties, "shared_out", lambda tied, *_: tied * 0)
    assert not torch.equal(joined(largest(scores, keeps, each_tensor)), expected)


def test_a_number_of_ones_must_fit_its_segment() -> None:
    scores = {"a": torch.ones(4), "b": torch.ones(5)}
    with pytest.raises(CardinalityError, match=r"keep is 5: .*an int from 0 to 4"):
        largest(scores, np.array([5, 5]), each_tensor)
