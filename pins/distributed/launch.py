"""Processes started by torchrun or `accelerate launch`: they join, and only rank 0 prints.

with only_rank_zero_prints():
    work()      # in every process, one rank each

If several ranks raise the same error, one of them prints it, once, and all of them exit.
"""

import hashlib
import io
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from pins.distributed.process_group import Group
from pins.errors import DeviceError, PinsError, first_line

WANTED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# for a rank that hangs (the connection shows at once that a process has ended); longer than rank 0
# takes to evaluate the model on held-out rows while the others wait (a heuristic)
TIMEOUT = timedelta(minutes=30)
PATIENCE = timedelta(seconds=3)  # a rank that fails waits so long for rank 0 to report the same
# seconds between reporting an error and exiting, in which the others read what rank 0 reported:
# launchers stop all processes when one has ended, and rank 0 may hold the store of messages
LINGER = 1.0
HELD = 4000  # characters of a rank that does not print, shown if its options are wrong
FIRST = "pins/said by rank 0"
LOST = ("gloo", "nccl", "connection closed", "connection reset", "broken pipe", "timed out waiting")


def launched() -> bool:
    """Whether this process is one of several that a launcher started."""
    return all(name in os.environ for name in WANTED) and _number("WORLD_SIZE") > 1


def local_rank(group: Group) -> int | None:
    """The number of this process among those on its machine; None in a group of one process."""
    if group.size == 1:
        return None
    return _number("LOCAL_RANK") if "LOCAL_RANK" in os.environ else group.rank


@contextmanager
def only_rank_zero_prints() -> Iterator[None]:
    """Join the processes of a launcher; inside the block only rank 0 prints.

    An error ends the process. One rank reports it: an error of PINS or of the system, or a
    connection lost because another process ended, in one line, others with their traceback. In a
    single process nothing changes.

    Raises:
        DeviceError: the processes did not find each other.
    """
    if not launched():
        yield
        return
    rank, stderr, hidden = _number("RANK"), sys.stderr, _Tail()
    store = _join(rank)
    try:
        with ExitStack() as silence:
            if rank:
                nowhere = silence.enter_context(Path(os.devnull).open("w"))
                silence.enter_context(redirect_stdout(nowhere))
                silence.enter_context(redirect_stderr(hidden))
            yield
        leave()
    except SystemExit as stopped:
        if not stopped.code:
            leave()
            raise
        if _reports(store, rank, "options"):  # rank 0 has printed what is wrong with its own
            stderr.write(hidden.text)
        _end(stopped.code if isinstance(stopped.code, int) else 1)
    except Exception as error:
        failure = _lost(error) or error
        refused = isinstance(failure, PinsError | OSError | UnicodeError)
        if _reports(store, rank, f"{type(failure).__name__}: {failure}"):
            line = f"pins: {' '.join(str(failure).split())}\n"
            stderr.write(line if refused else "".join(traceback.format_exception(failure)))
        _end(2 if refused else 1)


class _Tail(io.TextIOBase):
    """A stream that shows nothing and holds the last characters."""

    text = ""

    def write(self, text: str) -> int:
        """Add to the text."""
        self.text = (self.text + text)[-HELD:]
        return len(text)


def _end(code: int) -> NoReturn:
    """Exit at once, without waiting for ranks that have ended and without aborting."""
    for stream in (sys.stdout, sys.stderr, sys.__stderr__):
        if stream is not None:
            stream.flush()
    time.sleep(LINGER)
    os._exit(code)


def leave() -> None:
    """Leave the process group: this rank continues alone."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _join(rank: int) -> Any:
    """Join all processes; return the store in which they exchange messages."""
    gpus = torch.cuda.is_available() and dist.is_nccl_available()
    try:
        store, _, size = next(iter(rendezvous("env://")))
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if gpus else "gloo",
            store=store,
            rank=rank,
            world_size=size,
            timeout=TIMEOUT,
        )
    except (RuntimeError, ValueError) as error:
        raise DeviceError(
            f"rank {rank} of {os.environ['WORLD_SIZE']} did not find the others "
            f"({first_line(error)}): start all of them, with the same MASTER_ADDR and a free "
            "MASTER_PORT"
        ) from error
    return store


def _reports(store: Any, rank: int, text: str) -> bool:
    """Whether this rank reports the error: rank 0, or the first rank if rank 0 does not."""
    try:
        if rank == 0:
            store.set(FIRST, text)
            return True
        try:
            store.wait([FIRST], PATIENCE)
            if store.get(FIRST).decode() == text:
                return False
        except dist.DistStoreError:
            pass  # rank 0 has not failed
        return bool(store.add(hashlib.sha256(text.encode()).hexdigest(), 1) == 1)
    except RuntimeError:
        return True  # the store has ended with the process that held it


def _lost(error: Exception) -> DeviceError | None:
    """The error to report if the connection to another rank broke; else None."""
    if isinstance(error, PinsError) or not isinstance(error, RuntimeError):
        return None
    text = str(error).lower()
    if not isinstance(error, dist.DistError) and not any(word in text for word in LOST):
        return None
    return DeviceError(
        "a rank has lost the others, one of which ended or hangs: read its message, and give the "
        "same command with --resume to continue from the last checkpoint"
    )


def _number(name: str) -> int:
    try:
        return int(os.environ[name])
    except ValueError:
        raise DeviceError(
            f"{name} is {os.environ[name]!r} in the environment: torchrun sets it to a whole number"
        ) from None
