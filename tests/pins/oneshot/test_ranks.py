"""Runs on several ranks write the files of one process, bit for bit; the processes are real."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.commands import Command
from tests.pins.oneshot.runs import contents
from tests.pins.oneshot.tiny_decoders import network, save_decoder, save_text
from tests.pins.runs.forked import pins as command_pins
from tests.pins.runs.forked import ranks, wait_until

pytest.importorskip("transformers", reason="the models are those of transformers")

SAME = (
    "perplexity",
    "weights",
    "relative_error",
    "left_dense",
    "certificates",
    "budget",
    "loss_change",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("ranks")
    save_decoder(place / "GPT2", "GPT2")
    save_decoder(place / "deep", "Qwen3Moe", num_hidden_layers=6)
    save_text(place / "text.txt")
    return place


def words(folder: Path, model: str, out: str, *others: str) -> list[str]:
    return [
        "oneshot", f"--model={folder / model}", "--task=text", f"--data={folder / 'text.txt'}",
        f"--out={folder / out}", "--device=cpu", "--length=16", *others,
    ]  # fmt: skip


def facts(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "run.json").read_text())
    return found


@pytest.mark.parametrize(
    "others",
    [
        ["--method=sparsegpt", "--budget=flops=0.5", "--levels=0.4,2:4,0.6"],
        ["--method=trust-region", "--scope=global", "--swaps"],
    ],
)
def test_ranks_write_the_files_of_one_process(
    others: list[str], pins: Command, folder: Path, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    # one of them has no window to calibrate on
    others = [*others, "--calibration=1", "--test-windows=3"]
    processes = ranks(2, command_pins, words(folder, "GPT2", str(two), *others), tmp_path / "told")
    assert pins(*words(folder, "GPT2", str(one), *others))[0] == 0
    told = [each.communicate(120) for each in processes]
    assert [each.process.exitcode for each in processes] == [0, 0], told
    assert told[0][0].count("Model: ") == 1
    assert told[1] == ("", "")
    assert contents(one) == contents(two)
    single, both = facts(one), facts(two)
    assert (single["ranks"], both["ranks"]) == (1, 2)
    assert {name: single[name] for name in SAME} == {name: both[name] for name in SAME}


def test_a_killed_rank_ends_all_and_the_run_goes_on_with_another_number(
    folder: Path, pins: Command
) -> None:
    others = ["--calibration=5", "--method=wanda", "--swaps"]
    given = words(folder, "deep", "killed", *others)
    processes = ranks(2, command_pins, given, folder / "killed told")
    done = folder / "killed" / "blocks" / "01.json"
    assert wait_until(done.is_file, processes), processes[0].communicate()
    processes[1].process.kill()
    (_, errors), (output, silent) = (each.communicate(60) for each in processes)
    assert [each.process.exitcode for each in processes] == [2, -signal.SIGKILL]
    assert errors.splitlines()[-1].startswith("pins: a rank has lost the others, one of which end")
    assert "Traceback" not in errors
    assert (output, silent) == ("", "")
    assert 2 <= len([*(folder / "killed" / "blocks").glob("??.json")]) < 6
    processes = ranks(3, command_pins, [*given, "--resume"], folder / "more told")
    assert pins(*words(folder, "deep", "whole", *others))[0] == 0
    told = [each.communicate(120) for each in processes]
    assert [each.process.exitcode for each in processes] == [0] * 3, told
    assert contents(folder / "killed") == contents(folder / "whole")
    whole, killed = facts(folder / "whole"), facts(folder / "killed")
    assert {name: whole[name] for name in SAME} == {name: killed[name] for name in SAME}


def test_what_is_wrong_is_said_once(folder: Path) -> None:
    model = network("Llama")
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] = torch.nan
    model.save_pretrained(save_decoder(folder / "nan"))
    given = words(folder, "nan", "wrong", "--calibration=2", "--json")
    processes = ranks(2, command_pins, given, folder / "wrong told")
    told = [each.communicate(60) for each in processes]
    assert [each.process.exitcode for each in processes] == [2, 2]
    assert [each for each, _ in told] == ["", ""]
    said = [line for _, errors in told for line in errors.splitlines() if " %  " not in line]
    assert len(said) == 1
    name = "'model.layers.0.mlp.down_proj.weight'"
    assert said[0].startswith(f"pins: {name} reads NaN or infinity from the calibration text: ")
