"""kill −9 at any moment, then --resume: the same bits as if nothing had happened.

The processes are real ones, killed from outside at random times: between steps, within a step,
while a checkpoint or the results are written.
"""

import random
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from tests.commands import Command
from tests.pins.runs.forked import Forked, pins, wait_until
from tests.pins.runs.tiny_runs import save_data, save_model

pytest.importorskip("transformers", reason="runs load transformers models")

RESULTS = (
    "model.safetensors", "masks.safetensors", "scores.safetensors", "packed.safetensors",
    "certificate.json",
)  # fmt: skip


def command(folder: Path, out: str, *more: str, steps: int = 60) -> list[str]:
    return [
        "prune", "--out", str(folder / out), "--task", "sst2",
        "--model", str(folder / "model"), "--data", str(folder / "data"), "--steps", str(steps),
        "--batch-size", "4", "--learning-rate", "1e-3", "--max-length", "16", "--interval", "3",
        "--checkpoint-every", "1", "--evaluate-every", "5", "--device", "cpu", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    save_model(folder / "model")
    save_data(folder / "data")
    whole = Forked(pins, command(folder, "whole"), folder / "told")
    _, errors = whole.communicate()
    assert whole.process.exitcode == 0, errors
    return folder


def killed_and_resumed(folder: Path, out: str, generator: random.Random, kills: int) -> int:
    """Run to the end through at most so many kills; how many there were."""
    killed = 0
    while True:
        changed = partial(is_changed, folder / out, state(folder / out))
        run = Forked(pins, command(folder, out, "--resume"), folder / f"{out} told")
        if killed < kills and wait_until(changed, [run]):
            time.sleep(generator.uniform(0, 0.8))
            run.process.kill()
        _, errors = run.communicate()
        if run.process.exitcode == -signal.SIGKILL:
            killed += 1
            continue
        assert run.process.exitcode == 0, errors
        return killed


def state(out: Path) -> list[str]:
    """The names of all files below a folder."""
    return sorted(str(each) for each in out.rglob("*"))


def is_changed(out: Path, before: list[str]) -> bool:
    return state(out) != before


def assert_same_results(folder: Path, out: str) -> None:
    for name in RESULTS:
        assert (folder / "whole" / name).read_bytes() == (folder / out / name).read_bytes(), name


def test_a_killed_run_ends_like_one_that_was_not(folder: Path, pins: Command) -> None:
    assert killed_and_resumed(folder, "killed", random.Random(0), kills=2) >= 1
    assert_same_results(folder, "killed")
    assert pins("check", folder / "killed" / "certificate.json")[0] == 0


def test_another_seed_ends_otherwise(folder: Path, pins: Command) -> None:
    assert pins(*command(folder, "seed", "--seed", "1"))[0] == 0
    with pytest.raises(AssertionError):
        assert_same_results(folder, "seed")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_twenty_runs_killed_at_random(folder: Path, seed: int) -> None:
    assert killed_and_resumed(folder, f"run{seed}", random.Random(seed + 1), kills=3) >= 1
    assert_same_results(folder, f"run{seed}")
