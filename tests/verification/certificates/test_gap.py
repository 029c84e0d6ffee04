from fractions import Fraction
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pins.errors import CriterionError, ImportanceError, MaskError
from pins.importance.trust_region.program import Terms, TrustRegionProgram
from pins.selection.constraints import Cardinality, Constraint, MinimumPerTensor, PerTensor
from pins.selection.optimality import ConstrainedOptimality
from verification.certificates import gap as region
from verification.certificates.gap import TrustRegionGap, trust_region_gap
from verification.strategies import masks_for

Named = dict[str, Terms]

POSITIVE = st.floats(1e-30, 1e30) | st.sampled_from([0.1, 1.0, 3.0])


@st.composite
def terms(draw: st.DrawFn, *, max_tensors: int = 3, max_size: int = 3) -> Named:
    """s and c of each dtype, tied, neighbouring, subnormal and large; shrinks to one zero."""
    number = draw(st.integers(1, max_tensors))
    found = {}
    for i in range(number):
        dtype = draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
        size = draw(st.integers(int(i == 0), max_size))
        values = st.floats(0, 2.0**99) | st.sampled_from(
            [0.0, 1e-40, 0.1, 1.0, 1 + 2.0**-20, 1 + 2.0**-52]
        )
        lists = st.lists(values, min_size=size, max_size=size)
        signs = draw(st.lists(st.sampled_from([-1.0, 1.0]), min_size=size, max_size=size))
        importance = torch.tensor(draw(lists), dtype=dtype) * torch.tensor(signs, dtype=dtype)
        found[f"layer.{9 - i}"] = Terms(importance, torch.tensor(draw(lists), dtype=dtype))
    return found


def flat(tensors: list[Tensor]) -> list[Fraction]:
    return [Fraction(value) for tensor in tensors for value in tensor.reshape(-1).tolist()]


def total(values: list[Fraction], chosen: list[bool]) -> Fraction:
    return sum((v for v, c in zip(values, chosen, strict=True) if c), Fraction(0))


@given(terms(), POSITIVE, st.floats(-10, 10) | st.floats(), st.data())
def test_violation_slack_and_gap_are_those_of_the_definition(
    named: Named, multiplier: float, threshold: float, data: st.DataObject
) -> None:
    masks = data.draw(masks_for({name: each.cost for name, each in named.items()}))
    radius = data.draw(st.none() | st.floats(0, 1e9))
    s, c = (flat([each[part] for each in named.values()]) for part in (0, 1))
    kept = [bool(bit) for mask in masks.values() for bit in mask.tolist()]
    r = [cost + Fraction(multiplier) * each for each, cost in zip(s, c, strict=True)]
    if data.draw(st.booleans()) or not abs(threshold) < float("inf"):
        threshold = float(data.draw(st.sampled_from(r)))  # rounded, so that r nearly ties with it
    level = Fraction(threshold)
    wrong = [level - each if bit else each - level for each, bit in zip(r, kept, strict=True)]
    violation = total(wrong, [each > 0 for each in wrong])
    spent = total(c, [not bit for bit in kept])
    slack = Fraction(0) if radius is None else Fraction(radius) - spent
    found = trust_region_gap(named, masks, multiplier, threshold, radius)
    assert found == TrustRegionGap(violation, slack, (violation + slack) / Fraction(multiplier))


@given(terms(), POSITIVE, st.data())
def test_no_mask_within_the_radius_is_better_by_more_than_the_gap(
    named: Named, multiplier: float, data: st.DataObject
) -> None:
    s, c = (flat([each[part] for each in named.values()]) for part in (0, 1))
    owner = [name for name, each in named.items() for _ in range(each.cost.numel())]
    masks = data.draw(masks_for({name: each.cost for name, each in named.items()}))
    kept = [bool(bit) for mask in masks.values() for bit in mask.tolist()]
    levels = st.sampled_from([-1.0, 0.0, 0.5, multiplier])
    thresholds = {name: data.draw(levels) for name in named}
    one_for_all = data.draw(st.booleans())
    radius = data.draw(st.sampled_from([0.0, 0.5, 1.0, 3.0, 100.0]))
    found = trust_region_gap(
        named, masks, multiplier, thresholds["layer.9"] if one_for_all else thresholds, radius
    )
    for ones in combinations(range(len(s)), sum(kept)):
        other = [i in ones for i in range(len(s))]
        fewer = {
            name
            for name in named
            if thresholds[name] < max(thresholds.values())
            and sum(o == name for o, bit in zip(owner, other, strict=True) if bit)
            < sum(o == name for o, bit in zip(owner, kept, strict=True) if bit)
        }
        if total(c, [not bit for bit in other]) <= radius and (one_for_all or not fewer):
            assert total(s, other) <= total(s, kept) + found.gap


def worked() -> tuple[Named, dict[str, Tensor]]:
    named = {"w": Terms(torch.tensor([4.0, 1.0, -2.0]), torch.tensor([0.0, 3.0, 1.0]))}
    return named, {"w": torch.tensor([True, False, True])}


def test_by_hand() -> None:
    named, masks = worked()
    # r = c + s/2 = 2, 3.5, 0: with λ = 1 the second is above it and pruned, the third is kept
    assert trust_region_gap(named, masks, 0.5, 1.0, 5.0) == TrustRegionGap(
        Fraction(7, 2), Fraction(2), Fraction(11)
    )
    assert trust_region_gap(named, masks, 0.5, 1.0).slack == 0
    assert trust_region_gap(named, masks, 0.5, 1.0, 2.0).slack == -1
    assert trust_region_gap(named, masks, 0.5, 1.0, Fraction(1, 3)).slack == Fraction(-8, 3)


def test_what_rounding_to_float32_misplaces_is_counted() -> None:
    # c + μs = 1 + 2⁻³⁰ and 1: equal as float32, so that the first index is kept
    named = {"w": Terms(torch.tensor([0.0, 2.0**-30]), torch.ones(2))}
    decision = TrustRegionProgram(named, Cardinality(1)).solve(1.0)
    assert decision.masks["w"].tolist() == [True, False]
    found = trust_region_gap(named, decision.masks, 1.0, decision.proof.dual_multiplier)
    assert found.violation == Fraction(1, 2**30)
    other = {"w": torch.tensor([False, True])}
    assert trust_region_gap(named, other, 1.0, 1.0).violation == 0


def test_what_rounding_to_float64_would_misplace_is_not() -> None:
    # r = −2⁻⁵³ exactly, and 0 in float64, on the other side of λ = −2⁻⁵⁴
    multiplier, s, c = 1 + 2.0**-26, -1 - 2.0**-27, 1 + 2.0**-26 + 2.0**-27
    assert multiplier * s + c == 0
    named = {"w": Terms(*(torch.tensor([x], dtype=torch.float64) for x in (s, c)))}
    kept = {"w": torch.ones(1, dtype=torch.bool)}
    assert trust_region_gap(named, kept, multiplier, -(2.0**-54)).violation == Fraction(1, 2**54)


@pytest.mark.parametrize(
    "constraint",
    [
        Cardinality(2),
        MinimumPerTensor(3, {"a": 2}),
        PerTensor({"a": 2, "b": 1}),
    ],
)
def test_the_thresholds_of_a_decision_leave_no_gap_at_its_own_radius(
    constraint: Constraint,
) -> None:
    named = {
        "a": Terms(torch.tensor([0.25, -1.0, 0.5]), torch.tensor([0.0, 0.5, 0.125])),
        "b": Terms(torch.tensor([2.0, 4.0, 1.0]), torch.tensor([1.0, 3.0, 2.0])),
    }
    decision = TrustRegionProgram(named, constraint).solve(0.5)
    proof = decision.proof
    thresholds = (
        proof.thresholds if isinstance(proof, ConstrainedOptimality) else proof.dual_multiplier
    )
    assert trust_region_gap(named, decision.masks, 0.5, thresholds) == TrustRegionGap(
        Fraction(0), Fraction(0), Fraction(0)
    )
    # the negative control: a kept and a pruned weight of one tensor exchanged
    wrong = {name: mask.clone() for name, mask in decision.masks.items()}
    wrong["b"] = wrong["b"].roll(1)
    assert trust_region_gap(named, wrong, 0.5, thresholds).violation > 0


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    named = {
        "w": Terms(torch.randn(7, 5, generator=generator), torch.rand(7, 5, generator=generator))
    }
    masks = {"w": torch.rand(7, 5, generator=generator) < 0.5}
    whole = trust_region_gap(named, masks, 0.3, 0.4, 2.0)
    monkeypatch.setattr(region, "BLOCK", 4)
    assert trust_region_gap(named, masks, 0.3, 0.4, 2.0) == whole
    assert trust_region_gap({"w": named["w"]}, masks, 0.3, 0.4, 2.5) != whole


@pytest.mark.parametrize("multiplier", [0.0, -1.0, float("inf"), float("nan")])
def test_a_multiplier_that_gives_no_gap_is_refused(multiplier: float) -> None:
    with pytest.raises(CriterionError, match=r"multiplier is .*: a gap needs one > 0, and finite"):
        trust_region_gap(*worked(), multiplier, 1.0)


def test_what_is_not_finite_is_refused() -> None:
    named, masks = worked()
    with pytest.raises(CriterionError, match="the threshold of 'w' is nan"):
        trust_region_gap(named, masks, 1.0, float("nan"))
    with pytest.raises(CriterionError, match="the radius is inf: pass a finite one, or None"):
        trust_region_gap(named, masks, 1.0, 1.0, float("inf"))
    bad = named["w"].importance.clone()
    bad[0] = float("nan")
    with pytest.raises(ImportanceError, match="'w' has a term that is not finite"):
        trust_region_gap({"w": Terms(bad, named["w"].cost)}, masks, 1.0, 1.0)


def test_tensors_that_do_not_fit_are_refused() -> None:
    named, masks = worked()
    with pytest.raises(MaskError, match="'b' has a mask but no tensor"):
        trust_region_gap(named, {**masks, "b": torch.ones(1).bool()}, 1.0, 1.0)
    with pytest.raises(MaskError, match="'w' has no mask"):
        trust_region_gap(named, {}, 1.0, 1.0)
    with pytest.raises(CriterionError, match="no threshold for 'w': give one for each tensor"):
        trust_region_gap(named, masks, 1.0, {"b": 1.0})
    with pytest.raises(ImportanceError, match=r"s of shape \(1, 3\) and c of shape \(3,\)"):
        trust_region_gap({"w": Terms(torch.ones(1, 3), named["w"].cost)}, masks, 1.0, 1.0)
