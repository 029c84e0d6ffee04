"""PINS (Ren and Zhu, 2023): the first-order loss change of a step and the mask."""

from pins.importance import criteria
from pins.oneshot.methods.gradient_method import GradientMethod


class Pins(GradientMethod):
    """s = −g(θ+u) with u = −ηg, so s = −gθ + ηg²: signed, larger = keep.

    The exact optimum of the first-order model of the loss, for the mask after a step u of gradient
    descent (Ren and Zhu, 2023; `docs/theory.md` derives it). The step is not taken: weights stay θ,
    and with the default η = 0 the mask is the optimum for what is done. A large share of pruned
    weights leaves the region in which the model holds. Two passes for each window; O(n).
    """

    name = "pins"
    criterion = criteria.Pins()
