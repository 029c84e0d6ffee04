"""Checkpoints of a sharded training in a plain loop, that any number of ranks goes on from.

save_training(folder, model, optimizer, pruner)      # all ranks together
load_training(folder, model, optimizer, pruner)      # as many as there are now

The rows that come next, a scheduler and the random generators are the caller's own to keep.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from pins.distributed.checkpoint import load, owner, save
from pins.distributed.sharding import reshard
from pins.errors import CheckpointError
from pins.models.parameters import unwrapped
from pins.models.self_distillation import SelfRegularizer
from pins.models.state_dicts import (
    load_model,
    load_optimizer,
    model_tensors,
    nested,
    optimizer_tensors,
)
from pins.pruning.pruner import Pruner


def save_training(
    folder: Path | str,
    model: nn.Module,
    optimizer: Optimizer,
    pruner: Pruner,
    regularizer: SelfRegularizer | None = None,
    *,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write all that the training needs to go on, at this or another number of ranks.

    Args:
        folder: of the checkpoint; what stands there is replaced.
        model: sharded with `fully_shard`, or not.
        optimizer: its optimiser, whose state is made of tensors.
        pruner: of the model.
        regularizer: of the model, where there is one.
        extra: JSON values of the caller's own, as a scheduler's state.

    Raises:
        FileError: it cannot be written.
    """
    model = unwrapped(model)
    reshard(model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    state = pruner.state_dict()
    tensors = {
        **_under("model", model_tensors(model)),
        **_under("optimizer", optimizer_tensors(optimizer, names)),
        **_under("masks", state.pop("masks")),
        **_under("smoothing", state.pop("smoothing")),
    }
    scalars: dict[str, Any] = {
        "pruner": state,
        "groups": [
            {name: _number(value) for name, value in group.items() if name != "params"}
            for group in optimizer.param_groups
        ],
        "extra": dict(extra or {}),
    }
    if regularizer is not None:
        own, scalars["teacher"] = regularizer.state_dict()
        tensors |= _under("teacher", own)
    save(folder, tensors, scalars)


def load_training(
    folder: Path | str,
    model: nn.Module,
    optimizer: Optimizer,
    pruner: Pruner,
    regularizer: SelfRegularizer | None = None,
) -> dict[str, Any]:
    """Go on where `save_training` stood.

    Args:
        folder: of the checkpoint.
        model: of the same weights, sharded over any ranks, or not.
        optimizer: of the same kind, in place of whose state that of the checkpoint comes.
        pruner: of the model, with the same criterion, schedule and smoothing.
        regularizer: of the model, where there was one.

    Returns:
        The caller's own values, `extra`.

    Raises:
        CheckpointError: it is torn, or of another training.
    """
    model = unwrapped(model)
    reshard(model)
    weights = model_tensors(model)
    tensors, scalars = load(folder, lambda name: owner(name, weights))
    try:
        groups, state = scalars["groups"], scalars["pruner"]
        if len(groups) != len(optimizer.param_groups):
            raise CheckpointError(
                f"{folder} has {len(groups)} groups of parameters, the optimiser "
                f"{len(optimizer.param_groups)}: give the same"
            )
        if (regularizer is None) != ("teacher" not in scalars):
            raise CheckpointError(
                f"{folder} was written with{'' if 'teacher' in scalars else 'out'} a regularizer: "
                "load it in the same way"
            )
        load_model(model, nested(tensors, "model"))
        load_optimizer(optimizer, nested(tensors, "optimizer"), dict(model.named_parameters()))
        for group, options in zip(optimizer.param_groups, groups, strict=True):
            _set_options(group, options)
            _place_steps(optimizer, group)
        pruner.load_state_dict(
            {**state, "masks": nested(tensors, "masks"), "smoothing": nested(tensors, "smoothing")}
        )
        if regularizer is not None:
            regularizer.load_state_dict(nested(tensors, "teacher"), scalars["teacher"])
        return dict(scalars["extra"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder} is not of this training: {error}") from error


def _set_options(group: dict[str, Any], options: Mapping[str, Any]) -> None:
    """Numbers that are tensors stay tensors, on their device; pairs stay pairs."""
    for name, value in options.items():
        own = group.get(name)
        if isinstance(own, Tensor):
            own.fill_(value)
        else:
            group[name] = tuple(value) if isinstance(own, tuple) else value


def _place_steps(optimizer: Optimizer, group: Mapping[str, Any]) -> None:
    """Optimisers that run on the device alone count their steps there."""
    if group.get("fused") or group.get("capturable"):
        for parameter in group["params"]:
            state = optimizer.state[parameter]
            if "step" in state:
                state["step"] = state["step"].to(parameter.device)


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) else value


def _under(kind: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{kind}/{name}": tensor for name, tensor in tensors.items()}
