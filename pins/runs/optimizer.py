"""The optimiser of a run, and its learning rate: a linear warm-up, then linear decay to 0."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from pins.errors import ModelError
from pins.runs.authors_adamw import NO_DECAY, AuthorsAdamW
from pins.runs.settings import Settings


def make_optimizer(model: nn.Module, settings: Settings, *, authors: bool = False) -> Optimizer:
    """The optimiser that the settings name, over all trainable parameters.

    Weight decay leaves out the parameters of one dimension, which are biases and the weights of
    norms, unless `decay_all` is set. With `authors`, `AuthorsAdamW`, and decay leaves out the
    parameters with one of `NO_DECAY` in their name.
    """
    assert settings.learning_rate is not None
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    groups: list[dict[str, Any]] = [{"params": [*trained.values()]}]
    if settings.weight_decay and not settings.decay_all:
        left_out = {
            name
            for name, parameter in trained.items()
            if (any(part in name for part in NO_DECAY) if authors else parameter.dim() <= 1)
        }
        groups = [
            {"params": [p for name, p in trained.items() if name not in left_out]},
            {
                "params": [trained[name] for name in trained if name in left_out],
                "weight_decay": 0.0,
            },
        ]
    optimizer: Callable[..., Optimizer] = torch.optim.AdamW
    if authors:
        optimizer = AuthorsAdamW
    elif settings.optimizer == "sgd":
        optimizer = torch.optim.SGD
    return optimizer(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay)


def learning_rate(settings: Settings, step: int, *, scheduler_first: bool = False) -> float:
    """η·t/(w+1) at step t ≤ w of T steps, w of warm-up; then η·(T−t+1)/(T−w): the paper's.

    With `scheduler_first`, η·t/w, then η·(T−t)/(T−w): transformers' linear schedule, moved before
    the optimiser's step, as in the released code. Step numbers begin at 1; η is the highest
    learning rate.
    """
    assert settings.learning_rate is not None
    assert settings.steps is not None
    assert settings.warmup is not None
    ahead = int(scheduler_first)
    if step <= settings.warmup:
        return settings.learning_rate * (step / (settings.warmup + 1 - ahead))
    left = max(settings.steps - step + 1 - ahead, 0)
    return settings.learning_rate * (left / max(settings.steps - settings.warmup, 1))


def enable_gradient_checkpointing(model: nn.Module) -> None:
    """Keep few activations for the backward pass, and compute the others again in it.

    Raises:
        ModelError: the model cannot.
    """
    # its name since transformers 5.20 or so; the earlier one goes in 6
    enable: Any = getattr(model, "activation_checkpointing_enable", None)
    try:
        (enable or model.gradient_checkpointing_enable)()  # type: ignore[operator]
    except (ValueError, AttributeError) as error:
        raise ModelError(
            f"{type(model).__name__} cannot compute activations twice: leave "
            "gradient_checkpointing out"
        ) from error
