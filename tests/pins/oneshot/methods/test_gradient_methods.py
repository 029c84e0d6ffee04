"""Methods by gradients: each mask is optimal for scores that are computed by their formula here."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pins.importance.criterion import Observation
from pins.importance.trust_region.program import TrustRegionDecision
from pins.oneshot.layer import Layer
from pins.oneshot.methods.gradient_method import GradientMethod
from pins.oneshot.methods.method import bounds
from pins.oneshot.methods.registry import METHODS
from pins.pruning.acceptance import Solution
from pins.selection.allocation import Allocation
from pins.selection.select import decide
from pins.selection.tree import View

BY_GRADIENTS = {name: m for name, m in METHODS.items() if isinstance(m, GradientMethod)}
SHAPES = {"a": (3, 8), "b": (8, 4), "c": (2, 4)}
LOSS, RATE = 3.0, 0.5
ALLOCATIONS = {
    "row": Allocation(scope="row"),
    "tensor": Allocation(scope="tensor"),
    "global": Allocation(scope="global"),
    "2:4": Allocation(pattern="2:4", exactly=True),
    "at most 2:4": Allocation(pattern="2:4", scope="global"),
}


class Case:
    """θ, g and h of small integers by name, and the masks allowed; matrices like GPT-2's in "b"."""

    def __init__(self, seed: int, how: str, rate: float = 0.0) -> None:
        generator = torch.Generator().manual_seed(seed)

        def integers(low: int) -> dict[str, Tensor]:
            return {
                name: torch.randint(low, 9, shape, generator=generator).float()
                for name, shape in SHAPES.items()
            }

        self.weight, self.gradient, self.fisher = integers(-8), integers(-8), integers(0)
        self.views = {n: View.of(s, transposed=n == "b") for n, s in SHAPES.items()}
        self.tree = bounds(ALLOCATIONS[how], Fraction(1, 2), self.views).tree(self.views)
        self.observed = {
            name: Observation(
                w - rate * self.gradient[name], self.gradient[name], w, self.fisher[name]
            )
            for name, w in self.weight.items()
        }

    def solve(self, name: str, trial: Any = lambda _: LOSS) -> Solution:
        return BY_GRADIENTS[name].solve(self.observed, self.tree, LOSS, trial)

    def by_formula(self, formula: Any) -> dict[str, Tensor]:
        return {
            n: formula(self.gradient[n].double(), w.double(), self.fisher[n].double())
            for n, w in self.weight.items()
        }


FORMULAS = {
    "pins": lambda g, w, _: -g * w + RATE * g**2,
    "sensitivity": lambda g, w, _: (g * w).abs(),
    "obd": lambda _, w, h: h * w**2 / 2,
}


def value(scores: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> float:
    return sum(float((s.double() * masks[name]).sum()) for name, s in scores.items())


def test_these_are_all() -> None:
    assert [*BY_GRADIENTS] == [*FORMULAS, "trust-region"]


@pytest.mark.parametrize("name", FORMULAS)
@given(how=st.sampled_from([*ALLOCATIONS]), seed=st.integers(0, 2**20))
def test_the_mask_is_the_decision_by_the_formula(name: str, how: str, seed: int) -> None:
    case = Case(seed, how, RATE if name == "pins" else 0.0)
    solution = case.solve(name)
    scores = case.by_formula(FORMULAS[name])
    expected = decide(scores, case.tree).masks
    for each, mask in solution.decision.masks.items():
        assert torch.equal(solution.importance[each].double(), scores[each])
        assert torch.equal(mask, expected[each])


@pytest.mark.parametrize("how", ALLOCATIONS)
def test_other_formulas_give_other_masks(how: str) -> None:
    case = Case(3, how, RATE)
    masks = case.solve("pins").decision.masks
    scores = case.by_formula(FORMULAS["pins"])
    for wrong in (
        case.by_formula(lambda g, w, _: (-g * w + RATE * g**2).abs()),
        case.by_formula(lambda g, w, _: g * w + RATE * g**2),
        case.by_formula(lambda g, w, _: -g * w - RATE * g**2),
        case.by_formula(lambda g, w, _: -g * w),
    ):
        other = decide(wrong, case.tree).masks
        assert any(not torch.equal(mask, other[name]) for name, mask in masks.items())
        assert value(scores, other) < value(scores, masks)


@given(how=st.sampled_from([*ALLOCATIONS]), seed=st.integers(0, 2**20))
def test_predictions_are_sums_over_the_pruned(how: str, seed: int) -> None:
    for name, formula in (
        ("pins", lambda g, w, _: -g * w),  # of the mask alone: the step is not taken
        ("sensitivity", lambda g, w, _: -g * w),
        ("obd", FORMULAS["obd"]),
    ):
        case = Case(seed, how, RATE if name == "pins" else 0.0)
        solution = case.solve(name)
        pruned = {each: ~mask for each, mask in solution.decision.masks.items()}
        found = BY_GRADIENTS[name].predicted(case.observed, solution)
        assert found == pytest.approx(value(case.by_formula(formula), pruned))


@given(how=st.sampled_from([*ALLOCATIONS]), seed=st.integers(0, 2**20))
def test_a_trust_region_ranks_cost_and_gain(how: str, seed: int) -> None:
    case = Case(seed, how)
    slopes = case.by_formula(lambda g, w, _: -g * w)
    numbers = sum(w.numel() for w in case.weight.values())
    mean = sum(float(h.sum()) for h in case.fisher.values()) / numbers
    costs = case.by_formula(lambda _, w, h: (h + mean) * w**2 / 2)

    def gained(masks: Mapping[str, Tensor]) -> float:
        """A loss that follows the first-order model."""
        return LOSS + value(slopes, {name: ~mask for name, mask in masks.items()})

    solution = case.solve("trust-region", gained)
    assert isinstance(solution.decision, TrustRegionDecision)
    rank = {name: c + solution.decision.multiplier * slopes[name] for name, c in costs.items()}
    best = decide(rank, case.tree).masks
    masks = solution.decision.masks
    assert value(rank, masks) == pytest.approx(value(rank, best), rel=1e-5, abs=1e-3)
    pruned = {name: ~mask for name, mask in masks.items()}
    change = value(costs, pruned) + value(slopes, pruned)
    found = BY_GRADIENTS["trust-region"].predicted(case.observed, solution)
    assert found == pytest.approx(change, rel=1e-5)
    if (reduction := solution.reduction) is not None:
        assert reduction.actual == pytest.approx(reduction.predicted)
        assert how != "global" or reduction.predicted <= LOSS / 2


def test_a_trust_region_that_gains_nothing_is_damped_brain_damage() -> None:
    case, trials = Case(0, "row"), list[float]()

    def worse(_: Mapping[str, Tensor]) -> float:
        trials.append(LOSS + len(trials))
        return trials[-1]

    solution = case.solve("trust-region", worse)
    assert solution.multiplier == 0
    assert len(trials) == 5
    mean = sum(h.sum() for h in case.fisher.values()) / sum(h.numel() for h in case.fisher.values())
    damped = case.by_formula(lambda _, w, h: (h + mean) * w**2 / 2)
    for name, mask in decide(damped, case.tree).masks.items():
        assert torch.equal(solution.decision.masks[name], mask)
    assert all(torch.equal(c, solution.importance[n].double()) for n, c in damped.items())


@pytest.mark.parametrize("name", BY_GRADIENTS)
def test_a_layer_gets_the_mask_that_was_decided_for_it(name: str) -> None:
    weight = torch.arange(1.0, 9.0).view(2, 4)
    mask = weight % 3 != 0
    layer = Layer("w", weight, torch.eye(4, dtype=torch.float64), 4, decided=mask)
    pruned = BY_GRADIENTS[name].prune(layer, Allocation(), Fraction(1, 2))
    assert torch.equal(pruned.mask, mask)
    assert torch.equal(pruned.weight, weight * mask)
    assert pruned.scores is None, "the decision has them"
