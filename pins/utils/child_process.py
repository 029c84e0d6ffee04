"""Child processes that end with this one, however it ends."""

import ctypes
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1  # prctl's option
_IF_PARENT_LIVES = '[ "$PPID" = "$0" ] && exec "$@"'


class _TerminatedError(BaseException):
    """SIGTERM, as an exception."""


def run(
    command: Sequence[str], *, timeout: float | None = None, **options: Any
) -> subprocess.CompletedProcess[Any]:
    """`subprocess.run` with a child that ends with this process; `options` are those of `Popen`.

    An exception, KeyboardInterrupt too, and SIGTERM kill the child and wait for it. Where there is
    the program setpriv (Linux) it is killed as well when this process is (or the calling thread);
    setpriv takes a file that is no program for a shell script.

    Raises:
        OSError: the child cannot be started.
        subprocess.TimeoutExpired: it was killed after `timeout` seconds.
    """
    command = [*ending_with(os.getpid()), *command]
    with cleaning_up_when_terminated(), subprocess.Popen(command, **options) as child:  # noqa: S603
        try:
            output, errors = child.communicate(timeout=timeout)
        except BaseException:
            child.kill()
            child.wait()  # which `subprocess.run` leaves out after KeyboardInterrupt
            raise
        return subprocess.CompletedProcess(command, child.returncode, output, errors)


def ending_with(parent: int) -> tuple[str, ...]:
    """The beginning of a command whose process ends with its parent, of that number.

    If the parent has ended already, before Linux was asked, the command is not started. Empty if
    nothing here does so.
    """
    first = _setpriv()
    # the shell and the program after it are the same process, so what Linux was asked stays
    return first and (*first, "sh", "-c", _IF_PARENT_LIVES, str(parent), first[0], "--")


@functools.cache
def _setpriv() -> tuple[str, ...]:
    """The beginning of a command that sets PR_SET_PDEATHSIG; empty if nothing here does so.

    Not by `preexec_fn`: the fork of a large process takes long, and a signal that arrives during
    its hooks is lost.
    """
    prefix = (shutil.which("setpriv") or "", "--pdeathsig", "KILL", "--")
    if not prefix[0]:
        return ()
    tried = subprocess.run([*prefix, "true"], capture_output=True, check=False)  # noqa: S603
    return prefix if tried.returncode == 0 else ()


def end_with(parent: int) -> None:
    """Ask Linux to kill this process when its parent, of that number, ends; elsewhere nothing."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != parent:  # it has ended already
            os._exit(1)


@contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """A temporary folder that is removed after the block, and if SIGINT or SIGTERM ends it.

    Raises:
        OSError: there is no place for it.
    """
    with cleaning_up_when_terminated(), tempfile.TemporaryDirectory(prefix=prefix) as folder:
        yield Path(folder)


@contextmanager
def cleaning_up_when_terminated() -> Iterator[None]:
    """Let SIGTERM unwind the block as an exception does; then it ends the process as always.

    A process that handles SIGTERM in its own way goes on doing so; and only the main thread can.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        yield
    except _TerminatedError:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _raise_terminated(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 (a handler)
    raise _TerminatedError
