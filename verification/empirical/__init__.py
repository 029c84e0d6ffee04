"""The empirical claims. To add a family: a module with CLAIMS, and a row in ALL."""

from verification.empirical import end_accuracy, loss_decrease, overhead, self_regularization
from verification.empirical.claim import EmpiricalClaim, Ruling, Verdict

ALL: tuple[EmpiricalClaim, ...] = (
    *loss_decrease.CLAIMS,
    *end_accuracy.CLAIMS,
    *self_regularization.CLAIMS,
    *overhead.CLAIMS,
)

__all__ = ["ALL", "EmpiricalClaim", "Ruling", "Verdict"]
