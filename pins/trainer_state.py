"""Where a pruning with the Trainer stands: one file beside the Trainer's own in a checkpoint."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pins.checkpoints import nested
from pins.errors import CheckpointError, PinsError
from pins.files import load_tensors, save_tensors
from pins.optimality import require_same_tensors

FILE = "pins.safetensors"
FORMAT = "pins-trainer-state"
VERSION = "2"

Teacher = tuple[Mapping[str, Tensor], Mapping[str, Any]]  # as a SelfRegularizer says its state


@dataclass(frozen=True)
class Standing:
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

    def save(self, folder: Path) -> None:
        """Write it into the folder of a checkpoint."""
        groups: dict[str, Mapping[str, Tensor]] = {
            "masks": self.masks,
            "smoothing": self.smoothing,
        }
        scalars: dict[str, Any] = {
            "steps": self.steps,
            "due": self.due,
            "radius_factor": self.radius_factor,
        }
        if self.teacher is not None:
            groups["teacher"], scalars["teacher"] = self.teacher
        tensors = {f"{g}/{name}": t for g, named in groups.items() for name, t in named.items()}
        metadata = {"format": FORMAT, "version": VERSION, "scalars": json.dumps(scalars)}
        save_tensors(tensors, folder / FILE, metadata)

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
        alive = sum(
            int(weight[~self.masks[name].to(weight.device)].count_nonzero())
            for name, weight in parameters.items()
        )
        if self.steps != steps or alive:
            raise CheckpointError(
                f"the masks in {self.folder} are of step {self.steps} and prune {alive:,} weights "
                f"that are not zero; the Trainer goes on after step {steps}: they come from "
                "another checkpoint than its weights"
            )


def load(folder: Path) -> Standing:
    """Read where a pruning stood at a checkpoint.

    Raises:
        CheckpointError: the file is missing, torn, or none.
    """
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
        scalars = json.loads(metadata["scalars"])
        teacher = scalars.get("teacher")
        return Standing(
            steps=int(scalars["steps"]),
            masks=nested(tensors, "masks"),
            due=bool(scalars["due"]),
            smoothing=nested(tensors, "smoothing"),
            radius_factor=float(scalars["radius_factor"]),
            teacher=None if teacher is None else (nested(tensors, "teacher"), dict(teacher)),
            folder=folder,
        )
    except (PinsError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{file} is not where a pruning stood: {error}; resume from another checkpoint"
        ) from error
