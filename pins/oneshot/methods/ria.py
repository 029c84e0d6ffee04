"""RIA (Zhang, Bai, Lin, Zhao, Hou and Cannistraci, 2024): relative importance and activations."""

from torch import Tensor

from pins.oneshot.layer import Layer
from pins.oneshot.methods.method import ScoreMethod


class Ria(ScoreMethod):
    """s_ij = (|w_ij| / Σ_k |w_kj| + |w_ij| / Σ_k |w_ik|)·√‖X_j‖ (§3.2 there, with a = ½).

    The optimum of no known program: a row or a column does not lose all of its weights as easily.
    A share of 0/0 is 0. Rounded once to float32. O(n).
    """

    name = "ria"

    def scores(self, layer: Layer) -> Tensor:
        """Computed in float64, rounded to float32."""
        size = layer.weight.double().abs()
        sums = (size.sum(axis, keepdim=True) for axis in (0, 1))
        columns, rows = (size / total.where(total != 0, 1.0) for total in sums)  # NaN stays NaN
        return ((columns + rows) * layer.norms.sqrt()).float()
