"""The program of a trust region: laws of its decisions, in integers on which nothing is rounded."""

from collections.abc import Iterator, Mapping
from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pins.errors import CardinalityError, CriterionError, ImportanceError
from pins.importance.trust_region.program import Terms, TrustRegionProgram
from pins.masks import count_each
from pins.selection.constraints import Cardinality, Constraint, LayerBounds, PerTensor
from pins.selection.optimality import optimality
from pins.selection.reach import keep_of
from pins.selection.select import decide

DYADIC = st.integers(-6, 6).map(lambda octave: 2.0**octave)  # μ, and factors


@st.composite
def region_programs(
    draw: st.DrawFn, *, max_tensors: int = 3, max_size: int = 4
) -> TrustRegionProgram:
    """s and c in small integers, and each kind of constraint; shrinks to one zero, pruned."""
    terms = {}
    for i in range(draw(st.integers(1, max_tensors))):
        size = draw(st.integers(int(i == 0), max_size))
        dtype = draw(st.sampled_from([torch.float32, torch.float64]))
        s = draw(st.lists(st.integers(-20, 20), min_size=size, max_size=size))
        c = draw(st.lists(st.integers(0, 20), min_size=size, max_size=size))
        terms[f"layer.{9 - i}"] = Terms(torch.tensor(s, dtype=dtype), torch.tensor(c, dtype=dtype))
    least = {name: draw(st.integers(0, each.cost.numel())) for name, each in terms.items()}
    total = sum(each.cost.numel() for each in terms.values())
    keep = draw(st.integers(sum(least.values()), total))
    constraints: tuple[Constraint, ...] = (
        Cardinality(keep),
        Cardinality(keep) & LayerBounds(least),
        PerTensor(least),
    )
    return TrustRegionProgram(terms, draw(st.sampled_from(constraints)))


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    assert list(first) == list(second)
    return all(torch.equal(first[name], second[name]) for name in first)


def times(program: TrustRegionProgram, importance: float, cost: float) -> TrustRegionProgram:
    """The program with s and c multiplied."""
    terms = {n: Terms(importance * s, cost * c) for n, (s, c) in program.terms.items()}
    return TrustRegionProgram(terms, program.constraint)


@given(region_programs(), DYADIC, DYADIC)
def test_the_unit_of_the_multiplier_is_that_of_cost_by_importance(
    program: TrustRegionProgram, multiplier: float, factor: float
) -> None:
    masks = program.solve(multiplier).masks
    assert same(times(program, factor, 1).solve(multiplier / factor).masks, masks)
    assert same(times(program, 1, factor).solve(multiplier * factor).masks, masks)


def test_with_the_multiplier_as_it_was_the_unit_matters() -> None:
    # the negative control: r = 3, 2, and with s four times as large 6, 8
    program = TrustRegionProgram(
        {"w": Terms(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 0.0]))}, Cardinality(1)
    )
    assert program.solve(1.0).masks["w"].tolist() == [True, False]
    assert times(program, 4, 1).solve(1.0).masks["w"].tolist() == [False, True]
    assert times(program, 4, 1).solve(0.25).masks["w"].tolist() == [True, False]


@given(region_programs(), st.lists(DYADIC | st.just(0.0), min_size=2, max_size=4))
def test_drop_and_cost_never_fall_as_the_multiplier_grows(
    program: TrustRegionProgram, multipliers: list[float]
) -> None:
    decisions = [program.solve(multiplier) for multiplier in sorted(multipliers)]
    for less, more in pairwise(decisions):
        assert less.drop <= more.drop
        assert less.cost <= more.cost


@given(region_programs(), DYADIC)
def test_drop_and_cost_are_the_sums_over_what_is_pruned(
    program: TrustRegionProgram, multiplier: float
) -> None:
    decision = program.solve(multiplier)
    s, c = (
        sum(float(each[part][~decision.masks[name]].sum()) for name, each in program.terms.items())
        for part in (0, 1)
    )
    assert (decision.drop, decision.cost) == (-s, c)
    assert decision.multiplier == multiplier


@given(region_programs(), DYADIC | st.just(0.0))
def test_the_count_is_exact_and_the_constraint_is_kept(
    program: TrustRegionProgram, multiplier: float
) -> None:
    decision = program.solve(multiplier)
    counts = {name: each.kept for name, each in count_each(decision.masks).items()}
    assert sum(counts.values()) == keep_of(program.tree) == decision.proof.keep
    assert allows(program, counts)
    assert decision.tree == program.tree


@given(region_programs(), DYADIC)
def test_the_proof_is_that_of_the_scores(program: TrustRegionProgram, multiplier: float) -> None:
    decision = program.solve(multiplier)
    scores = program.scores(multiplier)
    for name, (s, c) in program.terms.items():
        assert torch.equal(scores[name], c + multiplier * s)
        assert scores[name].dtype == c.dtype
    assert decision.proof == decide(scores, program.constraint).proof
    assert decision.proof.holds
    read = optimality(scores, decision.masks, tree=decision.tree)
    for name in ("keep", "total", "kept_min", "pruned_max", "unique", "dual_multiplier", "binding"):
        assert getattr(decision.proof, name) == getattr(read, name)


@given(region_programs())
def test_without_a_multiplier_it_is_optimal_brain_damage(program: TrustRegionProgram) -> None:
    costs = {name: terms.cost for name, terms in program.terms.items()}
    assert same(program.solve(0.0).masks, decide(costs, program.constraint).masks)
    for name, terms in program.terms.items():
        assert program.scores(0.0)[name] is terms.cost


@given(region_programs(max_tensors=2), DYADIC)
def test_no_mask_that_costs_no_more_promises_more(
    program: TrustRegionProgram, multiplier: float
) -> None:
    decision = program.solve(multiplier)
    owner = [name for name, each in program.terms.items() for _ in range(each.cost.numel())]
    s, c = ([x for each in program.terms.values() for x in each[part].tolist()] for part in (0, 1))
    for kept in combinations(range(len(s)), keep_of(program.tree)):
        counts = {name: [owner[i] for i in kept].count(name) for name in program.terms}
        if not allows(program, counts):
            continue
        pruned = set(range(len(s))) - set(kept)
        if sum(c[i] for i in pruned) <= decision.cost:
            assert -sum(s[i] for i in pruned) <= decision.drop


def allows(program: TrustRegionProgram, counts: dict[str, int]) -> bool:
    """Whether the bounds of each tensor allow so many ones."""
    return all(node.minimum <= counts[node.name] <= node.upper for node in program.tree.tensors)


def test_with_the_magnitude_in_place_of_the_importance_one_does() -> None:
    # the negative control: c + |s| keeps the second, whose removal is a gain at the same cost
    s, c = torch.tensor([1.0, -2.0]), torch.tensor([1.0, 1.0])
    signed = TrustRegionProgram({"w": Terms(s, c)}, Cardinality(1)).solve(1.0)
    unsigned = TrustRegionProgram({"w": Terms(s.abs(), c)}, Cardinality(1)).solve(1.0)
    assert (signed.drop, signed.cost) == (2.0, 1.0)
    assert float(-s[~unsigned.masks["w"]].sum()) == -1.0
    assert unsigned.cost == 1.0


class Drawn(Mapping[str, Terms]):
    """Terms that are made anew whenever they are asked for."""

    def __getitem__(self, name: str) -> Terms:
        generator = torch.Generator().manual_seed(int(name))
        return Terms(torch.randn(5, generator=generator), torch.rand(5, generator=generator))

    def __iter__(self) -> Iterator[str]:
        return iter("10")

    def __len__(self) -> int:
        return 2


def test_terms_may_be_computed_when_they_are_asked_for() -> None:
    lazy, held = (TrustRegionProgram(terms, Cardinality(4)) for terms in (Drawn(), dict(Drawn())))
    for multiplier in (0.0, 0.5):
        first, second = lazy.solve(multiplier), held.solve(multiplier)
        assert same(first.masks, second.masks)
        assert (first.drop, first.cost, first.proof) == (second.drop, second.cost, second.proof)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_scores_of_16_bit_terms_are_not_rounded_to_16_bits(dtype: torch.dtype) -> None:
    terms = Terms(torch.tensor([1.0, 0.0], dtype=dtype), torch.tensor([1.0, 1.0], dtype=dtype))
    scores = terms.scores(2.0**-20)
    assert scores.dtype == torch.float32
    assert scores.tolist() == [1 + 2.0**-20, 1.0]
    assert scores.to(dtype).tolist() == [1.0, 1.0]  # the negative control: they would tie


@pytest.mark.parametrize("multiplier", [-1.0, -1e-30, float("inf"), float("nan")])
def test_a_multiplier_that_is_none_is_refused(multiplier: float) -> None:
    program = TrustRegionProgram({"w": Terms(torch.ones(2), torch.ones(2))}, Cardinality(1))
    with pytest.raises(CriterionError, match=r"the multiplier is .*: it is at least 0, and finite"):
        program.solve(multiplier)


def test_what_cannot_be_decided_is_refused() -> None:
    bad = Terms(torch.tensor([1.0, float("nan")]), torch.ones(2))
    with pytest.raises(ImportanceError, match=r"importance\['w'\] at index \(1\) is nan"):
        TrustRegionProgram({"w": bad}, Cardinality(1)).solve(1.0)
    with pytest.raises(CardinalityError, match=r"keep is 3: .* an int from 0 to 2"):
        TrustRegionProgram({"w": Terms(torch.ones(2), torch.ones(2))}, Cardinality(3)).solve(1.0)
