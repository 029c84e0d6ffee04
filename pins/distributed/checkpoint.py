"""Checkpoints of sharded tensors: each rank writes its parts, any number of ranks reads them.

A folder of safetensors files of `torch.distributed.checkpoint`, one per rank, and checkpoint.json
with scalars, shapes and the sizes of the files. Nothing is gathered or pickled. The folder is
renamed into its place when all ranks have written: a killed process leaves the earlier one whole.

`save` and `load` are collectives; all ranks see the same folder.
"""

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from pins.distributed.collectives import on_rank_zero
from pins.distributed.process_group import world
from pins.distributed.sharding import like_sharding, local
from pins.errors import CheckpointError, FileError, first_line
from pins.utils.io import begin_folder, commit_folder, read_state, write_state, writing

if TYPE_CHECKING:
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

FORMAT = "pins-sharded-checkpoint"
VERSION = 1
STATE = "checkpoint.json"

Like = Callable[[str], Tensor | None]


def save(folder: Path | str, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> None:
    """Write named tensors and JSON values, atomically; each rank writes its parts.

    Args:
        folder: of the checkpoint; an earlier checkpoint is replaced, anything else is refused.
        tensors: by name; those that are not sharded are the same on all ranks.
        scalars: JSON values; those of rank 0 are written.

    Raises:
        FileError: it cannot be written; the earlier checkpoint is unchanged.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save as save_parts

    folder, group = Path(folder), world()
    temporary = Path(on_rank_zero(group, lambda: _begin(folder)))
    try:
        writer = HuggingFaceStorageWriter(str(temporary), save_distributed=True)
        values = {name: tensor.detach() for name, tensor in tensors.items()}
        with _quiet_in_one_process():
            save_parts(values, storage_writer=writer, no_dist=not dist.is_initialized())
    except CheckpointException as error:
        raise FileError(f"{folder} cannot be written: {_reasons(error)}") from error
    state = {
        "format": FORMAT,
        "version": VERSION,
        "tensors": {name: list(tensor.shape) for name, tensor in tensors.items()},
        "scalars": scalars,
    }
    on_rank_zero(group, lambda: _finish(folder, temporary, state))


def load(folder: Path | str, like: Like) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint that any number of ranks wrote.

    Args:
        folder: of the checkpoint.
        like: returns for a name a tensor of the same shape, whose sharding and device the result
            gets; None: every rank reads the whole tensor, on the CPU.

    Returns:
        Tensors by name, in the dtypes that were written, and the scalars.

    Raises:
        CheckpointError: there is no whole checkpoint, or a shape differs.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load as load_parts

    folder = Path(folder)
    state = _read_state(folder)
    reader = HuggingFaceStorageReader(str(folder))
    try:
        found: Mapping[str, Any] = reader.read_metadata().state_dict_metadata
        if {name: list(each.size) for name, each in found.items()} != state["tensors"]:
            raise ValueError("its files and checkpoint.json do not name the same tensors")
        tensors = {name: _empty(name, found[name], like(name)) for name in state["tensors"]}
        with _quiet_in_one_process():
            load_parts(tensors, storage_reader=reader, no_dist=not dist.is_initialized())
    except CheckpointException as error:
        raise CheckpointError(f"{folder} cannot be read: {_reasons(error)}") from error
    except CheckpointError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{folder} is torn: {error}") from error
    return tensors, state["scalars"]


def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors by name; no tensor is read.

    Raises:
        CheckpointError: there is no whole checkpoint.
    """
    return {name: tuple(shape) for name, shape in _read_state(folder)["tensors"].items()}


def is_checkpoint(folder: Path) -> bool:
    """Whether the folder holds a sharded checkpoint."""
    return (folder / STATE).is_file()


def _begin(folder: Path) -> str:
    with writing(folder):
        foreign = folder.exists() and not is_checkpoint(folder) and any(folder.iterdir())
    if foreign:
        raise FileError(f"{folder} exists and is no {FORMAT}: give another folder")
    return str(begin_folder(folder))


def _finish(folder: Path, temporary: Path, state: Mapping[str, Any]) -> None:
    """After all ranks have written: add the state, and move the folder to its place."""
    files = {each.name: each.stat().st_size for each in sorted(temporary.iterdir())}
    try:
        write_state({**state, "files": files}, temporary / STATE)
    except (TypeError, ValueError) as error:
        raise FileError(
            f"{folder} cannot be written: its scalars are no JSON values ({error})"
        ) from error
    commit_folder(temporary, folder)


@contextlib.contextmanager
def _quiet_in_one_process() -> Iterator[None]:
    """Without the warning of torch that a single process writes alone."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        yield


def _read_state(folder: Path) -> dict[str, Any]:
    """The state of a checkpoint whose files all have the size that it gives."""
    state = read_state(folder / STATE, FORMAT, VERSION)
    if not all(isinstance(state.get(key), dict) for key in ("files", "tensors", "scalars")):
        raise CheckpointError(f"{folder / STATE} is torn: it lacks files, tensors or scalars")
    for name, size in state["files"].items():
        file = folder / os.path.basename(name)  # noqa: PTH119 (a name in a file is no path)
        held = file.stat().st_size if file.is_file() else None
        if held != size:
            raise CheckpointError(
                f"{file} has {held} bytes, {STATE} says {size}: it is torn; take an earlier "
                "checkpoint"
            )
    return state


def _empty(name: str, found: "TensorStorageMetadata", like: Tensor | None) -> Tensor:
    """Uninitialised memory for the part of a tensor that this rank reads."""
    if like is None:
        return torch.empty(found.size, dtype=found.properties.dtype)
    if like.shape != found.size:
        raise CheckpointError(
            f"{name!r} has shape {tuple(found.size)} in the checkpoint and {tuple(like.shape)} "
            "here: it is of another model"
        )
    return like_sharding(torch.empty_like(local(like), dtype=found.properties.dtype), like)


def _reasons(error: Any) -> str:
    """The error of the first rank that failed, in one line."""
    rank, (cause, _) = min(error.failures.items())
    return f"rank {rank}: {first_line(cause)}"


def owner(name: str, weights: Mapping[str, Tensor]) -> Tensor | None:
    """The weights that a tensor of a checkpoint belongs to; None for a number.

    W is the name of the weights in `model/W`, `masks/W`, `start/W`, `teacher/W`, `smoothing/KIND/W`
    and `optimizer/W/QUANTITY`. `smoothing/KIND.count/W` and `optimizer/W/step` are numbers.
    """
    kind, _, rest = name.partition("/")
    if kind == "optimizer":
        rest, _, quantity = rest.rpartition("/")
        return None if quantity == "step" else weights.get(rest)
    if kind == "smoothing":
        kind, _, rest = rest.partition("/")
        return None if kind.endswith(".count") else weights.get(rest)
    return weights.get(rest)
