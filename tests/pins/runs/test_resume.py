"""kill −9 at any moment, then --resume: the same bits as if nothing had happened.

The processes are real ones, killed from outside at random times: between steps, within a step,
while a checkpoint or the results are written.
"""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.pins.runs.tiny_runs import save_data, save_model

pytest.importorskip("transformers", reason="runs load transformers models")

RESULTS = (
    "model.safetensors", "masks.safetensors", "scores.safetensors", "packed.safetensors",
    "certificate.json",
)  # fmt: skip


def command(folder: Path, out: str, *more: str, steps: int = 60) -> list[str]:
    return [
        sys.executable, "-m", "pins", "prune", "--out", str(folder / out), "--task", "sst2",
        "--model", str(folder / "model"), "--data", str(folder / "data"), "--steps", str(steps),
        "--batch-size", "4", "--learning-rate", "1e-3", "--max-length", "16", "--interval", "3",
        "--checkpoint-every", "1", "--evaluate-every", "5", "--device", "cpu", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    save_model(folder / "model")
    save_data(folder / "data")
    process = subprocess.run(command(folder, "whole"), capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return folder


def killed_and_resumed(folder: Path, out: str, generator: random.Random, kills: int) -> int:
    """Run to the end through at most so many kills; how many there were."""
    killed = 0
    while True:
        process = subprocess.Popen(
            command(folder, out, "--resume"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        if killed < kills:
            _until_it_writes(process, folder / out)
            time.sleep(generator.uniform(0, 0.8))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
        _, errors = process.communicate(timeout=300)
        if process.returncode == -signal.SIGKILL:
            killed += 1
            continue
        assert process.returncode == 0, errors.decode()
        return killed


def _until_it_writes(process: subprocess.Popen[bytes], out: Path) -> None:
    """Until the process has changed something in its folder."""

    def state() -> list[str]:
        return sorted(str(each) for each in out.rglob("*"))

    before = state()
    while process.poll() is None and state() == before:
        time.sleep(0.02)


def assert_same_results(folder: Path, out: str) -> None:
    for name in RESULTS:
        assert (folder / "whole" / name).read_bytes() == (folder / out / name).read_bytes(), name


def test_a_killed_run_ends_like_one_that_was_not(folder: Path) -> None:
    assert killed_and_resumed(folder, "killed", random.Random(0), kills=2) >= 1
    assert_same_results(folder, "killed")
    check = subprocess.run(
        [sys.executable, "-m", "pins", "check", str(folder / "killed" / "certificate.json")],
        check=False,
    )
    assert check.returncode == 0


def test_another_seed_ends_otherwise(folder: Path) -> None:
    more = command(folder, "seed", "--seed", "1", steps=60)
    assert subprocess.run(more, capture_output=True, check=False).returncode == 0
    with pytest.raises(AssertionError):
        assert_same_results(folder, "seed")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_twenty_runs_killed_at_random(folder: Path, seed: int) -> None:
    assert killed_and_resumed(folder, f"run{seed}", random.Random(seed + 1), kills=3) >= 1
    assert_same_results(folder, f"run{seed}")
