"""Hooks on an optimiser: whether it took a step, and the weights before the step."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.optim import Optimizer

from pins.distributed.sharding import group_of, local
from pins.errors import ObservationError


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
        optimizer.register_step_post_hook(self._after_step)
        if wanted is not None:
            optimizer.register_step_pre_hook(self._before_step)

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
                "since the last time: call it once after each optimizer.step()"
            )

    def _before_step(self, *_: object) -> None:
        if self._wanted is not None and self._wanted():
            self.before = {name: local(p.detach()).clone() for name, p in self._parameters.items()}

    def _after_step(self, optimizer: Optimizer, *_: object) -> None:
        # at an overflow `GradScaler` calls a fused optimiser and tells it to skip the step
        overflow = getattr(optimizer, "found_inf", None)
        self._taken |= overflow is None or not bool(local(overflow))
