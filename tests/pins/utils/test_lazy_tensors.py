"""Scores that are computed when they are asked for: the same decision, and none is held."""

import gc
import weakref
from collections import Counter
from collections.abc import Mapping

import pytest
import torch
from hypothesis import given
from torch import Tensor

import pins
from pins.masks import count_each
from pins.selection.constraints import Cardinality, LayerBounds
from pins.utils.lazy_tensors import Computed, shapes_of
from verification.strategies import selections


class Watched(Computed):
    """Counts how often each tensor is asked for, and sees which ones are still alive."""

    def __init__(self, importance: Mapping[str, Tensor]) -> None:
        super().__init__({name: s.shape for name, s in importance.items()}, self._made)
        self._held = importance
        self.asked: Counter[str] = Counter()
        self.alive: list[weakref.ref[Tensor]] = []
        self.most = 0

    def _made(self, name: str) -> Tensor:
        self.asked[name] += 1
        scores = self._held[name].clone()
        self.alive = [each for each in self.alive if each() is not None]
        self.most = max(self.most, len(self.alive))
        self.alive.append(weakref.ref(scores))
        return scores


def normal(sizes: Mapping[str, int]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(size, generator=generator) for name, size in sizes.items()}


@given(selections(zero_size=True))
def test_computed_scores_are_decided_as_those_that_are_held(
    instance: tuple[dict[str, Tensor], int],
) -> None:
    importance, keep = instance
    watched = Watched(importance)
    held, computed = pins.decide(importance, keep), pins.decide(watched, keep)
    assert computed.proof == held.proof
    assert list(computed.masks) == list(held.masks)
    for name, mask in held.masks.items():
        assert torch.equal(computed.masks[name], mask)
        assert torch.equal(pins.select(watched, keep)[name], mask)


def test_a_constrained_decision_is_the_same_too() -> None:
    importance = normal({"a": 50, "b": 30, "c": 20})
    constraint = Cardinality(20) & LayerBounds({"c": 15})
    held, computed = (pins.decide(s, constraint) for s in (importance, Watched(importance)))
    assert computed.proof == held.proof
    assert count_each(computed.masks)["c"].kept == 15
    assert all(torch.equal(mask, held.masks[name]) for name, mask in computed.masks.items())


@pytest.mark.parametrize("sizes", [{"a": 40, "b": 60}, {"a": 300_000, "b": 200_000, "c": 7}])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_a_tensor_is_asked_for_three_times(sizes: dict[str, int], share: float) -> None:
    """Once for the sample, once for the pass, once for the proof."""
    watched = Watched(normal(sizes))
    pins.decide(watched, int(share * sum(sizes.values())))
    assert set(watched.asked.values()) == {3}
    watched.asked.clear()
    pins.select(watched, sum(sizes.values()) // 3)
    assert set(watched.asked.values()) == {2}


@pytest.mark.parametrize("keep", [100_000, 250_000, 400_000])
def test_scores_of_few_values_are_asked_for_no_more_than_four_times(keep: int) -> None:
    importance = {name: s.round() for name, s in normal({"a": 300_000, "b": 200_000}).items()}
    watched = Watched(importance)
    pins.decide(watched, keep)
    assert max(watched.asked.values()) <= 4


def test_no_more_than_one_tensor_is_held_and_none_in_the_end() -> None:
    watched = Watched(normal({str(number): 1000 for number in range(8)}))
    pins.decide(watched, 3000)
    assert watched.most == 1  # the one before, which is let go of when the next has come
    gc.collect()
    assert all(each() is None for each in watched.alive)


def test_what_is_held_would_be_seen() -> None:
    """The negative control."""
    watched = Watched(normal({"a": 5, "b": 5, "c": 5}))
    held = list(watched.values())
    assert len(held) == 3
    assert watched.most == 2


def test_scores_are_a_mapping_whose_shapes_are_known_without_computing() -> None:
    watched = Watched({"a": torch.zeros(2, 3), "b": torch.zeros(())})
    assert (list(watched), len(watched), "a" in watched) == (["a", "b"], 2, True)
    watched.asked.clear()
    assert shapes_of(watched) == {"a": (2, 3), "b": ()}
    assert not watched.asked
    with pytest.raises(KeyError, match="c"):
        watched["c"]
    assert shapes_of({"t": torch.zeros(4), "list": [1.0]}) == {"t": (4,), "list": (0,)}
