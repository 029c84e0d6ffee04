"""Folders for files that are not finished; those that killed processes left are removed.

A process holds a lock on its folder, which the system releases however the process ends.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: what is left there stays
    fcntl = None  # type: ignore[assignment]

PREFIX = ".unfinished."


@contextmanager
def unfinished_folder(parent: Path) -> Iterator[Path]:
    """A new folder in `parent`, removed after the block; those that nobody holds are removed now.

    Raises:
        OSError: it cannot be made.
    """
    remove_left(parent)
    folder, handle = _held(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def remove_left(parent: Path) -> None:
    """Remove the folders that killed processes left in `parent`."""
    for left in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):
            _remove_unless_held(left)


def _held(parent: Path) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(dir=parent, prefix=PREFIX))
        with suppress(FileNotFoundError):  # before it was held another process removed it
            handle = os.open(folder, os.O_RDONLY)
            _lock(handle, wait=True)
            if folder.exists():
                return folder, handle
            os.close(handle)


def _remove_unless_held(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        if _lock(handle, wait=False):
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(handle)


def _lock(handle: int, *, wait: bool) -> bool:
    """Lock an open folder until it is closed; False: another process holds it, or nothing can."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True
