"""Where a pruning with the Trainer stands: beside the Trainer's own files in a checkpoint.

One file; of a model that is sharded over ranks, a folder to which every rank writes its parts.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pins.distributed import checkpoint
from pins.distributed.sharding import group_of, is_sharded, local, part, reshard
from pins.errors import CheckpointError, PinsError
from pins.masks import require_same_tensors
from pins.models.state_dicts import model_tensors, nested
from pins.utils.io import load_tensors, save_tensors

FILE = "pins.safetensors"
FOLDER = "pins"  # of a sharded checkpoint
FORMAT = "pins-trainer-state"
VERSION = "2"

Teacher = tuple[Mapping[str, Tensor], Mapping[str, Any]]  # as a SelfRegularizer says its state


@dataclass(frozen=True)
class PruningCheckpoint:
    """Where a pruning stands after a step.

    Attributes:
        steps: optimiser steps taken.
        masks: in force, True = keep.
        due: whether a decision waits for a step that the optimiser takes.
        smoothing: the averages, as `Smoothing.state_dict` says them.
        radius_factor: on the radius of a trust region.
        teacher: tensors and JSON values of the self-regularisation; None without one.
        folder: of the checkpoint it was read from.
    """

    steps: int
    masks: Mapping[str, Tensor]
    due: bool = False
    smoothing: Mapping[str, Tensor] = field(default_factory=dict)
    radius_factor: float = 1.0
    teacher: Teacher | None = None
    folder: Path | None = None

    @property
    def sharded(self) -> bool:
        """Whether each rank holds parts of it alone."""
        return any(is_sharded(tensor) for tensor in self._tensors().values())

    def save(self, folder: Path) -> None:
        """Write it into the folder of a checkpoint; of sharded masks, all ranks together."""
        scalars: dict[str, Any] = {
            "steps": self.steps,
            "due": self.due,
            "radius_factor": self.radius_factor,
        }
        if self.teacher is not None:
            _, scalars["teacher"] = self.teacher
        if self.sharded:
            checkpoint.save(folder / FOLDER, self._tensors(), scalars)
        else:
            metadata = {"format": FORMAT, "version": VERSION, "scalars": json.dumps(scalars)}
            save_tensors(self._tensors(), folder / FILE, metadata)

    def _tensors(self) -> dict[str, Tensor]:
        groups = {"masks": self.masks, "smoothing": self.smoothing}
        if self.teacher is not None:
            groups["teacher"], _ = self.teacher
        return {f"{g}/{name}": t for g, named in groups.items() for name, t in named.items()}

    def masks_beside(self, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
        """The masks, each where its weights are."""
        return {name: mask.to(parameters[name].device) for name, mask in self.masks.items()}

    def pruner_state(self, parameters: Mapping[str, nn.Parameter]) -> dict[str, Any]:
        """What `Pruner.load_state_dict` takes."""
        return {
            "steps": self.steps,
            "due": self.due,
            "masks": self.masks_beside(parameters),
            "smoothing": self.smoothing,
            "radius_factor": self.radius_factor,
        }

    def require_model(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """The masks are of these weights.

        Raises:
            CheckpointError: names or shapes differ.
        """
        try:
            require_same_tensors(parameters, self.masks)
        except PinsError as error:
            raise CheckpointError(
                f"the checkpoint {self.folder} is of another model: {error}"
            ) from error

    @torch.no_grad()
    def require_weights(self, parameters: Mapping[str, nn.Parameter], steps: int) -> None:
        """The masks are of these very weights: what they prune is zero.

        Raises:
            CheckpointError: they come from another checkpoint than the weights.
        """
        self.require_model(parameters)
        pruned = [
            local(weight)[~part(self.masks[name], weight).to(local(weight).device)]
            for name, weight in parameters.items()
        ]
        count = torch.tensor(sum(int(each.count_nonzero()) for each in pruned))
        alive = int(group_of(parameters).total(count))
        if self.steps != steps or alive:
            raise CheckpointError(
                f"the masks in {self.folder} are of step {self.steps} and prune {alive:,} weights "
                f"that are not zero; the Trainer goes on after step {steps}: they come from "
                "another checkpoint than its weights"
            )


def load(folder: Path, model: nn.Module | None = None) -> PruningCheckpoint:
    """Read where a pruning stood at a checkpoint.

    Args:
        folder: of the checkpoint.
        model: sharded as it is to be trained; of a sharded checkpoint each rank reads its parts,
            without a model the whole.

    Raises:
        CheckpointError: the file is missing, torn, or none.
    """
    place = folder / FOLDER
    if not checkpoint.is_checkpoint(place):
        return _load_file(folder)
    weights: Mapping[str, Tensor] = {}
    if model is not None:
        reshard(model)
        weights = model_tensors(model)
    tensors, scalars = checkpoint.load(place, lambda name: checkpoint.owner(name, weights))
    return _standing(tensors, scalars, folder)


def require(folder: Path, parameters: Mapping[str, nn.Parameter] | None = None) -> None:
    """A pruning stood there, of parameters of these shapes; of what is sharded no part is read.

    Raises:
        CheckpointError: the file is missing, torn, or none, or it is of another model.
    """
    if checkpoint.is_checkpoint(folder / FOLDER):
        shapes = checkpoint.shapes(folder / FOLDER)
        masks = {
            name.removeprefix("masks/"): torch.empty(shape, dtype=torch.bool, device="meta")
            for name, shape in shapes.items()
            if name.startswith("masks/")
        }
        standing = PruningCheckpoint(0, masks, folder=folder)
    else:
        standing = _load_file(folder)
    if parameters is not None:
        standing.require_model(parameters)


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
        return _standing(tensors, json.loads(metadata["scalars"]), folder)
    except (PinsError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{file} is not where a pruning stood: {error}; resume from another checkpoint"
        ) from error


def _standing(
    tensors: dict[str, Tensor], scalars: Mapping[str, Any], folder: Path
) -> PruningCheckpoint:
    teacher = scalars.get("teacher")
    return PruningCheckpoint(
        steps=int(scalars["steps"]),
        masks=nested(tensors, "masks"),
        due=bool(scalars["due"]),
        smoothing=nested(tensors, "smoothing"),
        radius_factor=float(scalars["radius_factor"]),
        teacher=None if teacher is None else (nested(tensors, "teacher"), dict(teacher)),
        folder=folder,
    )
