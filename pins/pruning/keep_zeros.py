"""Keep zeros: fine-tune a sparse model without losing its sparsity."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from pins.distributed.sharding import like_sharding
from pins.errors import ParameterError
from pins.masks import nonzero_masks
from pins.models.parameters import PrunableParameters
from pins.pruning.active_masks import ActiveMasks, resolve_parameters
from pins.pruning.optimizer_hooks import unwrapped_optimizer


class KeptZeros(Mapping[str, Tensor]):
    """The masks of `keep_zeros` by name, True = keep, in force until `remove()`.

    Attributes:
        sparsity: 1 − kept ratio.
    """

    def __init__(self, active: ActiveMasks, removes: Sequence[Callable[[], None]]) -> None:
        self.sparsity = active.sparsity
        self._active, self._removes = active, removes

    def remove(self) -> None:
        """Let the next steps of the optimiser change all weights."""
        for remove in self._removes:
            remove()

    def __getitem__(self, name: str) -> Tensor:
        return like_sharding(self._active.packed[name], self._active.parameters[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._active.packed)

    def __len__(self) -> int:
        return len(self._active.packed)


def keep_zeros(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    parameters: Mapping[str, nn.Parameter] | PrunableParameters | None = None,
    masks: Mapping[str, Tensor] | None = None,
) -> KeptZeros:
    """θ ← m⊙θ now and after every step of the optimiser; mᵢ = 1 iff θᵢ ≠ 0 now.

    Args:
        model: a sparse model, as `from_pretrained` loads it.
        optimizer: the optimiser that trains it, or what accelerate made of it.
        parameters: the weights by name; default: the prunable weights of the model.
        masks: m by name, True = keep; default: where the weights are not zero.

    Returns:
        The masks, True = keep; their `remove()` ends it.

    Raises:
        ParameterError: no weight is zero.
        SettingError: the optimiser takes no hooks.
        MaskError: the masks belong to other parameters.
    """
    inner = unwrapped_optimizer(optimizer, "keep_zeros")
    weights = resolve_parameters(model, parameters)
    active = ActiveMasks(weights, nonzero_masks(weights) if masks is None else masks)
    active.apply()
    if not active.sparsity:
        total = sum(weight.numel() for weight in weights.values())
        raise ParameterError(
            f"keep_zeros() found no zero among {total:,} weights: the model is dense; load a "
            "pruned one, or name the weights that were pruned"
        )
    removes = [inner.register_step_post_hook(lambda *_: active.apply()).remove]
    if optimizer is not inner:  # Lookahead moves weights after the step of what it wraps
        removes.append(_after_steps(optimizer, active.apply))
    return KeptZeros(active, removes)


def _after_steps(optimizer: Optimizer, action: Callable[[], None]) -> Callable[[], None]:
    """Call `action` after each step of an optimiser without hooks; returns what ends it."""
    step, on = optimizer.step, [True]

    @wraps(step)
    def step_and_action(*given: Any, **named: Any) -> Any:
        result = step(*given, **named)
        if on:
            action()
        return result

    optimizer.step = step_and_action  # type: ignore[method-assign] # as schedulers do
    return on.clear
