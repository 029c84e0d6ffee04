"""kill -9 before a change of any file: the same command goes on, to the same files and no others.

A command is killed in a process of its own, where it is about to open a file for writing, or to
make, move, remove or flush one.
"""

import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from pins.cli import main
from tests.commands import Command
from tests.pins.oneshot.tiny_decoders import save_decoder, save_text
from tests.pins.runs.tiny_runs import save_data, save_model
from verification.certificates.selection import save_scores

pytest.importorskip("transformers", reason="the models are those of transformers")
pytest.importorskip("matplotlib", reason="the figures are drawn by matplotlib")

# of Python 3.12 on; what a fork of this process does not have are threads that compute
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.fsync")
FORK = multiprocessing.get_context("fork")  # a process of another kind first imports for seconds
SECONDS = 60  # for one command
TIMED = {"out/run.json", "out/README.md", "out/blocks/00.json", "out/blocks/01.json"}  # hold times
COMMANDS: dict[str, str] = {
    "certify": "certify s.safetensors --keep=5 --out=new.json",
    "oneshot": (
        "oneshot --resume --out=out --model=decoder --task=text --data=text.txt --refit "
        "--calibration=2 --length=16 --device=cpu"
    ),
    "pack": "pack model",
    "plot": f"plot schedule --from={RESULTS / 'prune-pins'} --out=figures/s.svg",
    "prune": (
        "prune --resume --out=out --model=model --data=data --task=sst2 --steps=4 --batch-size=4 "
        "--max-length=16 --interval=2 --checkpoint-every=2 --device=cpu"
    ),
}


def killed(number: int, folder: Path, words: Sequence[str]) -> None:
    """`pins` in a folder, killed before its change of that number."""
    torch.set_num_threads(1)  # the threads of the process that this one is forked from are not here
    os.chdir(folder)
    left, flush = number, os.fsync

    def before(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if (event == "open" and arguments[2] & WRITING) or event in CHANGES:
            place = "." if isinstance(arguments[0], int) else os.fsdecode(arguments[0])
            left -= Path.cwd().joinpath(place).is_relative_to(folder)
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    def audited(fd: Any) -> None:
        sys.audit("os.fsync", fd)
        flush(fd)

    os.fsync = audited
    sys.addaudithook(before)
    sys.argv = ["pins", *words]
    main()


def torn(number: int, folder: Path, words: Sequence[str]) -> None:
    """The control: what a command leaves that writes to the final file itself."""
    (folder / "model" / "packed.safetensors").write_bytes(b"half")
    killed(number, folder, words)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    save_scores({"a": torch.arange(16.0)}, folder / "s.safetensors")
    save_model(folder / "model")
    save_data(folder / "data")
    save_decoder(folder / "decoder")
    save_text(folder / "text.txt")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def goes_on(
    pins: Command,
    inputs: Path,
    folder: Path,
    command: str,
    numbers: Iterable[int],
    begin: Callable[..., None] = killed,
) -> int:
    """Kill a command before each of these changes, and repeat it; how many of them it makes."""
    words, times = COMMANDS[command].split(), 0
    os.chdir(shutil.copytree(inputs, folder / "whole"))
    assert pins(*words)[0] == 0
    whole = contents(folder / "whole")
    for number in numbers:
        place = shutil.copytree(inputs, folder / str(number))
        run = FORK.Process(target=begin, args=(number, place, words))
        run.start()
        run.join(SECONDS)
        if run.exitcode == 0:
            break
        assert run.exitcode == -signal.SIGKILL
        times += 1
        left = contents(place)
        torn = [f for f in whole.keys() & left.keys() - TIMED if whole[f] != left[f]]
        assert torn == [], f"killed before change {number}"
        if whole.keys() - left.keys() or (place / "out").exists():
            os.chdir(place)
            code, _, errors = pins(*words)
            assert code == 0, f"killed before change {number}: {errors}"
            assert contents(place).keys() == whole.keys(), f"killed before change {number}"
    return times


@pytest.mark.parametrize("command", ["certify", "pack", "plot"])
def test_a_killed_command_goes_on_and_leaves_nothing(
    pins: Command, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert goes_on(pins, inputs, tmp_path, command, count(2, 2)) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_killed_before_any_change_goes_on(
    pins: Command, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert goes_on(pins, inputs, tmp_path, command, count(1)) >= 6


def test_a_file_that_is_written_in_its_place_is_found_torn(
    pins: Command, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError, match="killed before change 1"):
        goes_on(pins, inputs, tmp_path, "pack", [1], torn)
