"""The search for the multiplier of a trust region: what it promises, and what it never exceeds."""

from collections.abc import Mapping
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pins.errors import CardinalityError, CriterionError
from pins.importance.trust_region.multiplier import (
    HALVINGS,
    SAFETY,
    bisect,
    largest_multiplier,
    within,
)
from pins.importance.trust_region.program import Terms, TrustRegionProgram
from pins.importance.trust_region.sample import OCTAVES, Sample, sample
from pins.masks import count_each
from pins.selection.constraints import Cardinality, Constraint, LayerBounds, PerTensor
from pins.selection.reach import keep_of
from pins.selection.select import select

STEP = 2.0 ** (OCTAVES / 2**HALVINGS)  # how near to the largest μ the search comes
BETWEEN = (2.0**-20, 2.0**20)


def drawn(seed: int, *sizes: int) -> dict[str, Terms]:
    """Heavy-tailed s of both signs and c > 0, float32."""
    generator = torch.Generator().manual_seed(seed)
    return {
        f"layer.{9 - i}": Terms(
            torch.randn(size, generator=generator) ** 3,
            torch.randn(size, generator=generator).square(),
        )
        for i, size in enumerate(sizes)
    }


@st.composite
def region_programs(draw: st.DrawFn) -> TrustRegionProgram:
    """Two tensors of random terms, and each kind of constraint; something is pruned."""
    terms = drawn(draw(st.integers(0, 999)), *(draw(st.integers(2, 30)) for _ in range(2)))
    least = {name: draw(st.integers(0, each.cost.numel() - 1)) for name, each in terms.items()}
    total = sum(each.cost.numel() for each in terms.values())
    keep = draw(st.integers(sum(least.values()), total - 1))
    constraints: list[Constraint] = [
        Cardinality(keep),
        Cardinality(keep) & LayerBounds(least),
        PerTensor(least),
    ]
    return TrustRegionProgram(terms, draw(st.sampled_from(constraints)))


def unconstrained(seed: int, size: int = 60) -> TrustRegionProgram:
    return TrustRegionProgram(drawn(seed, size // 3, size - size // 3), Cardinality(size // 2))


def exact_cost(program: TrustRegionProgram, masks: Mapping[str, torch.Tensor]) -> Fraction:
    return sum(
        (Fraction(c) for n, each in program.terms.items() for c in each.cost[~masks[n]].tolist()),
        Fraction(0),
    )


@given(st.floats(2.0**-25, 2.0**25), st.integers(1, HALVINGS))
def test_the_largest_argument_within_the_limit_is_found(limit: float, halvings: int) -> None:
    found = bisect(lambda x: x, limit, BETWEEN, halvings)
    low, high = BETWEEN
    if limit >= high:
        assert found == high
    elif limit < low:
        assert found == 0
    else:
        assert found <= limit <= found * 2.0 ** (40 / 2**halvings) * (1 + 1e-12)


def test_where_there_is_nothing_to_search_it_is_zero() -> None:
    assert bisect(lambda x: x, 0.0, BETWEEN, HALVINGS) == 0
    assert bisect(lambda x: x, -1.0, BETWEEN, HALVINGS) == 0
    assert bisect(lambda x: x, 1.0, (0.0, 0.0), HALVINGS) == 0
    assert bisect(lambda _: 0.0, 1.0, BETWEEN, HALVINGS) == BETWEEN[1]


@given(region_programs())
def test_no_promise_is_optimal_brain_damage(program: TrustRegionProgram) -> None:
    assert largest_multiplier(sample(program), 0.0) == 0


@given(st.integers(0, 999), st.floats(0.01, 0.9))
def test_a_promise_is_kept_and_a_larger_multiplier_promises_more(seed: int, share: float) -> None:
    program = unconstrained(seed)
    base, most = program.solve(0.0).drop, program.solve(1e12).drop
    limit = share * (most - base)
    found = largest_multiplier(sample(program), limit)
    assert program.solve(found).drop - base <= limit
    assert program.solve(found * STEP**2).drop - base > limit  # the negative control


@given(region_programs(), st.lists(st.floats(0, 100), min_size=2, max_size=3))
def test_the_multiplier_grows_with_the_promise(
    program: TrustRegionProgram, limits: list[float]
) -> None:
    found = [largest_multiplier(sample(program), limit) for limit in sorted(limits)]
    assert found == sorted(found)


@given(st.integers(0, 999), st.floats(0.01, 10), st.integers(-8, 8).map(lambda e: 2.0**e))
def test_the_multiplier_is_in_the_unit_of_cost_by_importance(
    seed: int, limit: float, factor: float
) -> None:
    program = unconstrained(seed)
    s_scaled, c_scaled = (
        TrustRegionProgram(
            {n: Terms(a * s, b * c) for n, (s, c) in program.terms.items()}, program.constraint
        )
        for a, b in ((factor, 1.0), (1.0, factor))
    )
    found = largest_multiplier(sample(program), limit)
    assert largest_multiplier(sample(s_scaled), factor * limit) == pytest.approx(found / factor)
    assert largest_multiplier(sample(c_scaled), limit) == pytest.approx(found * factor)


def test_a_promise_of_everything_is_the_mask_of_pins() -> None:
    program = unconstrained(0)
    masks = program.solve(largest_multiplier(sample(program), float("inf"))).masks
    s = {name: terms.importance for name, terms in program.terms.items()}
    best = select(s, 30)
    assert all(torch.equal(masks[name], best[name]) for name in s)


@given(region_programs(), st.floats(0.001, 1.2))
def test_the_radius_is_never_exceeded_and_the_constraint_kept(
    program: TrustRegionProgram, share: float
) -> None:
    low, high = program.solve(0.0).cost, program.solve(1e12).cost
    radius = low + share * (high - low)
    if radius <= low:
        return
    decision = within(program, radius)
    assert exact_cost(program, decision.masks) <= Fraction(radius)
    assert decision.proof.holds
    counts = {name: each.kept for name, each in count_each(decision.masks).items()}
    assert sum(counts.values()) == keep_of(program.tree)
    assert all(counts[node.name] >= node.minimum for node in program.tree.tensors)


@given(st.integers(0, 999), st.floats(0.01, 0.99))
def test_no_larger_multiplier_stays_within_the_radius(seed: int, share: float) -> None:
    program = unconstrained(seed)
    low, high = program.solve(0.0).cost, program.solve(1e12).cost
    radius = low + share * (high - low)
    decision = within(program, radius)
    # the negative control: a mask of a larger multiplier costs too much
    assert program.solve(decision.multiplier * STEP**2).cost * SAFETY > radius


def test_a_radius_that_no_mask_meets_is_refused() -> None:
    terms = {"w": Terms(torch.tensor([1.0, -1.0, 2.0]), torch.tensor([3.0, 1.0, 2.0]))}
    program = TrustRegionProgram(terms, Cardinality(1))
    with pytest.raises(
        CardinalityError, match=r"radius is 2\.9: the cheapest 2 weights to prune cost 3\.0; allow"
    ):
        within(program, 2.9)
    assert within(program, 3.1).masks["w"].tolist() == [True, False, False]


def two(importance: list[float], cost: list[float], dtype: torch.dtype) -> TrustRegionProgram:
    terms = Terms(torch.tensor(importance, dtype=dtype), torch.tensor(cost, dtype=dtype))
    return TrustRegionProgram({"w": terms}, Cardinality(1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_multiplier_beyond_the_range_of_the_terms_is_not_tried(dtype: torch.dtype) -> None:
    # c/|s| is so large that 2⁴⁸ of it is no float32
    tiny = torch.finfo(dtype).tiny
    program = two([tiny, 2 * tiny], [2.0, 1.0], dtype)
    assert within(program, 1.5).masks["w"].tolist() == [True, False]
    assert within(program, 2.5).masks["w"].tolist() == [False, True]
    assert largest_multiplier(sample(program), 10.0) <= torch.finfo(torch.float32).max


def test_without_costs_every_radius_allows_the_mask_of_pins() -> None:
    program = two([1.0, 2.0], [0.0, 0.0], torch.float32)
    assert within(program, 1.0).masks["w"].tolist() == [False, True]


def test_without_importances_it_is_optimal_brain_damage() -> None:
    program = two([0.0, 0.0], [1.0, 2.0], torch.float32)
    assert largest_multiplier(sample(program), 1.0) == within(program, 1.5).multiplier == 0


def test_of_no_weights_nothing_is_promised() -> None:
    program = TrustRegionProgram({"w": Terms(torch.zeros(0), torch.zeros(0))}, Cardinality(0))
    assert largest_multiplier(sample(program), 1.0) == 0


def test_a_radius_that_is_no_number_is_refused() -> None:
    with pytest.raises(CriterionError, match="the radius is nan: it is a number"):
        within(unconstrained(0), float("nan"))


@pytest.mark.parametrize("limit", [-1e-9, float("nan")])
def test_a_promise_that_is_none_is_refused(limit: float) -> None:
    with pytest.raises(CriterionError, match=r"a drop of .*: it is at least 0"):
        largest_multiplier(sample(unconstrained(0)), limit)


def test_a_small_model_is_its_own_sample() -> None:
    program = unconstrained(3)
    some = sample(program)
    assert some.whole
    assert some.keep == 30
    for part in (0, 1):
        assert torch.equal(some.terms[part], torch.cat([t[part] for t in program.terms.values()]))
    for value in (0.0, 0.1, 10.0):
        decision = program.solve(value)
        assert some.drop(value) == pytest.approx(decision.drop)
        assert some.cost(value) == pytest.approx(decision.cost)


class TestOfALargeModel:
    """What a sample of 2¹⁰ weights says of 2¹⁶, most of them in the second of four tensors."""

    SIZES = (8_000, 50_000, 0, 7_536)

    @pytest.fixture(autouse=True)
    def _small_sample(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pins.importance.trust_region.sample.SAMPLE", 1 << 10)

    def program(self) -> TrustRegionProgram:
        return TrustRegionProgram(drawn(0, *self.SIZES), Cardinality(1 << 15))

    def test_the_sample_is_the_same_each_time(self) -> None:
        first, second = sample(self.program()), sample(self.program())
        assert torch.equal(first.terms.importance, second.terms.importance)
        assert torch.equal(first.terms.cost, second.terms.cost)
        assert torch.equal(first.weights, second.weights)

    def test_it_stands_for_all_weights_in_proportion(self) -> None:
        some, program = sample(self.program()), self.program()
        assert not some.whole
        assert some.keep == keep_of(program.tree)
        assert float(some.weights.sum()) == pytest.approx(sum(self.SIZES))
        assert some.weights.numel() < 3 << 10
        rest = some.terms.cost[some.weights > 1]
        for name, size in zip(program.terms, self.SIZES, strict=True):
            of_tensor = torch.isin(rest, program.terms[name].cost).sum()
            assert int(of_tensor) == pytest.approx(size * (1 << 10) / sum(self.SIZES), abs=20)

    def test_the_largest_importances_are_all_in_it(self) -> None:
        some, program = sample(self.program()), self.program()
        everything = torch.cat([terms.importance for terms in program.terms.values()])
        exact = some.weights == 1
        largest_left_out = float(some.terms.importance[~exact].abs().max())
        assert int(exact.sum()) == int((everything.abs() > largest_left_out).sum()) > 0
        assert float(some.terms.importance.abs().max()) == float(everything.abs().max())

    @pytest.mark.parametrize("value", [0.01, 0.1, 1.0])
    def test_its_estimates_are_near(self, value: float) -> None:
        program = self.program()
        some, decision = sample(program), program.solve(value)
        for near, exact, part in ((some.drop, decision.drop, 0), (some.cost, decision.cost, 1)):
            size = sum(float(terms[part].abs().sum()) for terms in program.terms.values())
            assert near(value) == pytest.approx(exact, abs=0.05 * size)
        # the negative control: each weight of the sample counted once
        alone = Sample(some.terms, torch.ones_like(some.weights), some.weights.numel() // 2)
        assert alone.cost(value) < 0.1 * decision.cost

    def test_a_promise_is_nearly_kept(self) -> None:
        program = self.program()
        base = program.solve(0.0).drop
        limit = 0.3 * (program.solve(1e12).drop - base)
        found = program.solve(largest_multiplier(sample(program), limit)).drop - base
        assert found == pytest.approx(limit, rel=0.1)

    @pytest.mark.parametrize("share", [0.01, 0.3, 0.99])
    def test_the_radius_is_never_exceeded(self, share: float) -> None:
        program = self.program()
        low, high = program.solve(0.0).cost, program.solve(1e12).cost
        radius = low + share * (high - low)
        decision = within(program, radius)
        assert exact_cost(program, decision.masks) <= Fraction(radius)
