"""The processes that torchrun or `accelerate launch` starts: they join, and one of them speaks.

with only_rank_zero_prints():
    work()      # in every process, one rank each

Rank 0 alone prints. Of an error that several ranks meet one says it, once, and all of them end.
"""

import hashlib
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
from pins.errors import DeviceError, PinsError

WANTED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# the end of a process is seen at once, by the connection; this is for one that hangs, and longer
# than rank 0 takes to judge the model on held-out rows while the others wait (a heuristic)
TIMEOUT = timedelta(minutes=30)
PATIENCE = timedelta(seconds=3)  # how long a rank that fails waits for rank 0 to say the same
# seconds for one rank to say what is wrong, and for others to ask rank 0 what it said: launchers
# end all as soon as one has ended, and rank 0 may hold the store of their messages
LINGER = 1.0
FIRST = "pins/said by rank 0"
LOST = ("gloo", "nccl", "connection closed", "connection reset", "broken pipe", "timed out waiting")


def launched() -> bool:
    """Whether this process is one of several that were started together."""
    return all(name in os.environ for name in WANTED) and _number("WORLD_SIZE") > 1


def local_rank(group: Group) -> int | None:
    """Which of the processes on this machine this one is; None: it is alone in its group."""
    if group.size == 1:
        return None
    return _number("LOCAL_RANK") if "LOCAL_RANK" in os.environ else group.rank


@contextmanager
def only_rank_zero_prints() -> Iterator[None]:
    """Join the processes started together, if any, and let one of them speak, inside the block.

    A rank other than 0 prints nothing. An error ends the process: one rank says it, as one line
    where PINS or the system refused something, also that the connection broke because another
    process ended. In a process that is alone nothing is changed.

    Raises:
        DeviceError: the processes did not come together.
    """
    if not launched():
        yield
        return
    rank, stderr = _number("RANK"), sys.stderr
    store = _join(rank)
    try:
        with ExitStack() as silence:
            if rank:
                nowhere = silence.enter_context(Path(os.devnull).open("w"))
                silence.enter_context(redirect_stdout(nowhere))
                silence.enter_context(redirect_stderr(nowhere))
            yield
        leave()
    except SystemExit as stopped:
        if not stopped.code:
            leave()
            raise
        _speaks(store, rank, "options")  # what is wrong with them, rank 0 has said
        _end(stopped.code if isinstance(stopped.code, int) else 1)
    except Exception as error:
        failure = _lost(error) or error
        refused = isinstance(failure, PinsError | OSError | UnicodeError)
        if _speaks(store, rank, f"{type(failure).__name__}: {failure}"):
            line = f"pins: {' '.join(str(failure).split())}\n"
            stderr.write(line if refused else "".join(traceback.format_exception(failure)))
        _end(2 if refused else 1)


def _end(code: int) -> NoReturn:
    """End at once: neither wait for ranks that are gone, nor abort because they are."""
    for stream in (sys.stdout, sys.stderr, sys.__stderr__):
        if stream is not None:
            stream.flush()
    time.sleep(LINGER)
    os._exit(code)


def leave() -> None:
    """Part from the other ranks: what follows, this one does alone."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _join(rank: int) -> Any:
    """Join all processes; what they can leave messages in for each other."""
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
        line = str(error).strip().partition("\n")[0]
        raise DeviceError(
            f"rank {rank} of {os.environ['WORLD_SIZE']} did not find the others ({line}): start "
            "all of them, with the same MASTER_ADDR and a free MASTER_PORT"
        ) from error
    return store


def _speaks(store: Any, rank: int, text: str) -> bool:
    """Whether this rank is the one to say it: rank 0, or the first one where rank 0 is silent."""
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
    """The error that says it, where the connection to another rank broke."""
    if isinstance(error, PinsError) or not isinstance(error, RuntimeError):
        return None
    text = str(error).lower()
    if not isinstance(error, dist.DistError) and not any(word in text for word in LOST):
        return None
    return DeviceError(
        "a rank has lost the others, one of which ended or hangs: see what that one said, and give "
        "the same command with --resume to go on from the last checkpoint"
    )


def _number(name: str) -> int:
    try:
        return int(os.environ[name])
    except ValueError:
        raise DeviceError(
            f"{name} is {os.environ[name]!r} in the environment: torchrun sets it to a whole number"
        ) from None
