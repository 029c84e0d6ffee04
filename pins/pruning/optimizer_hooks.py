"""Did the optimiser take a step, and what were the weights before it? Two hooks say it."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.optim import Optimizer

from pins.distributed.sharding import group_of, local
from pins.errors import ObservationError


class StepWatch:
    """Watches the steps of an optimiser from one call of `Pruner.step` to the next.

    Attributes:
        before: θ by name, copies from before the last step, of what this rank holds; empty where
            nobody wanted them.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        parameters: Mapping[str, Tensor],
        wanted: Callable[[], bool] | None = None,
    ) -> None:
        """Hook in.

        Args:
            optimizer: to watch.
            parameters: θ by name.
            wanted: asked before each step, whether to copy them; None: never.
        """
        self.before: dict[str, Tensor] = {}
        self._taken = False
        self._optimizer, self._parameters, self._wanted = optimizer, parameters, wanted
        optimizer.register_step_post_hook(self._remember_step)
        if wanted is not None:
            optimizer.register_step_pre_hook(self._remember_weights)

    def taken(self) -> bool:
        """Whether the optimiser took a step since the last time that this was asked."""
        taken, self._taken = self._taken, False
        return taken

    def forget(self) -> None:
        """Let go of the weights."""
        self.before = {}

    def require_overflow(self) -> None:
        """That no step was taken must have a reason: `GradScaler` found an overflow.

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

    def _remember_weights(self, *_: object) -> None:
        if self._wanted is not None and self._wanted():
            self.before = {name: local(p.detach()).clone() for name, p in self._parameters.items()}

    def _remember_step(self, optimizer: Optimizer, *_: object) -> None:
        # fused optimisers are called at an overflow, too, and told by `GradScaler` to stay
        overflow = getattr(optimizer, "found_inf", None)
        self._taken |= overflow is None or not bool(local(overflow))
