"""Named tensors of sharded models on disk: each rank writes its parts, any number reads them.

A folder of safetensors files of `torch.distributed.checkpoint`, one a rank, and checkpoint.json
with scalars and what belongs to it. Nothing is gathered, nothing is pickled. It is written beside
its place and renamed into it when all ranks are done, so a killed process leaves the last whole
one.

All ranks call these functions together, and see the same folder.
"""

import contextlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from pins.distributed.sharding import like_sharding, local
from pins.errors import CheckpointError, FileError
from pins.utils.io import flush, write_json

if TYPE_CHECKING:
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

FORMAT = "pins-sharded-checkpoint"
VERSION = 1
STATE = "checkpoint.json"

Like = Callable[[str], Tensor | None]


def save(folder: Path | str, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> None:
    """Write named tensors, sharded ones part by part, and JSON values; whole or not at all.

    Args:
        folder: of the checkpoint; one that stands there is replaced, anything else is refused.
        tensors: by name; those that are not sharded are the same on all ranks.
        scalars: JSON values, of which those of the first rank are written.

    Raises:
        FileError: it cannot be written; the earlier checkpoint stands.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save as save_together

    folder = Path(folder)
    temporary = folder.parent / f".unfinished-{folder.name}"
    together = dist.is_initialized()
    _first_rank(lambda: _begin(folder, temporary), folder)
    try:
        writer = HuggingFaceStorageWriter(str(temporary), save_distributed=True)
        # it is written at once: nothing is changed meanwhile, so no copy is needed
        with _quiet_alone():
            save_together(dict(tensors), storage_writer=writer, no_dist=not together)
    except CheckpointException as error:
        raise FileError(f"{folder} cannot be written: {_reasons(error)}") from error
    state = {
        "format": FORMAT,
        "version": VERSION,
        "tensors": {name: list(tensor.shape) for name, tensor in tensors.items()},
        "scalars": scalars,
    }
    _first_rank(lambda: _finish(folder, temporary, state), folder)


def load(folder: Path | str, like: Like) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save` wrote, whatever number of ranks wrote it.

    Args:
        folder: of the checkpoint.
        like: of each name a tensor of the same shape; what is read is cut as it is, and lies where
            it lies. None: every rank reads the whole of it, on the CPU.

    Returns:
        Tensors by name, in the dtypes that they were written in, and the scalars.

    Raises:
        CheckpointError: it is torn, is none, or a shape is another.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load as load_together

    folder = Path(folder)
    state = _read_state(folder)
    reader = HuggingFaceStorageReader(str(folder))
    try:
        found: Mapping[str, Any] = reader.read_metadata().state_dict_metadata
        if {name: list(each.size) for name, each in found.items()} != state["tensors"]:
            raise ValueError("its files and checkpoint.json do not name the same tensors")
        tensors = {name: _empty(name, found[name], like(name)) for name in state["tensors"]}
        with _quiet_alone():
            load_together(tensors, storage_reader=reader, no_dist=not dist.is_initialized())
    except CheckpointException as error:
        raise CheckpointError(f"{folder} cannot be read: {_reasons(error)}") from error
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{folder} is torn: {error}") from error
    return tensors, state["scalars"]


def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors by name, without reading them.

    Raises:
        CheckpointError: as `load`.
    """
    return {name: tuple(shape) for name, shape in _read_state(folder)["tensors"].items()}


def is_checkpoint(folder: Path) -> bool:
    """Whether such a checkpoint stands there."""
    return (folder / STATE).is_file()


def _begin(folder: Path, temporary: Path) -> None:
    if folder.exists() and not is_checkpoint(folder) and any(folder.iterdir()):
        raise FileError(f"{folder} exists and is no {FORMAT}: give another folder")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)


def _finish(folder: Path, temporary: Path, state: Mapping[str, Any]) -> None:
    """All ranks have written: say what belongs to the checkpoint, and put it in its place."""
    files = {each.name: each.stat().st_size for each in sorted(temporary.iterdir())}
    write_json({**state, "files": files}, temporary / STATE)
    flush(temporary)
    earlier = folder.parent / f".earlier-{folder.name}"
    shutil.rmtree(earlier, ignore_errors=True)
    if folder.exists():
        folder.rename(earlier)
    temporary.rename(folder)
    flush(folder)
    shutil.rmtree(earlier, ignore_errors=True)


def _first_rank(act: Callable[[], None], folder: Path) -> None:
    """Rank 0 acts, the others wait; what goes wrong there is an error everywhere.

    Raises:
        FileError: as rank 0 met it.
    """
    failure: str | None = None
    if not dist.is_initialized() or dist.get_rank() == 0:
        try:
            act()
        except FileError as error:
            failure = str(error)
        except OSError as error:
            failure = f"{folder} cannot be written: {error.strerror or error}"
        except (TypeError, ValueError) as error:
            failure = f"{folder} cannot be written: its scalars are no JSON values ({error})"
    if dist.is_initialized():
        told = [failure]
        dist.broadcast_object_list(told, src=0)
        failure = told[0]
    if failure is not None:
        raise FileError(failure)


@contextlib.contextmanager
def _quiet_alone() -> Iterator[None]:
    """One process that has joined no others need not be told so."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        yield


def _read_state(folder: Path) -> dict[str, Any]:
    """checkpoint.json, of a checkpoint whose files are all there."""
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{folder / STATE} cannot be read ({error}): it is no checkpoint, or was not finished"
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{folder / STATE} is no {FORMAT}")
    if state.get("version") != VERSION:
        raise CheckpointError(
            f"{folder} has version {state.get('version')!r} of the format, this PINS reads "
            f"{VERSION}"
        )
    if not all(isinstance(state.get(key), dict) for key in ("files", "tensors", "scalars")):
        raise CheckpointError(f"{folder / STATE} is torn: it does not say what belongs to it")
    for name, size in state["files"].items():
        file = folder / os.path.basename(name)  # noqa: PTH119 (what a file says is no path)
        held = file.stat().st_size if file.is_file() else None
        if held != size:
            raise CheckpointError(
                f"{file} has {held} bytes, {STATE} says {size}: it is torn; take an earlier "
                "checkpoint"
            )
    return state


def _empty(name: str, found: "TensorStorageMetadata", like: Tensor | None) -> Tensor:
    """Room for what this rank reads of a tensor."""
    if like is None:
        return torch.empty(found.size, dtype=found.properties.dtype)
    if like.shape != found.size:
        raise CheckpointError(
            f"{name!r} has shape {tuple(found.size)} in the checkpoint and {tuple(like.shape)} "
            "here: it is of another model"
        )
    return like_sharding(torch.empty_like(local(like), dtype=found.properties.dtype), like)


def _reasons(error: Any) -> str:
    """What went wrong on the first rank that it went wrong on, in a line."""
    rank, (cause, _) = min(error.failures.items())
    return f"rank {rank}: {str(cause).strip().partition(chr(10))[0]}"


def owner(name: str, weights: Mapping[str, Tensor]) -> Tensor | None:
    """The weights that a tensor of a checkpoint belongs to; None where it is a number of its own.

    `model/W`, `masks/W` and `teacher/W` have the name at the end, `smoothing/KIND/W` has a kind
    before it, and `optimizer/W/QUANTITY` a quantity behind.
    """
    kind, _, rest = name.partition("/")
    if kind == "optimizer":
        rest, _, quantity = rest.rpartition("/")
        return None if quantity == "step" else weights.get(rest)
    if kind == "smoothing":
        kind, _, rest = rest.partition("/")
        return None if kind.endswith(".count") else weights.get(rest)
    return weights.get(rest)
