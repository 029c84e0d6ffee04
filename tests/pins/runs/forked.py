"""Processes forked from one that has imported torch, transformers and PINS already.

To import them takes a process seconds, and several at once as many times longer.
"""

import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from pins.cli import main
from pins.utils.child_process import end_with
from tests.pins.ranks import PRELOADED


class Forked:
    """A call in a process of its own, with its exit code and what it prints."""

    def __init__(
        self, call: Callable[..., Any], arguments: Sequence[Any], file: Path, **environment: object
    ) -> None:
        """Start the call; `file` is where its output goes, with two suffixes."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(
            [*PRELOADED, "torchmetrics", "transformers.models.bert.modeling_bert",
             "tests.pins.runs.forked", "tests.pins.runs.distributed_runs"]
        )  # fmt: skip
        self._files = [file.with_name(f"{file.name}.{stream}") for stream in ("out", "err")]
        given = {name: str(value) for name, value in environment.items()}
        self.process = context.Process(target=_run, args=(call, arguments, self._files, given))
        self.process.start()

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """Standard output and standard error of the process, which must end in time."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.process.kill()
            raise TimeoutError(f"a process was to end in {timeout} seconds")
        output, errors = (file.read_text() for file in self._files)
        return output, errors


def _run(
    call: Callable[..., Any],
    arguments: Sequence[Any],
    files: Sequence[Path],
    environment: dict[str, str],
) -> None:
    end_with(os.getppid())  # the server that it is forked from, which ends with the tests
    for number, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    os.environ.update(environment)
    torch.set_num_threads(1)
    call(*arguments)


def pins(*words: str) -> None:
    """The command `pins`."""
    sys.argv = ["pins", *words]
    main()


def ranks(
    size: int, call: Callable[..., Any], arguments: Sequence[Any], file: Path
) -> list[Forked]:
    """The call in `size` processes, as torchrun starts them, but nobody ends them all."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [
        Forked(
            call, arguments, file.with_name(f"{file.name}.{rank}"), RANK=rank, LOCAL_RANK=rank,
            WORLD_SIZE=size, MASTER_ADDR="127.0.0.1", MASTER_PORT=port,
        )
        for rank in range(size)
    ]  # fmt: skip


def wait_until(condition: Callable[[], bool], processes: Sequence[Forked]) -> bool:
    """Whether the condition came true before a process ended."""
    while not condition():
        if any(each.process.exitcode is not None for each in processes):
            return False
        time.sleep(0.01)
    return True
