"""What takes the steps: the optimiser, and its learning rate, up and then down to nothing."""

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from pins.errors import ModelError
from pins.runs.settings import Settings


def make_optimizer(model: nn.Module, settings: Settings) -> Optimizer:
    """The optimiser of the settings, of all parameters that are trained."""
    assert settings.learning_rate is not None
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            trained, lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
    return torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=settings.weight_decay)


def set_learning_rate(optimizer: Optimizer, settings: Settings, step: int) -> None:
    """That of the step to come: set before each, also where the one before overflowed."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(settings, step)


def learning_rate(settings: Settings, step: int) -> float:
    """That of steps 1, 2, …: up in the warm-up, highest after it, linearly down to 0 at the end.

    The paper's; of T steps and w of warm-up, step t has t/(w+1) of the highest, then (T−t+1)/(T−w).
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
