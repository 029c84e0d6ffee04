"""The state of a pruning with the Trainer, saved in the Trainer's own checkpoint folder.

One safetensors file; for a sharded model, a folder to which every rank writes its parts.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pins.distributed import checkpoint
from pins.distributed.sharding import is_sharded, reshard
from pins.errors import CheckpointError, PinsError
from pins.masks import count_broken, require_same_tensors
from pins.models.state_dicts import model_tensors
from pins.pruning.pruner import TENSORS
from pins.utils.io import flatten, load_tensors, save_tensors, unflatten

FILE = "pins.safetensors"
FOLDER = "pins"  # of a sharded checkpoint
FORMAT = "pins-trainer-state"
VERSION = "4"

SCALARS = ("steps", "due", "finished", "sparsity", "settings", "radius_factor")

Teacher = tuple[Mapping[str, Tensor], Mapping[str, Any]]  # SelfRegularizer.state_dict()


@dataclass(frozen=True)
class PruningCheckpoint:
    """The state of a pruning after a step.

    Attributes:
        steps: optimiser steps taken.
        masks: in force, True = keep.
        settings: what decides the masks, see `pins.pruning.fingerprint`.
        sparsity: the scheduled sparsity of the latest decision, as a fraction in text.
        finished: whether the last decision was taken.
        due: whether a decision waits for a step that the optimiser does not skip.
        start: masks that no decision leaves, of the tensors that start with zeros.
        smoothing: the averages, from `Smoothing.state_dict`.
        radius_factor: factor of the radius of a trust region.
        teacher: tensors and JSON values of the self-regularisation; None without one.
        folder: of the checkpoint that was read.
    """

    steps: int
    masks: Mapping[str, Tensor]
    settings: Mapping[str, Any]
    sparsity: str = "0"
    finished: bool = True
    due: bool = False
    start: Mapping[str, Tensor] = field(default_factory=dict)
    smoothing: Mapping[str, Tensor] = field(default_factory=dict)
    radius_factor: float = 1.0
    teacher: Teacher | None = None
    folder: Path | None = None

    @property
    def sharded(self) -> bool:
        """Whether any tensor is sharded over ranks."""
        return any(is_sharded(tensor) for tensor in self._tensors().values())

    def save(self, folder: Path) -> None:
        """Write the state into the folder of a checkpoint; if sharded, every rank calls this."""
        scalars: dict[str, Any] = {name: getattr(self, name) for name in SCALARS}
        if self.teacher is not None:
            _, scalars["teacher"] = self.teacher
        if self.sharded:
            checkpoint.save(folder / FOLDER, self._tensors(), scalars)
        else:
            metadata = {"format": FORMAT, "version": VERSION, "scalars": json.dumps(scalars)}
            save_tensors(self._tensors(), folder / FILE, metadata)

    def _tensors(self) -> dict[str, Tensor]:
        teacher = {} if self.teacher is None else self.teacher[0]
        own = {name: getattr(self, name) for name in TENSORS}
        return flatten({**own, "teacher": teacher})

    def masks_on_devices(self, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
        """The masks, each on the device of its weights."""
        return {name: mask.to(parameters[name].device) for name, mask in self.masks.items()}

    def pruner_state(self, parameters: Mapping[str, nn.Parameter]) -> dict[str, Any]:
        """The argument of `Pruner.load_state_dict`."""
        state = {name: getattr(self, name) for name in (*SCALARS, *TENSORS)}
        return {**state, "masks": self.masks_on_devices(parameters)}

    def require_model(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Check that the masks have the names and shapes of these weights.

        Raises:
            CheckpointError: names or shapes differ.
        """
        try:
            require_same_tensors(parameters, self.masks)
        except PinsError as error:
            raise CheckpointError(
                f"the checkpoint {self.folder} is of another model: {error}"
            ) from error

    def require_weights(self, parameters: Mapping[str, nn.Parameter], steps: int) -> None:
        """Check that the masks belong to these weights: every pruned weight is zero.

        Raises:
            CheckpointError: the masks come from another checkpoint than the weights.
        """
        self.require_model(parameters)
        alive = count_broken(self.masks, parameters)
        if self.steps != steps or alive:
            raise CheckpointError(
                f"the masks in {self.folder} are of step {self.steps} and prune {alive:,} weights "
                f"that are not zero; the Trainer resumes after step {steps}: they come from "
                "another checkpoint than its weights"
            )


def load(folder: Path, model: nn.Module | None = None) -> PruningCheckpoint:
    """Read the state of a pruning from a checkpoint.

    Args:
        folder: of the checkpoint.
        model: sharded as in training; from a sharded checkpoint each rank reads its parts. None:
            each rank reads the whole tensors.

    Raises:
        CheckpointError: the file is missing, torn, or of another format.
    """
    place = folder / FOLDER
    if not checkpoint.is_checkpoint(place):
        return _load_file(folder)
    weights: Mapping[str, Tensor] = {}
    if model is not None:
        reshard(model)
        weights = model_tensors(model)
    tensors, scalars = checkpoint.load(place, lambda name: checkpoint.owner(name, weights))
    try:
        return _from_tensors(tensors, scalars, folder)
    except (KeyError, ValueError, TypeError) as error:
        raise _not_read(place, error) from error


def require(folder: Path, parameters: Mapping[str, nn.Parameter] | None = None) -> None:
    """Check that a checkpoint holds a pruning of parameters of these shapes; no part is read.

    Raises:
        CheckpointError: the file is missing, torn, of another format, or of another model.
    """
    if checkpoint.is_checkpoint(folder / FOLDER):
        shapes = unflatten(checkpoint.shapes(folder / FOLDER), "masks")
        masks = {n: torch.empty(s, dtype=torch.bool, device="meta") for n, s in shapes.items()}
        state = PruningCheckpoint(0, masks, {}, folder=folder)
    else:
        state = _load_file(folder)
    if parameters is not None:
        state.require_model(parameters)


def _load_file(folder: Path) -> PruningCheckpoint:
    file = folder / FILE
    if not file.is_file():
        raise CheckpointError(
            f"{file} is missing: the checkpoint was not written with a PruningCallback, was not "
            "finished, or lies elsewhere; name another one (a plain Trainer's callback is told by "
            "its resume(folder))"
        )
    try:
        tensors, metadata = load_tensors(file)
        if metadata.get("format") != FORMAT:
            raise ValueError("its metadata names another format")
        if (version := metadata.get("version")) != VERSION:
            raise ValueError(f"it has version {version} of the format, this PINS reads {VERSION}")
        return _from_tensors(tensors, json.loads(metadata["scalars"]), folder)
    except (PinsError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise _not_read(file, error) from error


def _not_read(place: Path, error: Exception) -> CheckpointError:
    reason = f"it lacks {error}" if isinstance(error, KeyError) else error
    return CheckpointError(
        f"{place} does not hold the state of a pruning: {reason}; resume from another checkpoint"
    )


def _from_tensors(
    tensors: dict[str, Tensor], scalars: Mapping[str, Any], folder: Path
) -> PruningCheckpoint:
    teacher = scalars.get("teacher")
    return PruningCheckpoint(
        steps=int(scalars["steps"]),
        masks=unflatten(tensors, "masks"),
        settings=dict(scalars["settings"]),
        sparsity=str(scalars["sparsity"]),
        finished=bool(scalars["finished"]),
        due=bool(scalars["due"]),
        start=unflatten(tensors, "start"),
        smoothing=unflatten(tensors, "smoothing"),
        radius_factor=float(scalars["radius_factor"]),
        teacher=None if teacher is None else (unflatten(tensors, "teacher"), dict(teacher)),
        folder=folder,
    )
