"""Checkpoints of a sharded training in a plain loop; any number of ranks can resume from them.

save_training(folder, model, optimizer, pruner)      # collectives: every rank calls them
load_training(folder, model, optimizer, pruner)

The caller saves the position in the data, a scheduler and the random generators.
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
    optimizer_tensors,
)
from pins.pruning.fingerprint import require_same
from pins.pruning.pruner import TENSORS, Pruner
from pins.utils.io import flatten, unflatten


def save_training(
    folder: Path | str,
    model: nn.Module,
    optimizer: Optimizer,
    pruner: Pruner,
    regularizer: SelfRegularizer | None = None,
    *,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write everything that the training needs to resume, with any number of ranks.

    Args:
        folder: of the checkpoint; an earlier checkpoint is replaced.
        model: sharded with `fully_shard`, or not.
        optimizer: its optimiser, whose state consists of tensors.
        pruner: of the model.
        regularizer: of the model, if it has one.
        extra: JSON values of the caller, such as a scheduler's state.

    Raises:
        FileError: it cannot be written.
    """
    model = unwrapped(model)
    reshard(model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    state = pruner.state_dict()
    groups = {
        "model": model_tensors(model),
        "optimizer": optimizer_tensors(optimizer, names),
        **{name: state.pop(name) for name in TENSORS},
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
        groups["teacher"], scalars["teacher"] = regularizer.state_dict()
    save(folder, flatten(groups), scalars)


def load_training(
    folder: Path | str,
    model: nn.Module,
    optimizer: Optimizer,
    pruner: Pruner,
    regularizer: SelfRegularizer | None = None,
) -> dict[str, Any]:
    """Restore the state that `save_training` wrote.

    Args:
        folder: of the checkpoint.
        model: with the same weights, sharded over any ranks, or not.
        optimizer: of the same class; its state is replaced.
        pruner: of the model, with the same settings; its schedule may have other steps, see
            `Pruner.load_state_dict`.
        regularizer: of the model, if the training had one.

    Returns:
        The values of the caller, `extra`.

    Raises:
        CheckpointError: the checkpoint is torn, or belongs to another training.
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
        require_same(state["settings"], pruner.settings)  # before anything is changed
        load_model(model, unflatten(tensors, "model"))
        load_optimizer(optimizer, unflatten(tensors, "optimizer"), dict(model.named_parameters()))
        for group, options in zip(optimizer.param_groups, groups, strict=True):
            _set_options(group, options)
            _place_steps(optimizer, group)
        pruner.load_state_dict({**state, **{n: unflatten(tensors, n) for n in TENSORS}})
        if regularizer is not None:
            regularizer.load_state_dict(unflatten(tensors, "teacher"), scalars["teacher"])
        return dict(scalars["extra"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder} is not of this training: {error}") from error


def _set_options(group: dict[str, Any], options: Mapping[str, Any]) -> None:
    """Set options of a group; a tensor stays a tensor on its device, a tuple stays a tuple."""
    for name, value in options.items():
        own = group.get(name)
        if isinstance(own, Tensor):
            own.fill_(value)
        else:
            group[name] = tuple(value) if isinstance(own, tuple) else value


def _place_steps(optimizer: Optimizer, group: Mapping[str, Any]) -> None:
    """Move step counts to the device, for optimisers that run there alone (fused, capturable)."""
    if group.get("fused") or group.get("capturable"):
        for parameter in group["params"]:
            state = optimizer.state[parameter]
            if "step" in state:
                state["step"] = state["step"].to(parameter.device)


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) else value
