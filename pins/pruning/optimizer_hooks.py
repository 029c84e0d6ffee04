"""Hooks on an optimiser: whether it took a step, and the weights before the step."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from pins.distributed.sharding import group_of, local
from pins.errors import ObservationError, SettingError

INNER = ("optimizer", "base_optimizer", "_base_optimizer")  # as wrappers keep what they wrap
DEPTH = 9  # of wrappers in wrappers


def unwrapped_optimizer(optimizer: Any, caller: str) -> Optimizer:
    """The optimiser that takes the steps, inside the wrappers that keep it under one of `INNER`.

    Accelerate, Lookahead and SWA wrap so. An optimiser that takes hooks itself is not opened.

    Raises:
        SettingError: it is no torch optimiser that takes hooks, or DeepSpeed's.
    """
    inner = optimizer
    for _ in range(DEPTH):
        if not isinstance(inner, Optimizer):
            break
        if _takes_hooks(inner):
            return inner
        inner = next((getattr(inner, name) for name in INNER if hasattr(inner, name)), None)
    advice = "give the torch optimiser that it wraps"
    if isinstance(optimizer, list | tuple | dict):
        advice = "give one, whose groups hold every weight to prune"
    elif any("deepspeed" in type(each).__module__.lower() for each in (optimizer, inner)):
        advice = "DeepSpeed keeps weights and gradients to itself; use FSDP2 (fully_shard)"
    raise SettingError(
        f"{caller}() was given a {type(optimizer).__name__} as its optimiser, which takes no "
        f"hooks: {advice}"
    )


def _takes_hooks(optimizer: Optimizer) -> bool:
    """Whether hooks on it are called: some wrappers have the tables, but a step without hooks."""
    has_table = hasattr(optimizer, "_optimizer_step_post_hooks")
    return has_table and getattr(type(optimizer).step, "hooked", False)


class OptimizerHooks:
    """Records the steps of an optimiser between two calls of `Pruner.step`.

    Attributes:
        before: copies of the local parts of θ before the last step, by name; empty if not wanted.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        parameters: Mapping[str, Tensor],
        wanted: Callable[[], bool] | None = None,
    ) -> None:
        """Register the hooks.

        Args:
            optimizer: the optimiser.
            parameters: θ by name.
            wanted: called before each step: whether to copy θ; None: never.
        """
        self.before: dict[str, Tensor] = {}
        self._taken = False
        self._optimizer, self._parameters, self._wanted = optimizer, parameters, wanted
        self._handles = [optimizer.register_step_post_hook(self._after_step)]
        if wanted is not None:
            self._handles.append(optimizer.register_step_pre_hook(self._before_step))

    def remove(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()

    def step_taken(self) -> bool:
        """Whether the optimiser took a step since the last call of this method."""
        taken, self._taken = self._taken, False
        return taken

    def clear(self) -> None:
        """Release the copies of the weights."""
        self.before = {}

    def require_overflow(self) -> None:
        """Check that the optimiser took no step because a gradient overflowed (`GradScaler`).

        Raises:
            ObservationError: all gradients are finite.
        """
        gradients = [
            local(parameter.grad)
            for group in self._optimizer.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        overflows = torch.tensor(sum(not bool(g.isfinite().all()) for g in gradients))
        if not int(group_of(self._parameters).total(overflows)):
            raise ObservationError(
                f"Pruner.step() was called and {type(self._optimizer).__name__} has taken no step "
                "since the last time: call it once after each optimizer.step() (with accelerate: "
                "if accelerator.sync_gradients)"
            )

    def _before_step(self, *_: object) -> None:
        if self._wanted is not None and self._wanted():
            self.before = {name: local(p.detach()).clone() for name, p in self._parameters.items()}

    def _after_step(self, optimizer: Optimizer, *_: object) -> None:
        # at an overflow `GradScaler` calls a fused optimiser and tells it to skip the step
        overflow = getattr(optimizer, "found_inf", None)
        self._taken |= overflow is None or not bool(local(overflow))
