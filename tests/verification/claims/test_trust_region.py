"""Parts of the claims about trust regions; `test_claims` runs the claims."""

from fractions import Fraction

import pytest
import torch

from pins.importance.trust_region.program import Terms, TrustRegionProgram
from pins.selection.constraints import Cardinality
from solvers import Status
from verification.claims.claim import Setting
from verification.claims.solver_comparison import TITLE
from verification.claims.trust_region import (
    CLAIMS,
    LARGEST,
    OCTAVES,
    Region,
    pruned_sums,
    whole,
)
from verification.claims.trust_region_solvers import (
    against_solver,
    brain_damage,
    one_multiplier,
    regions,
    solver_point,
    told,
)
from verification.experiments.model_snapshot import ModelSnapshot
from verification.testing.synthetic_scores import FAMILIES

JUST_ABOVE = 1 + 2.0**-34  # a cost that a solver takes for 1

backends = pytest.mark.parametrize("backend", TITLE)


def region(importance: list[float], cost: list[float], radius: float) -> Region:
    """A program that prunes one weight, within a radius."""
    terms = Terms(*(torch.tensor(each, dtype=torch.float64) for each in (importance, cost)))
    program = TrustRegionProgram({"w": terms}, Cardinality(len(cost) - 1))
    return Region("by hand", program, radius)


@backends
def test_a_point_beyond_the_radius_is_replaced_by_one_for_a_smaller_radius(backend: str) -> None:
    # pruning the first is best, and costs a little too much; the second is within the radius
    hand = region([-3.0, -2.0, -1.0], [JUST_ABOVE, 0.9, 0.5], 1.0)
    point, status, tightened = solver_point(backend, hand)
    assert tightened
    assert status is Status.OPTIMAL
    assert point is not None
    assert point.tolist() == [False, True, False]
    # the negative control: with a slightly larger radius nothing has to be reduced
    point, _, tightened = solver_point(backend, region([-3, -2, -1], [JUST_ABOVE, 0.9, 0.5], 1.1))
    assert not tightened
    assert point is not None
    assert point.tolist() == [True, False, False]


@backends
def test_without_a_point_within_the_radius_the_result_is_none(backend: str) -> None:
    beyond = region([-3, -2], [JUST_ABOVE, JUST_ABOVE], 1)
    assert solver_point(backend, beyond) == (None, Status.INFEASIBLE, False)


def test_the_summary_counts_every_failure_of_a_solver() -> None:
    row = {"status": "optimal", "tightened": False, "gap": 0.5, "better": 0.25, "of_gap": 0.5}
    rows = [
        row,
        {**row, "better": -0.125, "of_gap": -0.25, "tightened": True},
        {**row, "better": None, "of_gap": None, "status": "failed"},
    ]
    assert told("cbc", rows) == (
        "3 programs, gap ≤ 5.0e-01 of Σ|s|; CBC better in 1, by ≤ 50% of the gap, and worse in 1, "
        "by ≤ 1.2e-01 of Σ|s|; 1 solved again because its point exceeded the radius; 1 not claimed "
        "optimal; 1 without a point within the radius"
    )
    assert "solved again" not in told("cbc", rows[:1])


def test_a_mask_beyond_the_radius_and_a_solver_without_a_point_are_counterexamples(
    monkeypatch: pytest.MonkeyPatch, small_real: ModelSnapshot
) -> None:
    setting = Setting(real=small_real)
    first = setting.shared(regions)[0]
    beyond = {name: torch.zeros_like(mask) for name, mask in first.decision.masks.items()}
    found = against_solver(setting, "highs", lambda _: (beyond, Fraction(10**9)))
    assert not found.holds
    assert "our own mask exceeds" in found.evidence
    for status, tried in ((Status.INTERRUPTED, True), (Status.FAILED, False)):
        monkeypatch.setattr(
            "verification.claims.trust_region_solvers.solver_point",
            lambda *_, status=status: (None, status, False),
        )
        found = against_solver(setting, "highs", one_multiplier)
        assert not found.holds
        assert found.tried is tried
        assert ("no point within any radius" if tried else "gave no answer") in found.evidence


def test_the_rival_of_the_controls_is_within_the_radius(small_real: ModelSnapshot) -> None:
    for each in Setting(real=small_real).shared(regions):
        program = each.formulation().program
        masks, gap = brain_damage(each)
        assert gap == 0
        assert program.feasible(each.formulation().apply(masks))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_scores_of_the_grid_are_exact(family: str) -> None:
    rng = Setting().rng()
    terms = Terms(*(whole(FAMILIES[family](rng, 50)) for _ in range(2)))
    for octave in (OCTAVES[0], -1, 0, OCTAVES[-1]):
        exact = [
            Fraction(c) + Fraction(2) ** octave * Fraction(s)
            for s, c in zip(*(part.tolist() for part in terms), strict=True)
        ]
        assert [Fraction(r) for r in terms.scores(2.0**octave).tolist()] == exact
    assert LARGEST < 2**12


def test_the_sums_over_pruned_weights_are_exact() -> None:
    named = {"w": Terms(torch.tensor([1e16, 1.0, -1e16]), torch.tensor([0.1, 0.2, 0.3]))}
    pruned = {"w": torch.zeros(3, dtype=torch.bool)}
    drop, cost = pruned_sums(named, pruned)
    s, c = ([Fraction(x) for x in part.tolist()] for part in named["w"])
    assert (drop, cost) == (-sum(s), sum(c))
    assert drop == -1


def test_each_id_begins_with_region() -> None:
    assert all(claim.id.startswith("region-") for claim in CLAIMS)
