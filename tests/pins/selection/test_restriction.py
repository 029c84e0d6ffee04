"""The optimum among the masks inside another one, against every mask."""

from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from pins.importance.trust_region.program import Terms, TrustRegionProgram
from pins.importance.trust_region.sample import sample
from pins.selection.constraints import Cardinality, PerTensor
from pins.selection.restriction import restricted
from pins.selection.select import decide
from pins.utils.lazy_tensors import Computed
from tests.pins.selection.constrained import Program, constrained, flat, ones, optima
from verification.strategies import masks_for


def lazily(importance: dict[str, Tensor]) -> Computed:
    return Computed({n: s.shape for n, s in importance.items()}, importance.__getitem__)


def best_inside(program: Program, allowed: dict[str, Tensor]) -> tuple[int, ...] | None:
    """The first optimum inside in lexicographic order, by trying every mask."""
    importance, constraint = program
    scores, inside = flat(importance), set(ones(allowed))
    owner = [name for name, each in importance.items() for _ in range(each.numel())]
    found: dict[Any, tuple[int, ...]] = {}
    for kept in combinations(sorted(inside), constraint.keep):
        counts = {name: [owner[i] for i in kept].count(name) for name in importance}
        exact = isinstance(constraint, PerTensor)
        if all(counts[n] == k if exact else counts[n] >= k for n, k in constraint.minimums.items()):
            found.setdefault(sum(scores[i] for i in kept), kept)
    return found[max(found)] if found else None


@given(constrained(max_size=3), st.data())
def test_it_is_the_optimum_of_all_masks_inside(program: Program, data: st.DataObject) -> None:
    importance, constraint = program
    assume(any(scores.numel() for scores in importance.values()))
    allowed = data.draw(masks_for(importance))
    best = best_inside(program, allowed)
    assume(best is not None)
    scores = restricted(lazily(importance), allowed)
    decision = decide(scores, constraint)
    assert ones(decision.masks) == best
    assert best in optima(dict(scores), constraint)
    assert decision.proof.holds


def test_without_the_restriction_it_is_not() -> None:
    importance = {"a": torch.tensor([3.0, 1.0]), "b": torch.tensor([-5.0, 2.0])}
    allowed = {"b": torch.tensor([True, False])}
    inside = decide(restricted(lazily(importance), allowed), Cardinality(3))
    assert ones(inside.masks) == (0, 1, 2)
    assert ones(decide(importance, Cardinality(3)).masks) == (0, 1, 3)


def test_the_scores_stay_finite_and_those_of_a_whole_tensor_the_same() -> None:
    importance = {"a": torch.ones(2, dtype=torch.float64), "b": torch.tensor([1.0, 0.0])}
    found = dict(restricted(lazily(importance), {"b": torch.tensor([False, True])}))
    assert found["b"].tolist() == [torch.finfo(torch.float32).min, 0.0]
    assert found["a"] is importance["a"]
    assert (plain := lazily(importance)) is restricted(plain, {})


@pytest.mark.parametrize("multiplier", [0.0, 1.0, 1e30])
def test_a_trust_region_keeps_nothing_outside_even_if_it_costs_nothing(multiplier: float) -> None:
    # outside: terms of zero weights; inside: as cheap ones, and a score that is negative
    terms = Terms(torch.tensor([0.0, 0.0, -1.0, 2.0]), torch.tensor([0.0, 0.0, 0.0, 1.0]))
    program = TrustRegionProgram({"w": terms}, Cardinality(3))
    inside = replace(program, allowed={"w": torch.tensor([False, True, True, True])})
    assert inside.solve(multiplier).masks["w"].tolist() == [False, True, True, True]
    assert program.solve(multiplier).masks["w"][0]
    sampled = sample(inside)
    assert sampled.whole
    assert sampled.terms.importance.tolist() == [0.0, -1.0, 2.0]
    assert sampled.drop(1e3) == 0.0
    assert sample(program).drop(1e3) == 1.0


def test_a_large_sample_represents_the_weights_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pins.importance.trust_region.sample.SAMPLE", 64)
    generator = torch.Generator().manual_seed(0)
    terms = Terms(torch.randn(512, generator=generator), torch.rand(512, generator=generator))
    allowed = torch.rand(512, generator=generator) < 0.5
    program = TrustRegionProgram({"w": terms}, Cardinality(20), allowed={"w": allowed})
    assert float(sample(program).weights.sum()) == pytest.approx(int(allowed.sum()))
