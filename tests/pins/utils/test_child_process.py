"""A child, and the folder that it works in, end with the process that started them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pins.utils.child_process import cleaning_up_when_terminated, ending_with, run, scratch_folder

PARENT = """
import subprocess
from pins.utils.child_process import run, scratch_folder
with scratch_folder("scratch-") as folder:
    (folder / "started").touch()
    {call}(["sleep", "1000"], cwd=folder)
"""


def children_of(process: int) -> list[int]:
    text = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii")
    return [int(word) for word in text.split()]


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2]
    except OSError:
        return False
    return state.split()[0] != "Z"


def wait_for(condition: object, seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def end_parent(call: str, number: int, folder: Path) -> tuple[int, bool, list[str]]:
    """Exit code of a parent that gets this signal; whether its child lives; the folders left."""
    code = PARENT.format(call=call)
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "TMPDIR": str(folder)},
        stderr=subprocess.DEVNULL,
    )
    assert wait_for(lambda: children_of(parent.pid))
    child = children_of(parent.pid)[0]
    parent.send_signal(number)
    code_ = parent.wait(20)
    ended = wait_for(lambda: not alive(child), 2 if call == "run" else 0.3)
    if not ended:
        os.kill(child, signal.SIGKILL)
    return code_, not ended, [each.name for each in folder.iterdir()]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc and prctl are Linux's")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_child_and_folder(number: signal.Signals, tmp_path: Path) -> None:
    assert end_parent("run", number, tmp_path) == (-number, False, [])


@pytest.mark.skipif(sys.platform != "linux", reason="/proc and prctl are Linux's")
def test_killing_the_parent_ends_the_child(tmp_path: Path) -> None:
    code, left, folders = end_parent("run", signal.SIGKILL, tmp_path)
    assert (code, left) == (-signal.SIGKILL, False)
    assert len(folders) == 1  # nobody is left to remove it
    # The negative control: a plain child goes on.
    assert end_parent("subprocess.run", signal.SIGKILL, tmp_path)[1]


@pytest.mark.skipif(not ending_with(os.getpid()), reason="there is no setpriv")
def test_a_child_whose_parent_has_ended_before_it_could_ask_does_not_start(tmp_path: Path) -> None:
    made, ended = tmp_path / "made", subprocess.Popen(["true"])
    ended.wait()
    for parent, starts in ((ended.pid, False), (os.getpid(), True)):
        done = subprocess.run([*ending_with(parent), "touch", str(made)], check=False)
        assert (done.returncode == 0, made.exists()) == (starts, starts)


def test_a_time_limit_kills_the_child() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        run(["sleep", "1000"], timeout=0.1)


def test_a_child_that_cannot_be_started_says_why() -> None:
    assert run(["true"]).returncode == 0
    try:
        done = run(["no-such-program"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    except FileNotFoundError:  # without setpriv
        return
    assert done.returncode == 127
    assert "no-such-program: No such file or directory" in done.stderr


def test_handlers_are_as_before() -> None:
    with scratch_folder("scratch-") as folder:
        assert folder.is_dir()
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    assert not folder.exists()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_handler_of_the_process_is_left_alone() -> None:
    handler = signal.signal(signal.SIGTERM, lambda *_: None)
    mine = signal.getsignal(signal.SIGTERM)
    try:
        with cleaning_up_when_terminated():
            assert signal.getsignal(signal.SIGTERM) is mine
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, handler)
