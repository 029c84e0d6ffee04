"""The masks of the latest decision, held as one bit per weight and applied to the weights."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pins.distributed.sharding import group_of, like_sharding, local, part
from pins.errors import OptimalityError
from pins.masks import PackedMasks, count, require_same_tensors
from pins.models.parameters import PrunableParameters, prunable_parameters


def resolve_parameters(
    model: nn.Module, parameters: Mapping[str, nn.Parameter] | PrunableParameters | None
) -> dict[str, nn.Parameter]:
    """The given parameters by name; default: the prunable parameters of the model."""
    if parameters is None:
        parameters = prunable_parameters(model)
    if isinstance(parameters, PrunableParameters):
        parameters = parameters.parameters
    return dict(parameters)


class ActiveMasks:
    """θ ← m⊙θ for masks m of named parameters; of sharded parameters this rank holds its part.

    Attributes:
        parameters: θ by name.
        group: the ranks that hold the parts.
        packed: the masks of the local parts.
    """

    def __init__(
        self, parameters: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None = None
    ) -> None:
        """Start with masks by name, as `set`; default: all ones."""
        self.parameters = parameters
        self.group = group_of(parameters)
        self.set(self.ones() if masks is None else masks)

    def ones(self) -> dict[str, Tensor]:
        """Masks that keep every weight, sharded like the parameters."""
        return {
            name: like_sharding(torch.ones_like(local(p), dtype=torch.bool), p)
            for name, p in self.parameters.items()
        }

    def set(self, masks: Mapping[str, Tensor]) -> None:
        """Replace the masks without applying them.

        Args:
            masks: by name, True = keep, on any device; whole, or sharded like the parameters.

        Raises:
            MaskError: names or shapes differ from the parameters.
        """
        require_same_tensors(self.parameters, masks)
        self.set_local({name: part(masks[name], p) for name, p in self.parameters.items()})

    def set_local(self, masks: Mapping[str, Tensor]) -> None:
        """Replace the masks by masks of the local parts."""
        self.packed = PackedMasks(
            {name: masks[name].to(local(p).device) for name, p in self.parameters.items()}
        )
        self._sparsity: float | None = None
        if self.group.size > 1:  # counting needs all ranks, which are all here now
            self._sparsity = count(self.get()).sparsity

    def get(self) -> dict[str, Tensor]:
        """The masks by name, True = keep, unpacked and sharded like the parameters."""
        return {
            name: like_sharding(mask, self.parameters[name]) for name, mask in self.packed.items()
        }

    def apply(self) -> None:
        """θ ← m⊙θ in place."""
        self.packed.apply(self.local_parameters())

    def local_parameters(self) -> dict[str, Tensor]:
        """The local parts of θ by name."""
        return {name: local(parameter) for name, parameter in self.parameters.items()}

    @property
    def sparsity(self) -> float:
        """1 − kept ratio, counted once per mask."""
        if self._sparsity is None:
            self._sparsity = count(self.get()).sparsity
        return self._sparsity

    def require_exactly(self, keep: int, step: int) -> None:
        """Check that the masks keep `keep` weights and that all other weights are zero.

        Raises:
            OptimalityError: the counts differ, which would be a defect of PINS.
        """
        nonzero = sum(int(p.count_nonzero()) for p in self.local_parameters().values())
        own = torch.tensor([count(self.packed).kept, nonzero])
        kept, nonzero = self.group.total(own).tolist()
        # a kept weight may be zero, a pruned weight must be
        if kept != keep or nonzero > keep:
            raise OptimalityError(f"step {step} keeps {kept} ({nonzero} non-zero), not {keep}")
