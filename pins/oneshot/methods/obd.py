"""Optimal brain damage (LeCun, Denker and Solla, 1989), with the empirical Fisher."""

from collections.abc import Mapping

from pins.importance import criteria
from pins.importance.criterion import Observation
from pins.oneshot.methods.gradient_method import GradientMethod
from pins.pruning.acceptance import Solution
from pins.utils.tensors import total


class OptimalBrainDamage(GradientMethod):
    """s = ½hθ² (§2.2 there), h the mean over windows of the squared gradients of their mean losses.

    The exact optimum of the diagonal second-order model of the loss with g = 0; that h, in the
    place of the Hessian's diagonal, is as in Fisher pruning (Theis, Korshunova, Tejani and Huszár,
    2018). Two passes for each window; O(n).
    """

    name = "obd"
    criterion = criteria.OptimalBrainDamage()

    def predicted(self, observed: Mapping[str, Observation], solution: Solution) -> float:  # noqa: ARG002 (the scores are known)
        """Σ ½hᵢθᵢ² of the pruned, in float64."""
        masks = solution.decision.masks
        return sum(total(s * ~masks[name]) for name, s in solution.importance.items())
