"""Keep zeros: fine-tune a sparse model without losing its sparsity."""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.optim import Optimizer

from pins.distributed.sharding import like_sharding, local
from pins.errors import ParameterError
from pins.models.parameters import PrunableParameters
from pins.pruning.active_masks import ActiveMasks, resolve_parameters


def nonzero_masks(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """mᵢ = 1 iff θᵢ ≠ 0, by name; sharded like the tensors."""
    return {
        name: like_sharding(local(tensor.detach()) != 0, tensor) for name, tensor in tensors.items()
    }


def keep_zeros(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    parameters: Mapping[str, nn.Parameter] | PrunableParameters | None = None,
    masks: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """θ ← m⊙θ now and after every step of the optimiser; mᵢ = 1 iff θᵢ ≠ 0 now.

    Args:
        model: a sparse model, as `from_pretrained` loads it.
        optimizer: the optimiser that trains it.
        parameters: the weights by name; default: the prunable weights of the model.
        masks: m by name, True = keep; default: where the weights are not zero.

    Returns:
        The masks, True = keep.

    Raises:
        ParameterError: no weight is zero.
        MaskError: the masks belong to other parameters.
    """
    weights = resolve_parameters(model, parameters)
    active = ActiveMasks(weights, nonzero_masks(weights) if masks is None else masks)
    active.apply()
    if not active.sparsity:
        total = sum(weight.numel() for weight in weights.values())
        raise ParameterError(
            f"keep_zeros() found no zero among {total:,} weights: the model is dense; load a "
            "pruned one, or name the weights that were pruned"
        )
    optimizer.register_step_post_hook(lambda *_: active.apply())
    return active.get()
