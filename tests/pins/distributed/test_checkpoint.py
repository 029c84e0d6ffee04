"""Checkpoints that any number of ranks writes and any number reads, whole or not at all."""

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from pins.distributed.checkpoint import STATE, is_checkpoint, load, save, shapes
from pins.distributed.sharding import is_sharded, local, whole
from pins.errors import CheckpointError, FileError
from pins.utils.io import write_state
from tests.pins.ranks import mesh_of, raises, run_together

WRITERS, READERS = (1, 2, 4), (1, 2, 3)
DTYPES = (torch.float32, torch.bfloat16, torch.float64, torch.bool, torch.int64)
SCALARS: dict[str, Any] = {"steps": 7, "rate": 0.1, "nested": {"names": ["a", None]}}


def tensors() -> dict[str, Tensor]:
    """Of 1, 2, 5 and 7 rows: some ranks hold fewer than others, or none."""
    generator = torch.Generator().manual_seed(0)
    return {
        f"kind/{rows}.{dtype}": (torch.randn(rows, 3, generator=generator) * 9).to(dtype)
        for rows in (1, 2, 5, 7)
        for dtype in DTYPES
    }


def cut(tensor: Tensor, size: int) -> Tensor:
    return distribute_tensor(tensor, mesh_of(size), [Shard(0)])


def written(_rank: int, size: int, folder: Path) -> None:
    """The earlier checkpoint is replaced; what an earlier attempt left is no hindrance."""
    place = folder.parent.parent / f"checkpoint-{size}"
    sharded = {name: cut(tensor, size) for name, tensor in tensors().items()}
    save(place, {"old": torch.ones(2)}, {})
    assert load(place, lambda _: None)[0].keys() == {"old"}
    torch.distributed.barrier()
    save(place, {**sharded, "count": torch.tensor(3), "plain": torch.arange(4)}, SCALARS)
    assert is_checkpoint(place)
    torch.distributed.barrier()
    assert not [each.name for each in place.parent.iterdir() if each.name.startswith(".")]
    assert not any(each.suffix in (".pt", ".pth", ".distcp") for each in place.iterdir())


def replicas_write_once(rank: int, size: int, folder: Path) -> None:
    """Hybrid sharding: what two ranks hold alike is written by one of them."""
    if size != 4:
        return
    mesh = init_device_mesh("cpu", (2, 2))
    tensor = torch.arange(35).view(7, 5)
    save(folder / "c", {"t": distribute_tensor(tensor, mesh, [Replicate(), Shard(0)])}, {})
    if rank == 0:
        files = [each for each in (folder / "c").iterdir() if each.suffix == ".safetensors"]
        assert sum(each.stat().st_size for each in files) < 2 * tensor.nbytes + 400
        assert len(files) == 2
    found, _ = load(folder / "c", lambda _: cut(torch.zeros_like(tensor), size))
    assert torch.equal(whole(found["t"]), tensor)


def failures_are_told_everywhere(rank: int, size: int, folder: Path) -> None:
    """What goes wrong on rank 0 is an error on every rank, and what stood there stands."""
    other = folder / "notes"
    if rank == 0:
        other.mkdir(parents=True)
        (other / "mine.txt").write_text("mine")
    torch.distributed.barrier()
    raises(FileError, "exists and is no pins-sharded-checkpoint", lambda: save(other, {}, {}))
    assert (other / "mine.txt").read_text() == "mine"
    place = folder / "checkpoint"
    save(place, {"first": cut(torch.ones(3, 2), size)}, {"step": 1})
    unknown = {"step": object()}
    raises(FileError, "are no JSON values", lambda: save(place, {}, unknown))
    found, scalars = load(place, lambda _: None)
    assert scalars == {"step": 1}
    assert torch.equal(found["first"], torch.ones(3, 2))


def read(_rank: int, size: int, folder: Path) -> None:
    """Every writer's checkpoint is read by every number of ranks: in parts, and whole."""
    expected = tensors()
    for writers in WRITERS:
        place = folder.parent.parent / f"checkpoint-{writers}"
        likes = {name: cut(torch.zeros_like(t), size) for name, t in expected.items()}
        found, scalars = load(place, likes.get)
        assert scalars == SCALARS
        assert shapes(place) == {name: tuple(t.shape) for name, t in found.items()}
        assert found.keys() == {*expected, "count", "plain"}
        assert found.pop("count") == 3
        assert torch.equal(found.pop("plain"), torch.arange(4))
        for name, tensor in expected.items():
            assert is_sharded(found[name])
            assert local(found[name]).shape == local(likes[name]).shape
            assert found[name].dtype == tensor.dtype
            assert torch.equal(whole(found[name]), tensor), name
        alone, _ = load(place, lambda _: None)
        assert all(torch.equal(alone[name], tensor) for name, tensor in expected.items())
        other = partial(load, place, lambda _: torch.zeros(9, 3))
        raises(CheckpointError, "it is of another model", other)


def damaged(rank: int, size: int, folder: Path) -> None:
    """A checkpoint that lacks something is refused, on every rank, for what it lacks."""
    whole_one = folder.parent.parent / "checkpoint-4"

    def missing(place: Path) -> None:
        next(place.glob("*00002*")).unlink()

    def short(place: Path) -> None:
        file = next(place.glob("*00003*"))
        file.write_bytes(file.read_bytes()[:-8])

    def renamed(place: Path) -> None:
        state = json.loads((place / STATE).read_text())
        state["tensors"]["kind/7.torch.bool"] = [8, 3]
        write_state(state, place / STATE)

    def edited(place: Path) -> None:
        state = json.loads((place / STATE).read_text())
        state["tensors"]["kind/7.torch.bool"] = [8, 3]
        (place / STATE).write_text(json.dumps(state))

    def strange(place: Path) -> None:
        (place / STATE).write_text('{"format": "other"}')

    def newer(place: Path) -> None:
        state = json.loads((place / STATE).read_text())
        (place / STATE).write_text(json.dumps({**state, "version": 9}))

    def unfinished(place: Path) -> None:
        (place / STATE).unlink()

    for damage, message in (
        (missing, "has None bytes, checkpoint.json says"),
        (short, "it is torn; take an earlier checkpoint"),
        (renamed, "do not name the same tensors"),
        (edited, "it is torn or was changed"),
        (strange, "is no pins-sharded-checkpoint"),
        (newer, "has version 9 of the format"),
        (unfinished, "or was not finished"),
    ):
        place = folder / damage.__name__
        if rank == 0:
            shutil.copytree(whole_one, place)
            damage(place)
        torch.distributed.barrier()
        raises(CheckpointError, message, partial(load, place, lambda _: None))
        torch.distributed.barrier()
    assert size


WRITING = (written, replicas_write_once, failures_are_told_everywhere)
READING = (read, damaged)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    folder = tmp_path_factory.mktemp("checkpoints")
    found: dict[str, str | None] = {}
    for kind, checks, sizes in (("writers", WRITING, WRITERS), ("readers", READING, READERS)):
        for size in sizes:
            said = run_together(checks, size, folder / f"{kind}-{size}")
            found |= {f"{name} by {size}": text for name, text in said.items()}
    return found


@pytest.mark.parametrize(
    "check",
    [
        f"{check.__name__} by {size}"
        for checks, sizes in ((WRITING, WRITERS), (READING, READERS))
        for check in checks
        for size in sizes
    ],
)
def test_on_ranks(found: dict[str, str | None], check: str) -> None:
    assert found[check] is None, found[check]


def test_without_ranks(tmp_path: Path) -> None:
    """One process that has joined no others writes and reads the same."""
    save(tmp_path / "one", tensors(), SCALARS)
    found, scalars = load(tmp_path / "one", lambda _: None)
    assert scalars == SCALARS
    assert list(found) == list(tensors())
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors().items())
