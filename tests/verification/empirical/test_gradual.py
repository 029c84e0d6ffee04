import math
import random
import statistics
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student
from scipy.stats import ttest_1samp

from benchmarks.harness.results import RESULTS, read
from benchmarks.overhead import training_steps
from benchmarks.overhead.goals import GOALS
from verification.empirical import ALL, Ruling, Verdict
from verification.empirical import overhead as ours
from verification.empirical.end_accuracy import HIGH, PAPERS_RIVALS
from verification.empirical.ledger import rule_folder
from verification.empirical.results import END_ACCURACY, OVERHEAD, Results, results
from verification.experiments.student_interval import Sign, interval

BY_ID = {claim.id: claim for claim in ALL}


def run(method: str, score: float, **given: Any) -> dict[str, Any]:
    row = {"task": "sst2", "seed": 0, "method": method, "sparsity": 0.9}
    row |= {"self_regularization": False, "metric": "accuracy", "score": score, "test_rows": 500}
    return {**row, **given}


def ruled(claim: str, rows: Sequence[dict[str, Any]]) -> Ruling:
    return BY_ID[claim].decide([results(END_ACCURACY, "end_accuracy", rows, "rows")])


def grid(**scores: float) -> list[dict[str, Any]]:
    """Every method at every seed, on two tasks, with scores that scatter by a hundredth."""
    scatter = random.Random(0)
    return [
        run(method.replace("_", "-"), score + scatter.uniform(-0.01, 0.01), task=task, seed=seed)
        for task in ("sst2", "rte")
        for seed in range(6)
        for method, score in scores.items()
    ]


@given(st.lists(st.floats(-0.3, 0.3), min_size=2, max_size=9), st.integers(1, 20))
def test_the_interval_is_that_of_student(values: list[float], intervals: int) -> None:
    found = interval(values, confidence=1 - 0.05 / intervals)
    assert found.mean == pytest.approx(statistics.fmean(values))
    assert found.half_width is not None
    spread = statistics.stdev(values)
    if spread > 1e-6:
        level = 1 - 0.05 / intervals
        low, high = ttest_1samp(values, 0).confidence_interval(level)
        assert found.mean - found.half_width == pytest.approx(low, abs=1e-9)
        assert found.mean + found.half_width == pytest.approx(high, abs=1e-9)
        assert found.sign is (Sign.ABOVE if low > 0 else Sign.BELOW if high < 0 else Sign.OPEN)


def test_more_intervals_are_wider_and_a_test_row_bounds_their_width() -> None:
    values = [0.002, 0.002, 0.002]
    alone = interval(values)
    assert alone.sign is Sign.ABOVE  # equal by chance, as two steps of 1/500 may well be
    found = [interval(values, confidence=1 - 0.05 / c, resolution=0.002) for c in (1, 9)]
    assert [each.sign for each in found] == [Sign.OPEN, Sign.OPEN]
    widths = [each.half_width or 0.0 for each in found]
    assert widths[0] == pytest.approx(student.ppf(0.975, 2) * 0.002 / math.sqrt(3))
    assert widths[1] > 2 * widths[0]


def test_one_pair_decides_nothing() -> None:
    assert interval([5.0]).sign is Sign.OPEN
    rows = [run(name, 0.5) for name in PAPERS_RIVALS]
    ruling = ruled("gradual-abs-pins", [*rows, run("abs-pins", 0.9)])
    assert ruling.verdict is Verdict.UNTESTED
    assert ruling.evidence.startswith("too few runs to tell: 90 % pruned: over magnitude +0.4 (1 ")


@pytest.mark.parametrize("method", ["pins", "abs-pins"])
def test_the_papers_claim_holds_above_all_its_rivals(method: str) -> None:
    others = {"magnitude": 0.5, "sensitivity": 0.6, "platon": 0.7, "obd": 0.95}
    rows = grid(**{method.replace("-", "_"): 0.8}, **others)
    ruling = ruled(f"gradual-{method}", rows)
    assert str(ruling) == "holds in this scope: 90 %"
    assert "over platon +0.098 ± " in ruling.evidence
    assert "(12 pairs)" in ruling.evidence


@pytest.mark.parametrize("rival", PAPERS_RIVALS)
def test_one_better_rival_refutes_it_and_one_alike_leaves_it_open(rival: str) -> None:
    scores = {"abs_pins": 0.8, "magnitude": 0.5, "sensitivity": 0.6, "platon": 0.7}
    assert ruled("gradual-abs-pins", grid(**scores)).verdict is Verdict.HOLDS
    assert ruled("gradual-abs-pins", grid(**{**scores, rival: 0.9})).verdict is Verdict.FAILS
    ruling = ruled("gradual-abs-pins", grid(**{**scores, rival: 0.8}))
    assert ruling.verdict is Verdict.UNTESTED
    assert ruling.evidence.count("undecided") == 1
    del scores[rival]
    ruling = ruled("gradual-abs-pins", grid(**scores))
    assert ruling.verdict is Verdict.UNTESTED
    assert f"{rival} was not run" in ruling.evidence


def test_only_runs_that_differ_in_nothing_else_are_compared() -> None:
    rivals = [run(name, 0.5, seed=seed) for name in PAPERS_RIVALS for seed in range(3)]
    for other in (
        {"seed": 7},
        {"task": "rte"},
        {"sparsity": 0.97},
        {"self_regularization": True},
    ):
        ruling = ruled("gradual-abs-pins", [*rivals, run("abs-pins", 0.9, **other)])
        assert ruling.verdict is Verdict.UNTESTED
        assert "that differ in nothing else: run `python -m benchmarks.end_acc" in ruling.evidence


def test_low_sparsities_tell_nothing_of_high_ones() -> None:
    rows = [{**row, "sparsity": 0.5} for row in grid(abs_pins=0.9, platon=0.5)]
    assert ruled("gradual-abs-pins", rows).evidence.startswith("no runs of abs-pins and one of ")


def test_what_is_left_out_is_said() -> None:
    scores = {"abs_pins": 0.8, "magnitude": 0.5, "sensitivity": 0.6, "platon": 0.7}
    broken = {k: v for k, v in run("platon", 0.0, seed=9).items() if k not in ("score", "metric")}
    rows = [
        *grid(**scores),
        {**broken, "error": "RuntimeError: no"},
        run("magnitude", math.nan, seed=9),
        run("abs-pins", 35.0, task="wikitext", metric="perplexity"),
        run("platon", 40.0, task="wikitext", metric="perplexity"),
    ]
    ruling = ruled("gradual-abs-pins", rows)
    assert ruling.verdict is Verdict.HOLDS
    assert ruling.evidence.endswith(
        ". Left out: 2 runs that failed; wikitext, whose score is no ratio"
    )


def test_trust_regions_mean_has_to_be_no_lower_at_every_place() -> None:
    rows = [
        run(method, score, seed=seed, sparsity=sparsity, self_regularization=regularized)
        for method, score in (("trust-region", 0.8), ("obd", 0.8), ("pins", 0.5))
        for seed in range(2)
        for sparsity in HIGH
        for regularized in (False, True)
    ]
    ruling = ruled("gradual-trust-region", rows)
    assert ruling.verdict is Verdict.HOLDS
    assert ruling.scope_found.startswith("sst2 80 %, sst2 80 % with self-regularisation, sst2 90 %")
    assert "least margin at sst2 80 % (0 to obd); the sampling error of one" in ruling.evidence
    assert "up to 0.018" in ruling.evidence  # √(0.8 · 0.2 / 500)
    for at, row in enumerate(rows):
        if row["method"] != "trust-region":
            continue
        worse = [*rows[:at], {**row, "score": 0.798}, *rows[at + 1 :]]
        ruling = ruled("gradual-trust-region", worse)
        assert (ruling.verdict, ruling.scope_found) == (Verdict.FAILS, "")
        assert "no lower at 5 of 6 places; lower at sst2" in ruling.evidence
        assert "(−0.001 to obd)" in ruling.evidence


def test_trust_region_is_compared_on_the_seeds_that_both_were_run_with() -> None:
    rows = [run("trust-region", 0.7, seed=0), run("obd", 0.7, seed=0), run("obd", 0.9, seed=1)]
    ruling = ruled("gradual-trust-region", rows)
    assert ruling.verdict is Verdict.HOLDS
    assert "not run at 80 % and 97 %" in ruling.evidence
    ruling = ruled("gradual-trust-region", [*rows, run("trust-region", 0.89, seed=1)])
    assert ruling.verdict is Verdict.FAILS
    assert ruled("gradual-trust-region", rows[1:]).verdict is Verdict.UNTESTED
    assert ruled("gradual-trust-region", rows[:1]).verdict is Verdict.UNTESTED


def regularized(gain: float, **given: Any) -> list[dict[str, Any]]:
    scatter = random.Random(1)
    methods = ("magnitude", "platon", "obd", "abs-pins")
    return [
        run(method, 0.6 + on * (gain + scatter.uniform(-0.01, 0.01)), seed=seed, **given)
        | {"self_regularization": on}
        for method in methods
        for seed in range(3)
        for on in (False, True)
    ]


def test_self_regularisation_is_judged_by_task_and_sparsity() -> None:
    claim = "self-regularisation-score"
    better, worse = regularized(0.05), regularized(-0.05, sparsity=0.97)
    open_ = regularized(0.0, task="rte")
    ruling = ruled(claim, [*better, *worse, *open_])
    assert str(ruling) == "holds in this scope: sst2 90 %"
    assert "rte 90 % pruned: " in ruling.evidence
    assert "(12 pairs, undecided); sst2 90 % pruned: +0.049 ± " in ruling.evidence
    assert ruled(claim, [*worse, *open_]).verdict is Verdict.FAILS
    assert ruled(claim, open_).verdict is Verdict.UNTESTED
    without = [row for row in better if not row["self_regularization"]]
    assert ruled(claim, without).evidence.startswith("no runs with self-regularisation and without")


def test_many_places_need_more_than_one() -> None:
    rows = [
        run("obd", 0.6 + on * gain, seed=seed) | {"self_regularization": on}
        for seed, gain in enumerate((0.01, 0.02, 0.03, 0.02))
        for on in (False, True)
    ]
    claim = "self-regularisation-score"
    assert ruled(claim, rows).verdict is Verdict.HOLDS
    places = [{**row, "sparsity": sparsity} for sparsity in (0.5, 0.6, 0.7, 0.8) for row in rows]
    flat = [{**row, "score": 0.5} for row in places]
    assert ruled(claim, [*rows, *flat]).verdict is Verdict.UNTESTED


Gains = list[tuple[float, int]]  # A − B, and the test rows that both had


def test_the_committed_runs_say_what_they_should() -> None:
    rows = [row for row in read(RESULTS / "end_accuracy.json")["rows"] if "score" in row]
    assert all(0 <= row["score"] <= 1 for row in rows)
    rulings = {entry.claim.id: entry.ruling for entry in rule_folder(RESULTS)}

    def twins(row: dict[str, Any], **other: Any) -> Gains:
        wanted = {
            key: row[key] for key in ("task", "seed", "method", "sparsity", "self_regularization")
        } | other
        found = [each for each in rows if each.items() >= wanted.items()]
        return [
            (row["score"] - each["score"], min(row["test_rows"], each["test_rows"]))
            for each in found
        ]

    gains: dict[str, Gains] = {}
    for row in rows:
        if row["self_regularization"] and (pair := twins(row, self_regularization=False)):
            place = f"{row['task']} {round(100 * row['sparsity'])} %"
            gains.setdefault(place, []).extend(pair)
    signs = {place: sign_of(some, len(gains)) for place, some in gains.items()}
    ruling = rulings["self-regularisation-score"]
    told = {
        place: each["runs without self-regularisation"]["sign"]
        for place, each in ruling.numbers["places"].items()
    }
    assert told == signs
    assert ruling.verdict is overall(list(signs.values()), list(signs.values()))

    for name in ("pins", "abs-pins"):
        against: dict[tuple[float, str], Gains] = {}
        for row in rows:
            for rival in PAPERS_RIVALS:
                mine = row["method"] == name and row["sparsity"] in HIGH
                if mine and (pair := twins(row, method=rival)):
                    against.setdefault((row["sparsity"], rival), []).extend(pair)
        found = {key: sign_of(some, len(against)) for key, some in against.items()}
        above = [
            "above"
            if {found.get((sparsity, rival)) for rival in PAPERS_RIVALS} == {"above"}
            else ""
            for sparsity in HIGH
        ]
        assert rulings[f"gradual-{name}"].verdict is overall(above, list(found.values()))

    margins: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        if row["method"] == "trust-region" and row["sparsity"] in HIGH:
            for rival in {each["method"] for each in rows} - {"trust-region", "dense"}:
                which = (row["task"], row["sparsity"], row["self_regularization"], rival)
                margins.setdefault(which, []).extend(gain for gain, _ in twins(row, method=rival))
    means = [statistics.fmean(some) for some in margins.values() if some]
    verdict = Verdict.HOLDS if min(means, default=0) > -1e-9 else Verdict.FAILS
    assert rulings["gradual-trust-region"].verdict is (verdict if means else Verdict.UNTESTED)


def sign_of(gains: Gains, intervals: int) -> str:
    """By another route: sums, and scipy's own quantile from the other end."""
    if len(gains) < 2:
        return "open"
    mean = sum(gain for gain, _ in gains) / len(gains)
    variance = sum((gain - mean) ** 2 for gain, _ in gains) / (len(gains) - 1)
    spread = max(variance**0.5, *(1 / rows for _, rows in gains))
    reach = student.isf(0.025 / intervals, len(gains) - 1) * spread / len(gains) ** 0.5
    return "above" if mean > reach else "below" if mean < -reach else "open"


def overall(above: Sequence[str], all_signs: Sequence[str]) -> Verdict:
    if "above" in above:
        return Verdict.HOLDS
    return Verdict.FAILS if "below" in all_signs else Verdict.UNTESTED


def measured(
    *costs: tuple[float, float], network: str = "bert-base", device: str = "cuda"
) -> Results:
    """A precision for each (time, memory) over dense training."""
    rows = []
    for precision, (time, memory) in zip(("bfloat16", "float32"), costs, strict=False):
        place = {"network": network, "device": device, "precision": precision}
        base = {**place, "variant": "dense training", "seconds": [1.0, 2.0, 4.0]}
        rows.append({**base, "peak_bytes": 1_000_000})
        own = {**place, "variant": "self-regularisation", "seconds": [1.0, 2 * (1 + time), 8.0]}
        rows.append({**own, "peak_bytes": round(1_000_000 * (1 + memory))})
    return results(OVERHEAD, device, rows, device)


@pytest.mark.parametrize(
    ("costs", "paper", "goal"),
    [
        ([(0.30, 0.27)], Verdict.HOLDS, Verdict.FAILS),
        ([(0.26, 0.23), (0.34, 0.31)], Verdict.HOLDS, Verdict.FAILS),
        ([(0.30, 0.27), (0.30, 0.33)], Verdict.FAILS, Verdict.FAILS),
        ([(0.24, 0.27)], Verdict.FAILS, Verdict.FAILS),
        ([(0.20, 0.15)], Verdict.FAILS, Verdict.HOLDS),
        ([(0.10, 0.05), (0.10, 0.16)], Verdict.FAILS, Verdict.FAILS),
        ([(0.21, 0.05)], Verdict.FAILS, Verdict.FAILS),
    ],
)
def test_costs_are_judged_in_each_precision(
    costs: list[tuple[float, float]], paper: Verdict, goal: Verdict
) -> None:
    found = [measured(*costs), measured((0.0, 0.0), device="cpu")]
    assert BY_ID["self-regularisation-cost"].decide(found).verdict is paper
    assert BY_ID["self-regularisation-goal"].decide(found).verdict is goal


@pytest.mark.parametrize("claim", ["self-regularisation-cost", "self-regularisation-goal"])
@pytest.mark.parametrize("other", [{"network": "minilm"}, {"device": "cpu"}])
def test_other_networks_and_devices_decide_nothing(claim: str, other: dict[str, str]) -> None:
    ruling = BY_ID[claim].decide([measured((0.1, 0.1), **other)])
    assert ruling.verdict is Verdict.UNTESTED
    assert "run `python -m benchmarks.overhead --device cuda`. Measured was " in ruling.evidence
    assert "time +10 % (+0 % to +100 %), memory +10 %" in ruling.evidence


def test_a_failed_measurement_decides_nothing() -> None:
    rows = [dict(row) for row in measured((0.1, 0.1)).rows]
    for field in ("seconds", "peak_bytes"):
        for at in range(2):
            broken = [{**row, field: None} if i == at else row for i, row in enumerate(rows)]
            ruling = BY_ID["self-regularisation-goal"].decide([results(OVERHEAD, "x", broken, "x")])
            assert ruling.verdict is Verdict.UNTESTED
            assert ruling.evidence.endswith("Measured was nothing")


def test_names_and_figures_are_those_of_the_benchmark() -> None:
    assert (ours.DENSE, ours.REGULARIZED) == (training_steps.DENSE, training_steps.REGULARIZED)
    (goal,) = (each for each in GOALS if each.variants == (ours.REGULARIZED,))
    assert goal.network == {ours.GPU: ours.NETWORK}
    assert (goal.time, goal.memory) == (ours.MOST_TIME, ours.MOST_MEMORY)


def test_the_committed_cpu_says_nothing_of_a_gpu() -> None:
    rulings = {entry.claim.id: entry.ruling for entry in rule_folder(RESULTS)}
    documents = [read(file) for file in RESULTS.glob("overhead-*.json")]
    whole = any(
        row["network"] == "bert-base" and row["device"].startswith("cuda")
        for document in documents
        for row in document["rows"]
    )
    for name in ("cost", "goal"):
        untested = rulings[f"self-regularisation-{name}"].verdict is Verdict.UNTESTED
        assert untested is not whole
