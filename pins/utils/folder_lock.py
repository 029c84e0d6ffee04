"""A lock on a folder: one process at a time writes its results there."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pins.errors import FileError
from pins.utils.io import writing

LOCK = ".pins.lock"  # a file of the folder while it is locked; without a meaning after a kill


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder until the block or the process ends, however it ends.

    The folder is made if there is none. At the end the lock file is removed, and with it the
    folders that were made and are still empty.

    Raises:
        FileError: another process holds the folder, or it cannot be written.
    """
    from filelock import FileLock, Timeout

    if folder.exists() and not folder.is_dir():
        raise FileError(f"{folder} is a file: give a folder")
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    lock = FileLock(folder / LOCK)
    try:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                raise FileError(
                    f"another run is writing to {folder}: wait for its end, or give another folder"
                ) from None
        yield
    finally:
        with contextlib.suppress(OSError):
            if lock.is_locked:
                # before the release: who opened the file meanwhile finds that it is gone
                (folder / LOCK).unlink(missing_ok=True)
            lock.release()
            for each in made:
                each.rmdir()
