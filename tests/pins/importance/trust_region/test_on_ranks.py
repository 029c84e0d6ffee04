"""A trust region whose tensors lie in parts on several ranks is that of one device."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pins.distributed.process_group import SINGLE_PROCESS, Group
from pins.importance.trust_region.multiplier import largest_multiplier, within
from pins.importance.trust_region.program import Terms, TrustRegionProgram
from pins.importance.trust_region.sample import sample
from pins.selection.constraints import Cardinality, Constraint, LayerBounds
from tests.pins.importance.trust_region.test_multiplier import drawn
from verification.testing.threaded_group import shards, together

CUTS = st.lists(st.floats(0, 1), max_size=3)


def parts_of(program: TrustRegionProgram, cuts: list[float]) -> list[TrustRegionProgram]:
    """The program as each rank holds it; some ranks may hold nothing."""
    linear, curved = (
        shards({name: terms[kind] for name, terms in program.terms.items()}, cuts)
        for kind in range(2)
    )
    return [
        replace(program, terms={name: Terms(s[name], c[name]) for name in s})
        for s, c in zip(linear, curved, strict=True)
    ]


@st.composite
def programs(draw: st.DrawFn) -> TrustRegionProgram:
    """Two tensors, with and without minimums."""
    terms = drawn(draw(st.integers(0, 999)), *(draw(st.integers(1, 300)) for _ in range(2)))
    total = sum(each.cost.numel() for each in terms.values())
    keep = draw(st.integers(1, total))
    constraint: Constraint = Cardinality(keep)
    if draw(st.booleans()):
        constraint = Cardinality(keep) & LayerBounds({next(iter(terms)): min(keep, 1)})
    return TrustRegionProgram(terms, constraint)


def small_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pins.importance.trust_region.sample.SAMPLE", 50)


@given(program=programs(), cuts=CUTS, small=st.booleans())
def test_every_number_of_ranks_has_the_same_sample(
    program: TrustRegionProgram, cuts: list[float], small: bool
) -> None:
    """Bit for bit, in the same order: where it is the whole model, and where it is a share."""
    parts = parts_of(program, cuts)
    with pytest.MonkeyPatch.context() as patch:
        if small:
            small_samples(patch)
        expected = sample(program)
        found = together(len(parts), lambda rank: sample(replace(parts[rank.rank], group=rank)))
    for each in found:
        assert each.keep == expected.keep
        assert torch.equal(each.weights, expected.weights)
        assert torch.equal(each.terms.importance, expected.terms.importance)
        assert torch.equal(each.terms.cost, expected.terms.cost)


@given(program=programs(), cuts=CUTS, share=st.floats(0, 1))
def test_every_number_of_ranks_comes_to_the_same_decision(
    program: TrustRegionProgram, cuts: list[float], share: float
) -> None:
    """The multiplier of a promise and that of a radius, the masks, and what they promise."""
    parts = parts_of(program, cuts)
    radius = program.cost(program.solve(1.0).masks) * (1.01 + share)

    def decided(program: TrustRegionProgram) -> tuple[float, float, dict[str, torch.Tensor]]:
        found = largest_multiplier(sample(program), share)
        decision = within(program, radius)
        assert decision.cost <= radius * 1.001
        return found, decision.drop, dict(decision.masks)

    limit, drop, masks = decided(program)
    for number, (own_limit, own_drop, own) in enumerate(
        together(len(parts), lambda rank: decided(replace(parts[rank.rank], group=rank)))
    ):
        assert own_limit == limit
        assert own_drop == pytest.approx(drop, rel=1e-9, abs=1e-9)
        for name, mask in own.items():
            assert torch.equal(mask, shards(masks, cuts)[number][name])


def test_a_rank_that_asks_nobody_has_another_sample() -> None:
    """The control: its own part alone."""
    program = TrustRegionProgram(drawn(0, 40, 30), Cardinality(20))
    part = parts_of(program, [0.5])[0]
    group: Group = SINGLE_PROCESS
    assert len(sample(replace(part, group=group)).weights) < len(sample(program).weights)
