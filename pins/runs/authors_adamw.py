"""The AdamW of the released code: that of earlier transformers, which later versions lack."""

import math
from collections.abc import Callable
from typing import Any

import torch

# parts of the names of parameters without weight decay
NO_DECAY = ("bias", "LayerNorm.weight")


class AuthorsAdamW(torch.optim.AdamW):
    """θ ← θ − η√c₂/c₁ · m/(√v + ε), then θ ← θ − ηλθ, with cᵢ = 1 − βᵢᵗ at step t.

    torch's AdamW decays first, and divides by √(v/c₂) + ε: its ε is smaller by the factor √c₂,
    1/32 at the first step. The state has the same names as that of torch.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; return the loss of the closure, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: torch.Tensor, group: dict[str, Any]) -> None:
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        (beta1, beta2), count = group["betas"], state["step"].item()
        mean = state["exp_avg"].mul_(beta1).add_(gradient, alpha=1 - beta1)
        square = state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        size = group["lr"] * math.sqrt(1 - beta2**count) / (1 - beta1**count)
        parameter.addcdiv_(mean, square.sqrt().add_(group["eps"]), value=-size)
        if group["weight_decay"] > 0:
            parameter.add_(parameter, alpha=-group["lr"] * group["weight_decay"])
