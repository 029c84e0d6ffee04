"""Zeros that stay: fine-tune a sparse model further without losing its sparsity."""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.optim import Optimizer

from pins.distributed.sharding import like_sharding, local, part
from pins.errors import ParameterError
from pins.masks import apply, count, require_same_tensors
from pins.models.parameters import PrunableParameters, prunable_parameters


def nonzero_masks(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """mᵢ = 1 where θᵢ ≠ 0, by name; of sharded tensors sharded alike."""
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
    """θ ← m⊙θ now and after every step of the optimiser; m is 1 where θ is not zero now.

    Args:
        model: a sparse model, as `from_pretrained` loads it.
        optimizer: that goes on training it.
        parameters: the weights to watch by name; default: the prunable ones of the model.
        masks: m by name, True = keep, in place of where the weights are not zero.

    Returns:
        The masks, True = keep.

    Raises:
        ParameterError: there is no zero to keep.
        MaskError: the masks are of other parameters.
    """
    if parameters is None:
        parameters = prunable_parameters(model)
    if isinstance(parameters, PrunableParameters):
        parameters = parameters.parameters
    watched = dict(parameters)
    given = nonzero_masks(watched) if masks is None else masks
    require_same_tensors(watched, given)
    kept = {name: _beside(given[name], weight) for name, weight in watched.items()}
    apply(kept, watched)
    ones = count(kept)
    if ones.kept == ones.total:
        raise ParameterError(
            f"keep_zeros() found no zero among {ones.total:,} weights: the model is dense; load a "
            "pruned one, or name the weights that were pruned"
        )

    def restore(*_: object) -> None:
        apply(kept, watched)

    optimizer.register_step_post_hook(restore)
    return kept


def _beside(mask: Tensor, weight: Tensor) -> Tensor:
    """Where the weight is, and cut as it is: files hold whole masks, on the CPU."""
    return like_sharding(part(mask, weight).to(local(weight).device), weight)
