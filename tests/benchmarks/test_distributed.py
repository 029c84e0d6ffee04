import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.distributed import driver, runs
from benchmarks.distributed.cost_model import PRESENT, counted, on_paper, predicted
from benchmarks.distributed.methods import DECIDE, KTHVALUE, METHODS, TOPK
from benchmarks.distributed.runs import digests, measure, simulate
from benchmarks.distributed.table import paper_table, table, verdict
from benchmarks.documents import readme
from benchmarks.harness.results import read
from benchmarks.harness.score_sets import SCORE_SETS, equal, parts
from pins.errors import FileError, SettingError
from pins.selection.select import decide
from tests.benchmarks.started import rendered_again, start
from verification.testing.threaded_group import shards

SMALL = SCORE_SETS["1e4"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the command writes."""
    out = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "SCALED_SIZE", 1 << 21)
        options = ["--instances", "1e4", "--ranks", "2", "--threads", "2,4", "--rounds", "2"]
        start("distributed", *options, out=out)
    return out


def test_processes_come_to_the_mask_of_one(results: Path) -> None:
    (row,) = read(results / "distributed.json")["rows"]
    assert row["error"] is None
    assert list(row["methods"]) == list(METHODS)
    for found in row["methods"].values():
        assert found["same_mask"]
        assert found["kept"] == row["keep"] == 2_000
        assert len(found["seconds"]) == 2
        assert all(seconds > 0 for seconds in found["seconds"])
        assert len(found["extra_bytes"]) == 2
    assert row["weights"] == [5_000, 5_000]
    assert [each["kind"] for each in row["exchanges"]] == (
        ["total", "total", "gathered", "total", "gathered", "total"]
    )
    # so few that all are gathered
    assert counted(row).given == 8 + 8 + 0 + 24 + 4 * 10_000 / 2 + 32
    assert all(seconds >= 0 for turns in row["can"].values() for seconds in turns)
    assert all(seconds > 0 for seconds in predicted(row).values())


@pytest.mark.skipif(not runs.LOOPBACK.exists(), reason="told on Linux alone")
def test_what_is_counted_is_what_is_sent(results: Path) -> None:
    (row,) = read(results / "distributed.json")["rows"]
    through = min(row["methods"][DECIDE]["loopback"])
    assert through >= 2 * counted(row).received
    assert through < 4 * counted(row).received  # headers, acknowledgements, the barrier
    assert min(row["methods"][TOPK]["loopback"]) >= 4 * 5_000 + 10_000


def test_threads_follow_the_path_that_is_predicted(results: Path) -> None:
    rows = read(results / "distributed.json")["simulated"]
    assert [(row["instance"], row["ranks"]) for row in rows] == [
        ("few a rank", 2),
        ("few a rank", 4),
        ("few a rank, scaled", 2),
        ("few a rank, scaled", 4),
    ]
    assert all(row["same_mask"] for row in rows)
    assert [counted(row).passes for row in rows] == [1, 1, 3, 3]
    assert rows[0]["constants"] != rows[2]["constants"]


def test_tables_and_figure_are_made_from_the_results_file_alone(results: Path) -> None:
    written = rendered_again(driver, results / driver.FILE, "md", "svg")
    assert written["md"] == table(read(results / "distributed.json"))
    assert "equal to those of one process, bit for bit: 5 of 5" in written["md"]
    assert "Passes as predicted: 5 of 5" in written["md"]
    for words in ("measured time of a decision (ms)", "number of GPUs", "70 B: pins.decide"):
        assert words in written["svg"]


def test_a_wrong_mask_a_wrong_path_and_a_failure_are_said(results: Path) -> None:
    document = read(results / "distributed.json")
    (row,) = document["rows"]
    wrong: dict[str, Any] = json.loads(json.dumps(row))
    wrong["methods"][DECIDE]["same_mask"] = False
    wrong["exchanges"].append({"kind": "total", "longest": 24, "whole": 24})
    failed = {**row, "error": "ValueError: a|b"}
    text = table({**document, "rows": [wrong, failed]})
    assert "one process, bit for bit: 4 of 5" in text
    assert "Passes as predicted: 4 of 5" in text
    assert "| **no** |" in text
    assert "failed: ValueError: a\\|b" in text
    more = {**row, "exchanges": [*row["exchanges"], {**row["exchanges"][2], "whole": 10**6}]}
    lines = "\n".join(verdict({**document, "rows": [more]}))
    assert "within 5 %: 10 of 10" not in lines


def test_masks_of_other_scores_have_other_digests() -> None:
    """The control of the comparison; ties show which rank keeps them."""
    torch.manual_seed(0)
    expected = digests(SMALL, [1, 2, 3])
    assert [len(each) for each in expected.values()] == [1, 2, 3]
    ties = replace(SMALL, fill=equal)
    assert all(a != b for a, b in zip(expected[2], digests(ties, [2])[2], strict=True))
    told = [
        {"seconds": [1.0], "extra_bytes": 1, "kept": 1, "loopback": [1], "digest": digest}
        for digest in expected[2]
    ]
    assert runs._over_ranks(told, expected[2])["same_mask"]
    assert not runs._over_ranks(told[::-1], expected[2])["same_mask"]
    masks = decide(SMALL.make(), SMALL.keep).masks
    cut = shards(dict(masks), [0.5])
    assert [runs._digest(each.values()) for each in cut] == expected[2]
    cut[0]["part.0"][0] ^= True
    assert runs._digest(cut[0].values()) != expected[2][0]


def test_ties_between_ranks_go_to_the_lower_index() -> None:
    ties = replace(SMALL, shapes=parts(100_000), fill=equal)
    assert simulate(ties, 3)["same_mask"]


def test_a_rank_that_fails_is_a_row() -> None:
    broken = replace(SMALL, fill=raising)
    found = measure(broken, 1, 1, [""])
    assert isinstance(found, str)
    assert "ProcessRaisedException" in found


def raising(*_: object) -> None:
    raise ValueError("no scores")


def test_bytes_of_those_who_gather() -> None:
    assert METHODS[TOPK].received([10, 10, 10]) == 80
    assert METHODS[KTHVALUE].received([10, 10]) == 40
    assert METHODS[TOPK].received([10]) == 0


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="no score set '1e3': choose one of"):
        driver.run(instances="1e3", out=tmp_path)
    with pytest.raises(SettingError, match="ranks is '2,0': give whole numbers from 1 on"):
        driver.run(ranks="2,0", out=tmp_path)
    with pytest.raises(FileError, match=r"holds no distributed\.json: measure first"):
        driver.run(out=tmp_path, render_only=True)


def test_what_is_said_of_many_gpus_depends_on_the_constants() -> None:
    text = readme.PARTS["docs/scaling.md"]["on-paper"]()
    assert "| 7 B | 1,024 |" in text
    assert "| 70 B | 1,024 |" in text
    other = replace(PRESENT, sample=1 << 10)
    assert paper_table(on_paper(other)) not in text
