"""The trust region: the first-order gain as far as the second-order cost lets it be trusted."""

from collections.abc import Callable, Mapping

from torch import Tensor

from pins.importance.criterion import Observation
from pins.importance.trust_region import criterion as trust_region
from pins.importance.trust_region.criterion import OF_FEW_ROWS
from pins.importance.trust_region.program import TrustRegionDecision
from pins.oneshot.methods.gradient_method import GradientMethod
from pins.pruning.acceptance import Solution, accepted_solution
from pins.selection.tree import Node


class TrustRegion(GradientMethod):
    """r = c + μs with s = −gθ and c = ½(h+δ)θ²; δ is the mean of h, as few windows make h.

    The exact optimum of (R) of `pins.importance.trust_region.program` for the radius of its own
    mask: the most first-order gain for that second-order cost (Theorem 5 there). μ is the largest
    that, were all weights ranked together, gains at most half of the loss beyond optimal brain
    damage. A mask that does not gain on the calibration text is rejected, four times at most
    (Nocedal and Wright, 2006, algorithm 4.1); then μ = 0 is left. Two passes for each window, and
    up to five forward passes of all windows more; O(n).
    """

    name = "trust-region"
    criterion = trust_region.TrustRegion(damping=OF_FEW_ROWS)

    def solve(
        self,
        observed: Mapping[str, Observation],
        tree: Node,
        loss: float,
        trial_loss: Callable[[Mapping[str, Tensor]], float],
    ) -> Solution:
        """As `GradientMethod.solve`, as the last decision of `pins prune`."""
        return accepted_solution(
            self.criterion, observed, tree, tolerance=loss, factor=1.0, trial_loss=trial_loss
        )

    def predicted(self, observed: Mapping[str, Observation], solution: Solution) -> float:  # noqa: ARG002 (the decision knows)
        """c·(1−m) + s·(1−m): cost less drop, in float64."""
        assert isinstance(solution.decision, TrustRegionDecision), "of accepted_solution"
        return solution.decision.cost - solution.decision.drop
