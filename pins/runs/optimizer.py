"""The optimiser of a run, and its learning rate: a linear warm-up, then linear decay to 0."""

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from pins.errors import ModelError
from pins.runs.settings import Settings


def make_optimizer(model: nn.Module, settings: Settings) -> Optimizer:
    """The optimiser that the settings name, over all trainable parameters.

    Weight decay leaves out the parameters of one dimension, which are biases and the weights of
    norms, unless `decay_all` is set.
    """
    assert settings.learning_rate is not None
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [{"params": trained}]
    if settings.weight_decay and not settings.decay_all:
        groups = [
            {"params": [p for p in trained if p.dim() > 1]},
            {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
        ]
    optimizer = torch.optim.SGD if settings.optimizer == "sgd" else torch.optim.AdamW
    return optimizer(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay)


def learning_rate(settings: Settings, step: int) -> float:
    """η·t/(w+1) at step t ≤ w of T steps, w of warm-up; then η·(T−t+1)/(T−w): the paper's.

    Step numbers begin at 1; η is the highest learning rate.
    """
    assert settings.learning_rate is not None
    assert settings.steps is not None
    assert settings.warmup is not None
    if step <= settings.warmup:
        return settings.learning_rate * (step / (settings.warmup + 1))
    left = max(settings.steps - step + 1, 0)
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
