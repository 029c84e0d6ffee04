import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.harness.results import RESULTS, read
from verification.empirical import ALL, EmpiricalClaim, Ruling, Verdict
from verification.empirical.ledger import rule_changes, rule_folder
from verification.empirical.loss_decrease import RESOLUTION
from verification.empirical.results import LOSS_DECREASE, Results, results

Changes = Mapping[str, float | Sequence[float]]  # criterion → change, or changes by seed

BY_ID = {claim.id: claim for claim in ALL}
WORSE = {"magnitude": -0.02, "sensitivity": -0.01, "obd": -0.03}


def document(
    at: Mapping[float, Changes], *, seeds: int = 2, field: str = "measured", name: str = "n"
) -> Results:
    """A results file; the other field says the contrary."""
    other = {"measured": "measured_unseen", "measured_unseen": "measured"}[field]
    rows: list[dict[str, Any]] = []
    for seed in range(seeds):
        rows.append({"seed": seed, "criterion": "step alone", "fraction": 0.0})
        rows[-1].update({field: -9.0, other: -9.0})
        for fraction, cells in at.items():
            for criterion, changes in cells.items():
                change = changes if isinstance(changes, int | float) else changes[seed]
                row = {"seed": seed, "criterion": criterion, "fraction": fraction}
                rows.append({**row, field: change, other: -change})
    return results(LOSS_DECREASE, name, rows, name)


def ruled(claim: str, *found: Results) -> Ruling:
    return BY_ID[claim].decide(found)


PAPERS = [
    (f"one-shot-{name}-{place}", name, field)
    for name in ("pins", "abs-pins")
    for place, field in (("rows", "measured"), ("unseen", "measured_unseen"))
]


@pytest.mark.parametrize(("claim", "name", "field"), PAPERS)
def test_the_papers_claim_holds_where_its_loss_is_lower_and_nowhere_else(
    claim: str, name: str, field: str
) -> None:
    at = {0.001: {name: -0.5, **WORSE}, 0.01: {name: 3.0, **WORSE}, 0.2: {name: 3.0, **WORSE}}
    ruling = ruled(claim, document(at, field=field))
    assert str(ruling) == "holds in this scope: n, 0.1 % pruned"
    assert ruling.evidence == (
        f"n, 2 seeds: lower at 0.1 %; not lower at 1 % and 20 % (at 1 % {name} +3, magnitude −0.02)"
    )
    nowhere = {fraction: {**cells, name: 3.0} for fraction, cells in at.items()}
    ruling = ruled(claim, document(nowhere, field=field))
    assert (ruling.verdict, ruling.scope_found) == (Verdict.FAILS, "")
    assert "not lower at 0.1 % to 20 %" in ruling.evidence


def test_obd_is_no_rival_of_the_papers_claim() -> None:
    at = {0.1: {"pins": -0.025, **WORSE}}
    assert ruled("one-shot-pins-rows", document(at)).verdict is Verdict.HOLDS


@pytest.mark.parametrize("rival", ["magnitude", "sensitivity"])
def test_one_rival_in_one_seed_is_enough_to_refute(rival: str) -> None:
    cells = {"pins": -0.5, **WORSE}
    assert ruled("one-shot-pins-rows", document({0.1: cells})).verdict is Verdict.HOLDS
    ruling = ruled("one-shot-pins-rows", document({0.1: {**cells, rival: [-0.02, -0.51]}}))
    assert ruling.verdict is Verdict.FAILS
    assert ruling.evidence == "n, 2 seeds: on the mean, but not in each seed, at 10 %"


def test_the_mean_counts_as_well_as_the_seeds() -> None:
    # lower in each seed by less than rounding: neither side is lower
    cells = {"pins": -0.02 - RESOLUTION / 2, "magnitude": -0.02, "sensitivity": -0.01}
    ruling = ruled("one-shot-pins-rows", document({0.1: cells}))
    assert ruling.verdict is Verdict.FAILS
    assert "at 10 % pins and magnitude alike, −0.02" in ruling.evidence


@pytest.mark.parametrize("destroyed", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_the_highest(destroyed: float) -> None:
    at: dict[float, Changes] = {0.1: {"pins": destroyed, **WORSE}}
    assert ruled("one-shot-pins-rows", document(at)).verdict is Verdict.FAILS
    at = {0.1: {"pins": -0.5, **WORSE, "magnitude": destroyed}}
    ruling = ruled("one-shot-pins-rows", document(at))
    assert ruling.verdict is Verdict.HOLDS
    at = {0.1: {"pins": destroyed, **WORSE, "magnitude": destroyed}}
    assert ruled("one-shot-pins-rows", document(at)).verdict is Verdict.FAILS


def test_seeds_without_all_three_are_not_compared() -> None:
    whole = document({0.1: {"pins": -0.5, **WORSE}}, seeds=2)
    part = [r for r in whole.rows if (r["criterion"], r["seed"]) != ("magnitude", 1)]
    ruling = ruled("one-shot-pins-rows", results(LOSS_DECREASE, "n", part, "n"))
    assert ruling.evidence == "n, 1 seed: lower at 10 %"
    none = [row for row in whole.rows if row["criterion"] != "magnitude"]
    ruling = ruled("one-shot-pins-rows", results(LOSS_DECREASE, "n", none, "n"))
    assert ruling.verdict is Verdict.UNTESTED
    assert "run `python -m benchmarks.loss_decrease`" in ruling.evidence


def test_each_file_has_its_own_scope() -> None:
    good = document({0.1: {"pins": -0.5, **WORSE}}, name="good")
    bad = document({0.1: {"pins": 0.5, **WORSE}, 0.2: {"pins": -1.0, **WORSE}}, name="bad")
    ruling = ruled("one-shot-pins-rows", good, bad)
    assert ruling.scope_found == "good, 10 % pruned; bad, 20 % pruned"
    assert "bad, 2 seeds: lower at 20 %; not lower at 10 %" in ruling.evidence


OURS = [
    ("one-shot-trust-region-rows", "measured"),
    ("one-shot-trust-region-unseen", "measured_unseen"),
]


@pytest.mark.parametrize(("claim", "field"), OURS)
@pytest.mark.parametrize("rival", [*WORSE, "pins"])
def test_our_claim_falls_with_one_rival_at_one_fraction(claim: str, field: str, rival: str) -> None:
    cells: Changes = {"trust-region": -0.1, "pins": 2.0, **WORSE}
    at = {0.001: {**cells, "pins": -5.0}, 0.01: cells, 0.1: cells, 0.5: cells}  # 0.1 % is outside
    ruling = ruled(claim, document(at, field=field))
    assert str(ruling) == "holds in this scope: n, 1 % to 50 % pruned"
    ruling = ruled(claim, document({**at, 0.5: {**cells, rival: [0.0, -0.11]}}, field=field))
    assert ruling.verdict is Verdict.FAILS
    assert ruling.scope_found == ""
    assert "lower at 1 % and 10 %; on the mean, but not in each seed, at 50 %" in ruling.evidence


@pytest.mark.parametrize(("claim", "field"), OURS)
def test_our_claim_is_not_tested_without_our_criterion_or_its_fractions(
    claim: str, field: str
) -> None:
    assert ruled(claim, document({0.1: WORSE}, field=field)).verdict is Verdict.UNTESTED
    tiny = {0.001: {"trust-region": -1.0, **WORSE}}
    assert ruled(claim, document(tiny, field=field)).verdict is Verdict.UNTESTED


CHANGES = st.floats(-5, 5).map(lambda x: round(x, 2))
NAMES = ("pins", "magnitude", "sensitivity", "trust-region", "obd")


@given(
    st.dictionaries(
        st.sampled_from([0.001, 0.01, 0.1, 0.5]),
        st.fixed_dictionaries({n: st.lists(CHANGES, min_size=3, max_size=3) for n in NAMES}),
        min_size=1,
    )
)
def test_rulings_are_those_of_the_definition(at: dict[float, dict[str, list[float]]]) -> None:
    found = document(at, seeds=3)
    rivals = {"magnitude", "sensitivity"}
    lower = {f for f, cells in at.items() if by_definition(cells, "pins", rivals)}
    ruling = ruled("one-shot-pins-rows", found)
    assert ruling.verdict is (Verdict.HOLDS if lower else Verdict.FAILS)
    assert {p["fraction"] for p in ruling.numbers["places"] if p["lower"]} == lower
    high = {f: cells for f, cells in at.items() if f >= 0.01}
    ruling = ruled("one-shot-trust-region-rows", found)
    if not high:
        assert ruling.verdict is Verdict.UNTESTED
    else:
        others = set(NAMES) - {"trust-region"}
        holds = all(by_definition(cells, "trust-region", others) for cells in high.values())
        assert ruling.verdict is (Verdict.HOLDS if holds else Verdict.FAILS)


def by_definition(cells: Mapping[str, Sequence[float]], name: str, rivals: set[str]) -> bool:
    """Lower in each seed; then the mean is lower too."""
    return all(
        mine - theirs < -RESOLUTION
        for rival in rivals
        for mine, theirs in zip(cells[name], cells[rival], strict=True)
    )


@pytest.mark.parametrize(
    "claim", [claim for claim in ALL if claim.reads is LOSS_DECREASE], ids=lambda claim: claim.id
)
def test_the_committed_results_say_what_they_should(claim: EmpiricalClaim) -> None:
    field = "measured_unseen" if claim.id.endswith("-unseen") else "measured"
    name = claim.id.removeprefix("one-shot-").rpartition("-")[0]
    expected: dict[tuple[str, float], bool] = {}
    for file in RESULTS.glob("loss_decrease-*.json"):
        rows = [row for row in read(file)["rows"] if row["criterion"] != "step alone"]
        criteria = {row["criterion"] for row in rows}
        rivals = {"magnitude", "sensitivity"} if "pins" in name else criteria - {name}
        for fraction in {row["fraction"] for row in rows} if name in criteria else ():
            cells: dict[str, list[float]] = {}
            for row in sorted(rows, key=lambda row: row["seed"]):
                if row["fraction"] == fraction:
                    cells.setdefault(row["criterion"], []).append(row[field])
            place = (file.stem.removeprefix("loss_decrease-"), fraction)
            if "pins" in name or 0.01 <= fraction <= 0.5:
                expected[place] = by_definition(cells, name, rivals)
    (entry,) = [e for e in rule_folder(RESULTS) if e.claim is claim]
    places = entry.ruling.numbers.get("places", [])
    assert {(p["file"], p["fraction"]): p["lower"] for p in places} == expected
    if not expected:
        verdict = Verdict.UNTESTED
    else:
        holds = any(expected.values()) if "pins" in name else all(expected.values())
        verdict = Verdict.HOLDS if holds else Verdict.FAILS
    assert entry.ruling.verdict is verdict


def test_changes_measured_just_now_are_ruled_on_with_one_seed() -> None:
    rows = document({0.1: {"pins": -0.5, **WORSE}}, seeds=1).rows
    changes = [{key: value for key, value in row.items() if key != "seed"} for row in rows]
    entries = rule_changes("demo", changes, seed=7)
    assert [entry.claim for entry in entries] == list(ALL)
    by = {entry.claim.id: entry.ruling for entry in entries}
    assert str(by["one-shot-pins-rows"]) == "holds in this scope: demo, 10 % pruned"
    assert by["one-shot-pins-rows"].evidence == "demo, 1 seed: lower at 10 %"
    assert by["gradual-pins"].verdict is Verdict.UNTESTED
    assert by["gradual-pins"].evidence == (
        "no end_accuracy.json: run `python -m benchmarks.end_accuracy`"
    )
