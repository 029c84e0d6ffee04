import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.harness import score_sets
from benchmarks.harness.goals import speedup
from benchmarks.harness.process import fresh, peak_resident, reset_peak, resident
from benchmarks.harness.results import read
from benchmarks.harness.score_sets import ADVERSARIAL, MODEL, SCORE_SETS, SMOKE, ScoreSet, parts
from benchmarks.selection import driver, patterns, rounds
from benchmarks.selection.goals import GOALS
from benchmarks.selection.methods import (
    AT_MOST_TWO_OF_FOUR,
    DECIDE,
    EIGHT_OF_SIXTEEN,
    HALF,
    HEAP,
    KTHVALUE,
    METHODS,
    OPTIMA,
    PARTITION,
    READ,
    ROWS,
    SELECT,
    TOPK,
    TWO_OF_FOUR,
    UNSTRUCTURED,
    kth_largest,
)
from benchmarks.selection.rounds import (
    extra_bytes_of_process,
    is_optimum,
    kept,
    reason,
    side_by_side,
)
from benchmarks.selection.table import is_exact, table, verdict
from pins.errors import FileError, SettingError
from tests.benchmarks.started import rendered_again, start

CPU = torch.device("cpu")
SMALL = 10_000  # scores, of every adversarial set


def small(name: str) -> ScoreSet:
    return replace(SCORE_SETS[name], shapes=parts(SMALL))


def flat(scores: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([each.reshape(-1) for each in scores.values()])


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the command writes, as anyone would start it."""
    out = tmp_path_factory.mktemp("results")
    start("selection", "--instances", SMOKE, "--rounds", "2", "--device", "cpu", out=out)
    return out


def test_the_model_is_the_encoder_of_bert_base() -> None:
    model = SCORE_SETS[MODEL]
    assert (model.size, len(model.shapes), model.nbytes) == (84_934_656, 72, 4 * 84_934_656)
    shapes = list(model.shapes.values())
    found = [shapes.count(shape) for shape in ((768, 768), (3072, 768), (768, 3072))]
    assert found == [48, 12, 12]
    for exponent in range(4, 10):
        assert SCORE_SETS[f"1e{exponent}"].size == 10**exponent
    assert {each.size for each in ADVERSARIAL.values() if not each.too_long} >= {10**7}
    # what takes hours for ten million is seen on fewer
    assert ADVERSARIAL["descending"].too_long
    assert ADVERSARIAL["descending-1e5"].size == 10**5


def test_adversarial_scores_are_what_they_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_sets, "BLOCK", 1 << 10)  # several blocks
    found = {name: flat(small(name).make()) for name in ADVERSARIAL}
    keep = SMALL // 5
    top = {name: scores.float().sort(descending=True).values for name, scores in found.items()}
    assert torch.unique(found["all-equal"]).numel() == 1
    assert top["two-values"][keep - 1 : keep + 1].tolist() == [1, 0]
    assert torch.unique(found["two-values"]).numel() == 2
    assert (found["ascending"].diff() > 0).all()
    assert (found["descending"].diff() < 0).all()
    assert 0.78 < (found["80%-zeros"] == 0).float().mean() < 0.82
    assert top["80%-zeros"][keep - 1] == 0 < top["80%-zeros"][0]
    assert (top["huge-range"][0] > 1e37).all()
    assert 0 < top["huge-range"][-1] < 1e-37
    tiny = found["denormals"].double().abs()
    assert tiny.max() < torch.finfo(torch.float32).tiny
    assert (tiny > 0).float().mean() > 0.99
    zeros = found["signed-zeros"][found["signed-zeros"] == 0]
    assert 0.2 < zeros.signbit().float().mean() < 0.8
    for name in ("float16", "bfloat16"):
        assert found[name].dtype == getattr(torch, name)
        assert (top[name] == top[name][keep - 1]).sum() > 1
        assert found[name].isfinite().all()


def test_scores_are_the_same_every_time_and_not_one_block_again() -> None:
    score_set = replace(SCORE_SETS["1e4"], shapes={"a": (1 << 20, 2), "b": (3,)})
    one, other = score_set.make(), score_set.make()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(one["a"].view(2, -1)[0], one["a"].view(2, -1)[1])


@pytest.mark.parametrize("name", [*ADVERSARIAL, SMOKE])
def test_every_mask_of_pins_is_exact_and_ties_show_in_the_others(name: str) -> None:
    score_set = SCORE_SETS[SMOKE] if name == SMOKE else small(name)
    scores, keep = score_set.make(), score_set.keep
    before = {label: each.clone() for label, each in scores.items()}
    threshold = kth_largest(scores, keep)
    assert threshold == flat(scores).float().sort(descending=True).values[keep - 1].item()
    at_least = sum(int((each >= threshold).sum()) for each in scores.values())
    masks = {n: m.select(scores, keep) for n, m in METHODS.items() if m.pattern is None}
    assert masks.pop(READ) == []
    found = {label: kept(scores, each) for label, each in masks.items()}
    for label in (SELECT, DECIDE, HEAP, TOPK):
        assert found[label] == (keep, threshold), label
        assert is_optimum(*found[label], keep, threshold)
    for label in (KTHVALUE, PARTITION):
        assert found[label] == (at_least, threshold), label
        assert is_optimum(*found[label], keep, threshold) == (at_least == keep)
    assert found[UNSTRUCTURED][0] == keep
    assert all(torch.equal(scores[label], before[label]) for label in scores)


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.pattern])
def test_every_mask_of_a_pattern_is_its_optimum(name: str) -> None:
    score_set, method = SCORE_SETS[SMOKE], METHODS[name]
    scores, keep, pattern = score_set.make(), METHODS[name].keep(SCORE_SETS[SMOKE]), method.pattern
    assert pattern is not None
    for case in (scores, {label: each.round() for label, each in scores.items()}):  # many ties
        masks = method.select(case, keep)
        assert patterns.is_optimum(pattern, case, masks, keep)
        assert kept(case, masks)[0] == keep
    # the negative controls: another order, a weight more, a weight less, and one in exchange
    assert not patterns.is_optimum(pattern, {n: -s for n, s in scores.items()}, masks, keep)
    flat = masks[0].view(-1)
    first, last = int(flat.int().argmax()), int((~flat).nonzero()[-1])
    for changed in ([first], [last], [first, last]):
        flat[changed] ^= True
        assert not patterns.is_optimum(pattern, case, masks, keep)
        flat[changed] ^= True


def test_patterns_are_measured_where_tensors_have_rows() -> None:
    for name, method in METHODS.items():
        assert method.suits(SCORE_SETS[MODEL])
        assert method.suits(SCORE_SETS["1e7"]) == (method.pattern is None), name


def test_a_method_that_ranks_absolute_values_is_found_out() -> None:
    score_set = SCORE_SETS[SMOKE]
    scores, keep = score_set.make(), score_set.keep
    masks = METHODS[UNSTRUCTURED].select(scores, keep)
    assert not is_optimum(*kept(scores, masks), keep, kth_largest(scores, keep))
    positive = {name: each.abs() for name, each in scores.items()}
    masks = METHODS[UNSTRUCTURED].select(positive, keep)
    assert is_optimum(*kept(positive, masks), keep, kth_largest(positive, keep))


def test_a_row_has_the_time_of_each_round_and_what_was_kept(results: Path) -> None:
    document = read(results / "selection-cpu.json")
    rows = {row["method"]: row for row in document["rows"]}
    assert list(rows) == list(METHODS)
    for name, row in rows.items():
        assert row["instance"] == SMOKE
        assert not row["skipped"]
        assert not row["error"]
        assert len(row["seconds"]) == 2
        assert all(seconds > 0 for seconds in row["seconds"])
        assert row["optimum"] is {READ: None, UNSTRUCTURED: False}.get(name, True)
    assert all(is_exact(rows[name]) for name in OPTIMA)
    assert rows[HALF]["keep"] == rows[SELECT]["size"] // 2
    assert not is_exact({**rows[SELECT], "kept": 1, "optimum": False})
    assert not is_exact({**rows[SELECT], "least": math.nextafter(rows[SELECT]["least"], 1)})
    assert document["provenance"]["command"] == (
        "python -m benchmarks.selection --instances smoke --rounds 2 --device cpu --out OUT"
    )


def test_tables_and_figure_are_made_from_the_results_file_alone(results: Path) -> None:
    written = rendered_again(driver, results / "selection-cpu.json", "md", "svg")
    assert written["md"] == table(read(results / "selection-cpu.json"))
    assert "Masks of PINS: 7 of 7 have exactly k ones" in written["md"]
    assert "or are the optimum of their pattern" in written["md"]
    assert "time per weight (ns)" in written["svg"]


def row(method: str, seconds: list[float] | None, **given: Any) -> dict[str, Any]:
    place = {"instance": MODEL, "exercises": "all", "size": 10**7, "tensors": 2, "keep": 2_000_000}
    found = {"kept": 2_000_000, "least": 1.0, "threshold": 1.0, "optimum": True}
    rest = {"dtype": "float32", "bytes": 4 * 10**7, "skipped": None, "error": None}
    measured = {"method": method, "seconds": seconds, "extra_bytes": 10**6}
    return {**place, **found, **rest, **measured, **given}


def document(rows: list[dict[str, Any]], like: Path, kind: str = "cpu") -> dict[str, Any]:
    read_back = read(like / "selection-cpu.json")
    return {**read_back, "device": {**read_back["device"], "kind": kind}, "rows": rows}


def test_goals_are_judged_by_the_median_of_ratios_in_the_same_round(results: Path) -> None:
    rows = [
        row(SELECT, [1.0, 2.0, 4.0]),
        row(DECIDE, [2.0, 4.0, 8.0]),
        row(KTHVALUE, [15.0, 32.0, 32.0]),
        row(PARTITION, [1.0, 2.0, 5.0]),
        row(TOPK, [2.0, 8.0, 8.0]),
        row(READ, [0.5, 1.0, 1.0]),
    ]
    found = speedup({each["method"]: each for each in rows}, SELECT, KTHVALUE)
    assert found is not None
    assert (found.median, found.low, found.high) == (15, 8, 16)
    lines = verdict(document(rows, results))
    assert [line.partition("**")[2] for line in lines if line.startswith("- ")] == [
        "met**: 15 (8 to 16).",
        "missed** by 0 %: 1 (1 to 1.25).",  # as fast is not faster
        "met**: 2.5 %.",
        "met**: 2 (2 to 4) reads.",
    ]
    lines = verdict(document(rows, results, "cuda"))
    assert [line.partition("**")[2] for line in lines if line.startswith("- ")] == [
        "missed** by 33 %: 2 (2 to 4).",
        "met**: 2 (2 to 4) reads.",
        "met**: 2 (2 to 4) reads.",
    ]
    heavy = [{**each, "extra_bytes": 4 * 10**6} for each in rows]
    assert "**missed** by 100 %: 10 %" in "\n".join(verdict(document(heavy, results)))
    for kind, goals in GOALS.items():
        text = "\n".join(verdict(document([row(SELECT, None)], results, kind)))
        assert text.count("not measured") == len(goals) - (kind == "cpu")


def test_goals_of_patterns_are_judged_where_they_were_measured(results: Path) -> None:
    rows = [
        row(HALF, [1.0, 2.0, 1.0]),
        row(ROWS, [1.5, 3.0, 5.0]),
        row(TWO_OF_FOUR, [2.5, 5.0, 2.5]),
        row(EIGHT_OF_SIXTEEN, [2.5, 5.0, 2.5]),
        row(AT_MOST_TWO_OF_FOUR, None),
    ]
    lines = [line for line in verdict(document(rows, results)) if "half, times as slow" in line]
    assert [line.partition("**")[2] for line in lines] == [
        "met**: 1.5 (1.5 to 5).",
        "missed** by 25 %: 2.5.",
        "met**: 2.5.",
        "",
    ]
    assert "times as slow" not in "\n".join(verdict(document(rows, results, "cuda")))


def test_other_large_sets_are_counted_beside_the_goals_own(results: Path) -> None:
    rows = [row(SELECT, [1.0]), row(KTHVALUE, [20.0])]
    other = [{**row(SELECT, [1.0]), "instance": "a"}, {**row(KTHVALUE, [9.0]), "instance": "a"}]
    few = [{**each, "instance": "b", "size": 10} for each in other]
    text = "\n".join(verdict(document([*rows, *other, *few], results)))
    assert (
        "**met**: 20. Of 1 other sets of 10,000,000 scores and more it is met by 0, not by a."
        in (text)
    )


def test_a_wrong_mask_of_pins_is_said(results: Path) -> None:
    wrong = [row(SELECT, [1.0], kept=7, optimum=False), row(DECIDE, [1.0], optimum=None)]
    text = table(document(wrong, results))
    assert "0 of 1 have exactly k ones" in text
    assert f"**wrong**: {SELECT} on {MODEL}; not checked, for want of memory: {DECIDE}" in text
    assert "| **no** |" in text
    assert "| k − 1,999,993 | no |" in text


def test_what_does_not_fit_or_fails_is_a_row(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = SCORE_SETS["1e9"]
    said = reason(large, UNSTRUCTURED, CPU, 10**10)
    assert said == "needs about 61.0 GB, and 10.0 GB are free"
    assert reason(large, SELECT, CPU, 10**11) is None
    assert reason(large, SELECT, CPU, None) is None
    assert reason(large, HEAP, CPU, None) == "takes too long beyond 1,000,000 scores"
    assert reason(large, PARTITION, torch.device("cuda"), None) == "is not for cuda"
    broken = replace(METHODS[TOPK], select=lambda *_: [][0])
    monkeypatch.setattr(rounds, "METHODS", {**METHODS, TOPK: broken})
    timed = side_by_side(SCORE_SETS[SMOKE], "cpu", [SELECT, TOPK], 1)
    assert timed[TOPK]["error"].startswith("IndexError: list index out of range")
    assert len(timed[SELECT]["seconds"]) == 1
    rows = [
        row(SELECT, [1.0]),
        row(TOPK, None, error=timed[TOPK]["error"], extra_bytes=None),
        row(HEAP, None, skipped=said, extra_bytes=None),
    ]
    text = table(document(rows, results))
    assert f"| {TOPK} | failed: IndexError: list index" in text
    assert f"| {HEAP} | not run: needs about 61.0 GB" in text


def test_a_set_for_which_there_is_no_memory_is_skipped_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rounds, "free_bytes", lambda _: 10**6)
    rows = rounds.measure(SCORE_SETS["1e9"], CPU, 1)
    assert [row["method"] for row in rows] == [n for n, m in METHODS.items() if m.pattern is None]
    assert all("needs about" in row["skipped"] or row["method"] == HEAP for row in rows)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="told on Linux alone")
def test_memory_is_counted_beyond_the_scores_and_the_masks() -> None:
    """numpy's is one copy of the scores, gone before there are masks; a read takes nothing."""
    score_set = replace(SCORE_SETS["1e7"], shapes=parts(4 * 10**6))
    extra = fresh(extra_bytes_of_process, score_set, PARTITION)
    assert 0.97 * score_set.nbytes < extra + score_set.size < 1.1 * score_set.nbytes
    assert extra < METHODS[PARTITION].extra_bytes(4) * score_set.size * 1.1
    assert abs(fresh(extra_bytes_of_process, score_set, READ)) < 0.03 * score_set.nbytes


def peaks_of_a_block(size: int) -> tuple[int, int]:
    """Peak beyond what is held, after a block has come and gone, and after the reset."""
    held = bytearray(size)
    del held
    before = peak_resident() - resident()
    reset_peak()
    return before, peak_resident() - resident()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="told on Linux alone")
def test_the_peak_is_remembered_until_it_is_reset() -> None:
    size = 256 << 20
    # in a process of its own: this one may have as much free memory, which counts as in use
    before, after = fresh(peaks_of_a_block, size)
    assert before > size // 2 > after


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="no score set '1e5x': choose one of bert-base"):
        driver.run(instances="smoke,1e5x", out=tmp_path)
    with pytest.raises(FileError, match=r"holds no selection-\*\.json: measure first"):
        driver.run(out=tmp_path, render_only=True)
    (tmp_path / "selection-cpu.json").write_text(json.dumps({"rows": []}))
    with pytest.raises(FileError, match="holds no rows yet: measure first"):
        driver.run(out=tmp_path, render_only=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_a_gpu_is_measured_with_the_memory_of_tensors() -> None:
    device = torch.device("cuda")
    rows = {row["method"]: row for row in rounds.measure(small("float16"), device, 2)}
    for name in (SELECT, DECIDE):
        assert is_exact(rows[name])
        assert rows[name]["extra_bytes"] is not None
    assert rows[KTHVALUE]["extra_bytes"] >= small("float16").nbytes
    assert rows[HEAP]["skipped"] == "is not for cuda"
