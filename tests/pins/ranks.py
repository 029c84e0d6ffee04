"""Checks that run on several processes together, joined by gloo; a process holds one rank."""

import datetime
import multiprocessing
import os
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from pins.utils.child_process import end_with

Check = Callable[[int, int, Path], None]  # rank, number of ranks, a folder that all ranks see
TIMEOUT = datetime.timedelta(seconds=60)  # of a rank that waits for one that is not there
PATIENCE = 600  # seconds, after which a rank counts as hanging, also on a busy machine
# imported once, by the process that the ranks are forked from: importing takes seconds
PRELOADED = [
    "torch.distributed.fsdp",
    "torch.distributed.checkpoint",
    "tests.pins.trainer.trainers",
]
SPOILT = "not run: a check before it failed"


def run_together(
    checks: Sequence[Check], size: int, folder: Path, *, ports: bool = False
) -> Mapping[str, str | None]:
    """What went wrong with each check, by its name; None where nothing did.

    One start of the processes for all checks, one after the other.
    """
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    ranks = [
        context.Process(target=_work, args=(rank, checks, size, folder, ports))
        for rank in range(size)
    ]
    for each in ranks:
        each.start()
    for each in ranks:
        each.join(PATIENCE)
        if each.is_alive():
            each.kill()
    codes = [each.exitcode for each in ranks]
    found: dict[str, str | None] = {}
    for check in checks:
        said = [_said(folder, check, rank) for rank in range(size)]
        texts = [file.read_text() for file in said if file.is_file()]
        texts += [f"the ranks ended with {codes}"] if any(codes) else []
        found[check.__name__] = "\n".join(texts) or None
    return found


def on_ranks(checks: Sequence[Check], sizes: Sequence[int]) -> tuple[Any, Any]:
    """A fixture that runs all checks once for each number of ranks, and a test of each of them.

    In a test module: `found, test_on_ranks = on_ranks(CHECKS, SIZES)`, by these names.
    """

    @pytest.fixture(scope="module", params=sizes, ids="{} ranks".format)
    def found(
        request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
    ) -> dict[str, str | None]:
        size = int(request.param)
        return dict(run_together(checks, size, tmp_path_factory.mktemp(f"ranks{size}")))

    @pytest.mark.parametrize("check", checks, ids=lambda check: check.__name__)
    def test_on_ranks(found: dict[str, str | None], check: Check) -> None:
        assert found[check.__name__] is None, found[check.__name__]

    return found, test_on_ranks


def mesh_of(size: int) -> DeviceMesh:
    """All ranks, along one dimension."""
    return init_device_mesh("cpu", (size,))


def _work(rank: int, checks: Sequence[Check], size: int, folder: Path, ports: bool) -> None:
    end_with(os.getppid())  # the server that it is forked from, which ends with the tests
    torch.set_num_threads(1)
    if ports:  # as torchrun tells those that ask the environment
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size))
        os.environ.update(LOCAL_WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    meeting = f"file://{folder / 'meeting'}"
    dist.init_process_group(
        "gloo", init_method=meeting, rank=rank, world_size=size, timeout=TIMEOUT
    )
    spoilt = False
    for check in checks:
        try:
            if spoilt:
                raise AssertionError(SPOILT)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                check(rank, size, folder / check.__name__)
        except BaseException:
            spoilt = True
            _said(folder, check, rank).write_text(f"rank {rank}: {traceback.format_exc()}")
    # a rank that leaves early breaks the connection of the others
    if not spoilt:
        dist.barrier()
    dist.destroy_process_group()


def _said(folder: Path, check: Check, rank: int) -> Path:
    return folder / f"{check.__name__}.{rank}.txt"


def raises(kind: type[BaseException], text: str, call: Callable[[], Any]) -> None:
    """The call raises that error, whose one line has the text."""
    with pytest.raises(kind) as raised:
        call()
    message = str(raised.value)
    assert text in message, message
    assert "\n" not in message, message
