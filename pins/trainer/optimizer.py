"""The torch optimiser of a Trainer."""

from typing import Any

from torch import nn
from torch.optim import Optimizer

from pins.distributed.sharding import require_fsdp2
from pins.errors import ParameterError, SettingError
from pins.pruning.optimizer_hooks import unwrapped_optimizer


def torch_optimizer(optimizer: Any, model: nn.Module, *, deepspeed: bool) -> Optimizer:
    """The optimiser that takes the steps, without the wrapper of accelerate.

    Args:
        optimizer: as the Trainer gives it to its callbacks.
        model: as the Trainer gives it to its callbacks.
        deepspeed: whether the Trainer uses DeepSpeed.

    Raises:
        SettingError: another library keeps the weights or gradients.
    """
    if deepspeed:
        raise SettingError(
            "PruningCallback was given a Trainer with DeepSpeed, which keeps weights and gradients "
            "to itself: train without it, or with FSDP2 (fsdp=True)"
        )
    inner = unwrapped_optimizer(optimizer, "PruningCallback")
    try:
        require_fsdp2(model)
    except ParameterError as error:
        raise SettingError(
            "PruningCallback was given a Trainer with FSDP1, which flattens weights into one: use "
            "FSDP2, fsdp_config={'version': 2}"
        ) from error
    return inner
