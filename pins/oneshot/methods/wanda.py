"""Wanda (Sun, Liu, Bair and Kolter, 2024): magnitude times the norm of the input."""

from torch import Tensor

from pins.oneshot.layer import Layer
from pins.oneshot.methods.method import ScoreMethod


class Wanda(ScoreMethod):
    """s_ij = |w_ij|·‖X_j‖ (§3 there): the optimum of (R) if G is replaced by its diagonal.

    Then (R) is Σ w²G_jj over the pruned weights, and s² = w²G_jj. Rounded once to float32; weights
    of an input that is always 0 go first. The authors compare within each row. O(n).
    """

    name = "wanda"

    def scores(self, layer: Layer) -> Tensor:
        """|W|·√diag(G), in float64, rounded to float32."""
        return (layer.weight.double().abs() * layer.norms).float()
