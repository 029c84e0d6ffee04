"""Runs on several ranks: the result of one process, one writer, and no rank that waits for ever.

The processes are real ones, joined by gloo; they are killed from outside.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pins import masks
from pins.masks import compare
from pins.runs.checkpoints import latest
from pins.selection.constraints import keep_count
from tests.commands import Command
from tests.pins.runs.distributed_runs import VARIANTS, prepare, result, run_of, run_variants
from tests.pins.runs.forked import pins as command_pins
from tests.pins.runs.forked import ranks, wait_until
from tests.pins.runs.test_resume import RESULTS, command
from tests.pins.runs.tiny_runs import same, take

pytest.importorskip("transformers", reason="runs load transformers models")

ROOT = Path(__file__).parents[3]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
# sums of few terms: what may differ is their last bits, and in 16 bits much more
CLOSE, ROUGH = 2e-4, 2e-2
HALF = ("bfloat16", "overflow")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("distributed")
    prepare(folder)
    return folder


def torchrun(ranks: int, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """`pins` with these words in so many processes of torchrun, to their end."""
    return subprocess.run(
        [*TORCHRUN, f"--nproc-per-node={ranks}", "-m", "pins", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def on_rank_one(words: Sequence[str], *more: str) -> None:
    """The command `pins`, on rank 1 with more words."""
    command_pins(*words, *(more if os.environ["RANK"] == "1" else ()))


def run_on_ranks(size: int, folder: Path, names: Sequence[str]) -> None:
    """Each variant on so many ranks, in one start of them."""
    processes = ranks(size, run_variants, (folder, names), folder / f"{names[0]} on ranks")
    told = [each.communicate() for each in processes]
    assert [each.process.exitcode for each in processes] == [0] * size, told


def assert_as_one(name: str, ranks: int, folder: Path) -> None:
    """All ranks came to the same, and that is what one process comes to."""
    found = [masks.load(folder / f"{name}.{rank}.safetensors") for rank in range(ranks)]
    told = [json.loads((folder / f"{name}.{rank}.json").read_text()) for rank in range(ranks)]
    assert all(same(found[0], each) for each in found)
    assert all(told[0] == each for each in told)
    run = take(run_of(name, folder, f"{name} of one beside {ranks}"))
    alone, pruner = result(run), run.training.pruner
    kept = masks.count(found[0])
    assert kept == masks.count(pruner.masks)
    if VARIANTS[name].get("criterion") != "authors":
        assert kept.kept == keep_count(0.8, pruner.total)
    close = ROUGH if name in HALF else CLOSE
    for one, many in zip(
        alone["record"]["evaluations"], told[0]["record"]["evaluations"], strict=True
    ):
        assert many["loss"] == pytest.approx(one["loss"], rel=close)
        assert many["teacher"] == one["teacher"]
        assert many["sparsity"] == one["sparsity"]
    assert told[0]["scaler"] == alone["scaler"]
    assert told[0]["optimizer"] == alone["optimizer"]
    for one, many in zip(alone["record"]["decisions"], told[0]["record"]["decisions"], strict=True):
        assert one.keys() == many.keys()
        if name not in HALF and one.get("measured") is not None and name != "hutchinson":
            assert many["measured"] == pytest.approx(one["measured"], rel=0.05, abs=1e-5)
    # the signs of Hutchinson's estimate are others
    assert compare(found[0], pruner.masks).kept_jaccard > (0 if name == "hutchinson" else 0.95)


def test_two_ranks_come_to_what_one_comes_to(folder: Path) -> None:
    names = [
        "plain", "trust region", "fisher", "hutchinson", "sgd", "bfloat16", "overflow",
        "checkpointing", "authors",
    ]  # fmt: skip
    run_on_ranks(2, folder, names)
    for name in names:
        assert_as_one(name, 2, folder)
    told = json.loads((folder / "overflow.1.json").read_text())
    assert told["scaler"]["scale"] < 65536  # steps were left out, by both
    # two ranks add up what one adds up in two parts: to the last bit
    part = run_of("plain", folder, "in parts", accumulation=2)
    assert json.loads(json.dumps(result(take(part)))) == json.loads(
        (folder / "plain.0.json").read_text()
    )
    other = run_of("plain", folder, "of another seed", accumulation=2, seed=1)
    assert result(take(other))["weights"] != told["weights"]


def test_three_ranks_share_steps_of_fewer_rows_and_go_on_bit_for_bit(folder: Path) -> None:
    names = ["dropout", "parts", "one row", "two rows in parts"]
    run_on_ranks(3, folder, names)
    for name in names[1:]:
        assert_as_one(name, 3, folder)
    dropout, cut = (
        json.loads((folder / f"{name}.0.json").read_text()) for name in ("dropout", "dropout, cut")
    )
    assert dropout == cut
    assert dropout != result(take(run_of("dropout", folder, "dropout of one")))


@pytest.mark.slow
def test_compiled_and_plain_loss(folder: Path) -> None:
    names = ["compiled", "plain loss"]
    run_on_ranks(2, folder, names)
    for name in names:
        assert_as_one(name, 2, folder)


def has_step(out: Path, step: int) -> bool:
    """Whether there is a checkpoint of so many steps."""
    return int((latest(out / "checkpoints") or Path("step-0")).name.removeprefix("step-")) >= step


def results(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in RESULTS}


def facts(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "run.json").read_text())
    return found


def test_one_rank_killed_ends_all_and_the_run_goes_on(folder: Path, pins: Command) -> None:
    words = command(folder, "killed", steps=20)
    processes = ranks(2, command_pins, words, folder / "killed told")
    assert wait_until(lambda: has_step(folder / "killed", 5), processes), processes[0].communicate()
    processes[1].process.kill()
    killed = time.monotonic()
    (_, errors), (output, silent) = (each.communicate(60) for each in processes)
    assert time.monotonic() - killed < 30
    assert [each.process.exitcode for each in processes] == [2, -signal.SIGKILL]
    assert errors.splitlines()[-1].startswith("pins: a rank has lost the others, one of which end")
    assert "Traceback" not in errors
    assert (output, silent) == ("", "")
    shutil.copytree(folder / "killed", folder / "alone")
    # with as many ranks; that the bits are the same, the runs of three ranks say
    launched = torchrun(2, [*words, "--resume"])
    assert launched.returncode == 0, launched.stderr
    assert launched.stdout.count("Going on after step") == 1
    assert launched.stdout.count("Model: ") == 1
    # with another number
    assert pins(*command(folder, "alone", "--resume", steps=20))[0] == 0
    many, alone = (facts(folder / name) for name in ("killed", "alone"))
    assert (many["ranks"], alone["ranks"]) == (2, 1)
    assert many["decisions"][-1]["keep"] == alone["decisions"][-1]["keep"]
    assert results(folder / "alone") != results(folder / "killed")
    for told in (many, alone):
        weights = told["costs"]["weights"]
        assert weights["kept"] == keep_count(0.8, weights["prunable"])
        assert "the only optimum" in told["certificate"]["sentence"]


def test_what_is_wrong_is_said_once(folder: Path) -> None:
    (folder / "used").mkdir()
    (folder / "used" / "mine").write_text("")
    processes = ranks(2, command_pins, command(folder, "used"), folder / "used told")
    ended = [each.communicate(60) for each in processes]
    assert [each.process.exitcode for each in processes] == [2, 2]
    line = f"pins: {folder / 'used'} holds files (mine …): give another folder\n"
    assert ended == [("", line), ("", "")]


def test_options_that_are_wrong_on_another_rank_are_said(folder: Path) -> None:
    words = command(folder, "one bad")
    processes = ranks(2, on_rank_one, (words, "--nosuch", "1"), folder / "one bad told")
    (_, errors), (output, reported) = (each.communicate(60) for each in processes)
    assert [each.process.exitcode for each in processes] == [2, 2]
    assert reported.count("Error: No such option: --nosuch") == 1
    assert "No such option" not in errors
    assert output == ""


def test_torchrun_itself_ends_where_an_option_is_none(folder: Path) -> None:
    launched = torchrun(2, command(folder, "bad", "--nosuch", "1"))
    assert launched.returncode != 0
    assert launched.stderr.count("Error: No such option: --nosuch") == 1
    assert not (folder / "bad").exists()
