"""Closed, full and abandoned streams, and streams of other encodings: no verdict is changed."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.commands import Command
from verification import checker
from verification.certificates.from_files import certify_files
from verification.certificates.selection import save_scores

CHECKER = [sys.executable, checker.__file__]
PINS = [sys.executable, "-m", "pins"]
PLACES = ("closed", "full", "abandoned")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One that is proved, and one that is refuted."""
    folder = tmp_path_factory.mktemp("streams")
    save_scores({"w": torch.arange(6.0)}, folder / "scores.safetensors")
    document = certify_files(folder / "scores.safetensors", folder / "proved.json", keep=3)
    document["claim"]["keep"] = 4
    (folder / "refuted.json").write_text(json.dumps(document))
    return {name: folder / f"{name}.json" for name in ("proved", "refuted")}


def code(
    command: list[str], number: int = 1, place: str = "read", **environment: str
) -> tuple[int, str, str]:
    """Run the command with standard output (1) or standard error (2) in that place."""
    reader, writer = os.pipe()
    os.close(reader)
    with Path("/dev/full").open("w") as full:
        places: dict[str, Any] = {"full": full, "abandoned": writer}
        streams = {1: subprocess.PIPE, 2: subprocess.PIPE}
        streams[number] = places.get(place, subprocess.PIPE)
        done = subprocess.run(
            command,
            stdout=streams[1],
            stderr=streams[2],
            preexec_fn=partial(os.close, number) if place == "closed" else None,
            env={**os.environ, **environment},
            text=True,
            errors="replace",
            check=False,
        )
    os.close(writer)
    return done.returncode, done.stdout or "", done.stderr or ""


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("outcome", "stream", "other", "written"), [("proved", 1, 2, 0), ("refuted", 2, 1, 1)]
)
def test_a_verdict_that_cannot_be_written_is_none(
    certificates: dict[str, Path], place: str, outcome: str, stream: int, other: int, written: int
) -> None:
    command = [*CHECKER, str(certificates[outcome])]
    assert code(command, stream, place) == (2, "", "")
    exit_code, *streams = code(command, other, place)
    assert exit_code == written
    assert streams[stream - 1].startswith(f"{outcome}: ")


@pytest.mark.parametrize(("outcome", "place"), [("proved", "abandoned"), ("refuted", "closed")])
def test_nor_is_it_for_pins_check(certificates: dict[str, Path], outcome: str, place: str) -> None:
    command = [*PINS, "check", str(certificates[outcome])]
    assert code(command, 1 if outcome == "proved" else 2, place) == (2, "", "")


def test_nothing_is_certified_without_a_place_to_say_so(certificates: dict[str, Path]) -> None:
    scores = certificates["proved"].with_name("scores.safetensors")
    out = scores.with_name("new.json")
    command = [*PINS, "certify", str(scores), "--keep", "2", "--out", str(out)]
    exit_code, _, err = code(command, 1, "closed")
    assert exit_code == 2
    assert err.startswith("pins: [Errno 9] standard output is closed: send it to a file")
    assert not out.exists()
    assert not out.with_name("new.mask.safetensors").exists()


def test_a_command_does_not_depend_on_the_encoding_of_its_terminal() -> None:
    said = {
        encoding: code([*PINS, "certify", "--help"], PYTHONIOENCODING=encoding)
        for encoding in ("utf-8", "cp1252")
    }
    assert [each[0] for each in said.values()] == [0, 0]
    assert "μ" in said["utf-8"][1]
    assert "\\u03bc" in said["cp1252"][1]


def test_the_ledger_of_a_narrow_terminal_is_written_and_printed(
    pins: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from verification.claims import ALL_CLAIMS, command

    monkeypatch.setattr(command, "ALL_CLAIMS", ALL_CLAIMS[:1])
    printed = tmp_path / "printed"
    with printed.open("w", encoding="cp1252") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        out = tmp_path / "ledger.json"
        assert pins("verify", "--out", out)[0] == 0
    assert json.loads(out.read_text())["all_hold"]
    assert "1 of 1 claims hold" in printed.read_text(encoding="cp1252")
    # and where nothing can be printed, it is written
    again = tmp_path / "again.json"
    with Path("/dev/full").open("w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        code, _, err = pins("verify", "--json", "--out", again)
        assert (code, err.splitlines()[-1]) == (2, "pins: [Errno 28] No space left on device")
        sys.stdout.close()
    assert json.loads(again.read_text())["all_hold"]
