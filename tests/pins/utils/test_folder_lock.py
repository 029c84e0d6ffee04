"""One process at a time writes to a folder; who was killed holds nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from pins.errors import FileError
from pins.utils.folder_lock import LOCK, locked

HOLDER = """
import sys, time
from filelock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
time.sleep(9)
"""


def test_a_folder_is_held_by_one_and_free_after_it(tmp_path: Path) -> None:
    out = tmp_path / "a" / "out"
    with locked(out):
        with (
            pytest.raises(FileError, match=f"another run is writing to {out}: wait for its end"),
            locked(out),
        ):
            pass
        with locked(tmp_path / "other"):
            (out / "result").write_text("mine")
    assert [each.name for each in out.iterdir()] == ["result"]
    with locked(out):
        assert (out / LOCK).is_file()


def test_the_folders_that_a_failure_leaves_empty_are_removed(tmp_path: Path) -> None:
    def failing() -> None:
        with locked(tmp_path / "a" / "b"):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        failing()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty").mkdir()  # of somebody else
    with locked(tmp_path / "empty"):
        pass
    assert (tmp_path / "empty").is_dir()


def test_a_file_and_a_place_that_cannot_be_made_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place, message in (
        (tmp_path / "file", "file is a file: give a folder"),
        (tmp_path / "file" / "out", "out cannot be written: Not a directory"),
    ):
        with pytest.raises(FileError, match=message), locked(place):
            pass


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / LOCK)], stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(FileError, match="another run is writing"), locked(tmp_path):
            pass
        holder.kill()
    assert (tmp_path / LOCK).is_file()  # what it leaves
    with locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
