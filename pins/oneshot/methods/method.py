"""The interface of a method: a layer and the masks it may have → the pruned layer."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from fractions import Fraction
from typing import ClassVar

import torch
from torch import Tensor

from pins.errors import CardinalityError, OptimalityError
from pins.oneshot.layer import Layer, Pruned
from pins.selection.allocation import Allocation
from pins.selection.constraints import Cardinality, Constraint
from pins.selection.optimality import optimality
from pins.selection.select import decide
from pins.selection.tree import Node, View
from pins.utils.text_files import shown


class Method(ABC):
    """Prunes one layer.

    Attributes:
        name: as on the command line.
    """

    name: ClassVar[str]

    def require(
        self, allocation: Allocation, sparsity: Fraction, views: Mapping[str, View]
    ) -> None:
        """Check that there are masks for these weights, and that the method finds them.

        Raises:
            CardinalityError: there are none, or the method cannot keep to such a constraint.
        """
        if allocation.scope == "global" and not allocation.exactly:
            raise CardinalityError(
                f"{self.name} prunes each layer by itself, and --scope global ranks the weights of "
                "all layers: give --scope row or tensor, or a method by gradients, as pins"
            )
        bounds(allocation, sparsity, views).tree(views)

    @abstractmethod
    def prune(self, layer: Layer, allocation: Allocation, sparsity: Fraction) -> Pruned:
        """The pruned layer.

        Args:
            layer: W and G.
            allocation: scope, pattern and bounds of the masks allowed.
            sparsity: 1 − kept ratio.

        Raises:
            CardinalityError: no mask is allowed, or the method cannot keep to such a constraint.
        """


class ScoreMethod(Method):
    """Keeps the largest scores: the mask is the optimum of max s·m under the constraint."""

    @abstractmethod
    def scores(self, layer: Layer) -> Tensor:
        """s, larger = keep, of the shape of the weights."""

    def prune(self, layer: Layer, allocation: Allocation, sparsity: Fraction) -> Pruned:
        """As `Method.prune`, by `pins.decide`."""
        scores = self.scores(layer)
        decision = decide({layer.name: scores}, allowed(layer, allocation, sparsity))
        mask = decision.masks[layer.name]
        return Pruned(layer.weight.where(mask, 0.0), mask, scores)


def allowed(layer: Layer, allocation: Allocation, sparsity: Fraction) -> Node:
    """The masks that a layer may have; errors as `bounds`.

    Where all layers share one number, those with as many weights as was decided for this one.
    """
    views = {layer.name: View.of(layer.weight.shape)}
    share = None
    if allocation.scope == "global" and layer.decided is not None:
        share = Cardinality(int(layer.decided.count_nonzero()))
    return bounds(allocation, sparsity, views, share).tree(views)


def bounds(
    allocation: Allocation,
    sparsity: Fraction,
    views: Mapping[str, View],
    share: Cardinality | None = None,
) -> Constraint:
    """The tree of bounds that an allocation is; `share` as in `Allocation.constraint`.

    Raises:
        CardinalityError: it is transposable.
    """
    found = allocation.constraint(sparsity, views, share)
    if not isinstance(found, Constraint):
        raise CardinalityError(
            f"{allocation.pattern} is not for one-shot pruning yet: give N:M along the inputs"
        )
    return found


def require_allowed(layer: Layer, mask: Tensor, allocation: Allocation, sparsity: Fraction) -> None:
    """Check a mask, however it was made.

    Raises:
        OptimalityError: the constraint does not allow it.
    """
    tree = allowed(layer, allocation, sparsity)
    equal = {
        layer.name: torch.zeros_like(layer.weight)
    }  # of equal scores every allowed mask is best
    if (fault := optimality(equal, {layer.name: mask}, tree=tree).fault) is not None:
        raise OptimalityError(f"{shown(layer.name)}: {fault}")
