"""The interface of methods by gradients: one decision over the layers of all blocks."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import ClassVar

from torch import Tensor

from pins.importance.criterion import Criterion, Observation
from pins.importance.taylor_models import FirstOrderModel
from pins.oneshot.layer import Layer, Pruned
from pins.oneshot.methods.method import Method, bounds
from pins.pruning.acceptance import Solution
from pins.selection.allocation import Allocation
from pins.selection.select import decide
from pins.selection.tree import Node, View


class GradientMethod(Method):
    """max s·m over the masks of all layers together, s from derivatives of the calibration loss.

    g is the gradient of the loss at the dense weights θ, h the empirical Fisher's diagonal
    (`pins.oneshot.gradients`). The decision is made before the first block, with the whole model in
    memory: a forward and a backward pass for each window. The blocks are then passed as by any
    method.

    Attributes:
        criterion: gives s, and says what it reads.
    """

    criterion: ClassVar[Criterion]

    def require(
        self, allocation: Allocation, sparsity: Fraction, views: Mapping[str, View]
    ) -> None:
        """As `Method.require`; the weights of all layers can be ranked together."""
        bounds(allocation, sparsity, views).tree(views)

    def prune(self, layer: Layer, allocation: Allocation, sparsity: Fraction) -> Pruned:  # noqa: ARG002 (decided before)
        """The layer with the mask that was decided for it, which `allocation` allows."""
        assert layer.decided is not None, "the run decides before the first block"
        return Pruned(layer.weight.where(layer.decided, 0.0), layer.decided)

    def solve(
        self,
        observed: Mapping[str, Observation],
        tree: Node,
        loss: float,  # noqa: ARG002 (a trust region reads it)
        trial_loss: Callable[[Mapping[str, Tensor]], float],  # noqa: ARG002 (likewise)
    ) -> Solution:
        """The scores and their optimum, by `pins.decide`.

        Args:
            observed: θ, g and h of each layer's weight, in its stored orientation.
            tree: the masks allowed.
            loss: of the calibration text, dense.
            trial_loss: the loss with masks, without a refit.

        Raises:
            ImportanceError: a score is NaN or infinite.
        """
        scores = {name: self.criterion.importance(each) for name, each in observed.items()}
        return Solution(scores, decide(scores, tree), factor=1.0)

    def predicted(self, observed: Mapping[str, Observation], solution: Solution) -> float:
        """The loss change of the masks by the method's model: −Σ gᵢθᵢ of the pruned, in float64."""
        weights = {name: each.before for name, each in observed.items()}
        slopes = {name: each.gradient for name, each in observed.items()}
        return FirstOrderModel(slopes, weights, weights).predicted_change(solution.decision.masks)
