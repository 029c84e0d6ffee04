"""Sensitivity (Lee, Ajanthan and Torr, 2019): the size of the first-order loss change."""

from pins.importance import criteria
from pins.oneshot.methods.gradient_method import GradientMethod


class Sensitivity(GradientMethod):
    """s = |gθ|: SNIP's connection sensitivity (§4.1 there), here of a trained model.

    The exact optimum of Σ|gθ| over the pruned weights, a bound on the first-order loss change for
    any signs; of no model of the loss itself. Two passes for each window; O(n).
    """

    name = "sensitivity"
    criterion = criteria.Sensitivity()
