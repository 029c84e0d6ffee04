"""Checkpoints of a run: everything it needs to resume bit for bit; atomic, without pickle.

A checkpoint is a folder `step-NNNNNN` of two files: tensors.safetensors, and state.json with the
scalars, the fingerprint of the run, and the SHA-256 of the tensors and of itself. The folder is
renamed into its place when both files are on the disk, and the earlier checkpoint is removed after
that: a killed process and a loss of power leave a whole one. `torch.distributed.checkpoint` is not
used, because it has no digests and, with one process, no atomic replacement.
"""

import contextlib
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from pins.errors import CheckpointError, FileError
from pins.runs.fingerprint import difference
from pins.utils.io import (
    DIGEST,
    begin_folder,
    commit_folder,
    load_tensors,
    read_state,
    save_tensors,
    sha256,
    write_state,
)
from pins.utils.text_files import shown

FORMAT = "pins-checkpoint"
VERSION = 3  # 1 had no digest of the state, 2 no masks of the start
TENSORS, STATE = "tensors.safetensors", "state.json"
NAME = re.compile(r"step-(\d{6,})")


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint.

    Attributes:
        step: optimiser steps taken.
        tensors: by the names they were saved under.
        scalars: JSON values by name.
    """

    step: int
    tensors: dict[str, Tensor]
    scalars: dict[str, Any]


def save(
    folder: Path,
    step: int,
    tensors: Mapping[str, Tensor],
    scalars: Mapping[str, Any],
    fingerprint: Mapping[str, Any],
) -> Path:
    """Write the checkpoint of a step below `folder`, then remove the earlier ones.

    Args:
        folder: of this run's checkpoints.
        step: optimiser steps taken.
        tensors: by name.
        scalars: JSON values; floats keep their bits.
        fingerprint: JSON values that a run must share to resume from here, as JSON has them.

    Raises:
        FileError: it cannot be written; the earlier checkpoint is unchanged.
    """
    place = folder / folder_name(step)
    temporary = begin_folder(place)
    try:
        save_tensors(tensors, temporary / TENSORS, {"format": FORMAT})
        state = {
            "format": FORMAT,
            "version": VERSION,
            "step": step,
            "fingerprint": fingerprint,
            "tensors_sha256": sha256(temporary / TENSORS),
            "scalars": scalars,
        }
        write_state(state, temporary / STATE)
        commit_folder(temporary, place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    remove(folder, keep=place)
    return place


def folder_name(step: int) -> str:
    """The name of the checkpoint after this step."""
    return f"step-{step:06}"


def remove(folder: Path, keep: Path | None = None) -> None:
    """Remove the checkpoints of a run (except `keep`), whole and unfinished; nothing else."""
    if not folder.is_dir():
        return
    for each in folder.iterdir():
        ours = NAME.fullmatch(each.name) or each.name.startswith((".unfinished-", ".earlier-step-"))
        if ours and each != keep:
            shutil.rmtree(each, ignore_errors=True)
    with contextlib.suppress(OSError):  # the folder holds other files
        folder.rmdir()


def latest(folder: Path) -> Path | None:
    """The checkpoint with the most steps; None if there is none."""
    if not folder.is_dir():
        return None
    found = {int(m[1]): each for each in folder.iterdir() if (m := NAME.fullmatch(each.name))}
    return found[max(found)] if found else None


def load(place: Path, fingerprint: Mapping[str, Any]) -> Checkpoint:
    """Read a checkpoint of a run with this fingerprint.

    Raises:
        CheckpointError: it is torn, was changed, or belongs to another run.
    """
    state = read_state(place / STATE, FORMAT, VERSION)
    _require_same_run(place, state.get("fingerprint"), fingerprint)
    try:
        step, scalars, digest = state["step"], state["scalars"], state["tensors_sha256"]
        if not isinstance(step, int) or not isinstance(scalars, dict) or DIGEST not in state:
            raise TypeError("step or scalars of another type, or no digest")
        if place.name != folder_name(step):
            raise CheckpointError(f"{place} holds step {step}: it was renamed, or is torn")
        found = sha256(place / TENSORS)
        if found != digest:
            raise CheckpointError(
                f"{place / TENSORS} has SHA-256 {found}, {STATE} says {shown(digest)}: it is torn "
                "or was changed; remove this checkpoint to start again"
            )
        tensors, _ = load_tensors(place / TENSORS)
    except (KeyError, TypeError, FileError) as error:
        raise CheckpointError(f"{place} is torn: {error}") from error
    return Checkpoint(step, tensors, scalars)


def _require_same_run(place: Path, found: Any, wanted: Mapping[str, Any]) -> None:
    if not isinstance(found, dict):
        raise CheckpointError(f"{place} is torn: it has no fingerprint")
    if differs := difference(found, wanted):
        name, its, own = differs
        raise CheckpointError(
            f"{place} is of another run: its {name} is {its}, this run's is {own}; give the same "
            "settings, or another folder"
        )
