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

SAME = ("perplexity", "weights", "relative_error", "left_dense", "certificates")


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


def test_ranks_write_the_files_of_one_process(folder: Path, pins: Command) -> None:
    # one of them has no window to calibrate on
    others = ["--method=sparsegpt", "--pattern=2:4", "--calibration=1", "--test-windows=3"]
    processes = ranks(2, command_pins, words(folder, "GPT2", "two", *others), folder / "two told")
    assert pins(*words(folder, "GPT2", "one", *others))[0] == 0
    told = [each.communicate(120) for each in processes]
    assert [each.process.exitcode for each in processes] == [0, 0], told
    assert told[0][0].count("Model: ") == 1
    assert told[1] == ("", "")
    assert contents(folder / "one") == contents(folder / "two")
    one, two = facts(folder / "one"), facts(folder / "two")
    assert (one["ranks"], two["ranks"]) == (1, 2)
    assert {name: one[name] for name in SAME} == {name: two[name] for name in SAME}


def test_a_killed_rank_ends_all_and_the_run_goes_on_with_another_number(
    folder: Path, pins: Command
) -> None:
    others = ["--calibration=5", "--method=wanda", "--refit"]
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
