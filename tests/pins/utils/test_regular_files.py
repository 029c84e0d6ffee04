"""What is no regular file is refused at once: its reader would wait, or never end."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pins.errors import CheckpointError, FileError, SettingError
from pins.models.weight_files import weight_files
from pins.runs.settings import read_settings
from pins.utils.io import load_tensors, read_state, require_replaceable, sha256, write_text
from pins.utils.text_files import read_text

READERS: dict[str, tuple[Callable[[Path], Any], type[Exception]]] = {
    "text": (read_text, FileError),
    "state": (lambda path: read_state(path, "pins-checkpoint", 1), CheckpointError),
    "replaced": (lambda path: require_replaceable(path, "pins-ledger"), FileError),
    "digest": (sha256, FileError),
    "tensors": (load_tensors, FileError),
    "settings": (read_settings, SettingError),
    "index": (lambda path: weight_files(path.parent), FileError),
    "written": (lambda path: write_text("text", path), FileError),
}
KINDS = ("pipe", "socket", "device")


@pytest.fixture(autouse=True)
def soon() -> Iterator[None]:
    """A test that waits longer than seconds fails."""

    def stop(*_: object) -> None:
        raise TimeoutError("it waits")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 5)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def made(kind: str, path: Path) -> Path:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listening:
            here = Path.cwd()
            os.chdir(path.parent)  # the path of a socket is short
            listening.bind(path.name)
            os.chdir(here)
    else:
        path.symlink_to("/dev/zero")
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", READERS)
def test_every_reader_refuses_it(tmp_path: Path, kind: str, reader: str) -> None:
    path = made(kind, tmp_path / ("model.safetensors.index.json" if reader == "index" else "file"))
    read, error = READERS[reader]
    with pytest.raises(error) as refused:
        read(path)
    assert str(path.parent) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not path.is_file()  # and nothing was written over it


def test_a_reader_that_does_not_ask_waits(tmp_path: Path) -> None:
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    with pytest.raises(TimeoutError, match="it waits"):
        made("pipe", tmp_path / "pipe").read_text()


def test_files_are_read_and_the_errors_of_others_stay(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("λ", encoding="utf-8")
    assert read_text(tmp_path / "file") == "λ"
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert read_text(tmp_path / "link") == "λ"
    with pytest.raises(FileError, match="none cannot be read: No such file"):
        read_text(tmp_path / "none")
    with pytest.raises(FileError, match="is a folder, not a file"):
        read_text(tmp_path)
