"""The radius of a trust region, led by what its promises were worth.

Nocedal & Wright, Numerical Optimization (2006), algorithm 4.1.

A promise is what the linear term adds to optimal brain damage: the drop that the mask m of (R)
predicts beyond the mask m₀ of μ = 0. What was kept of it is L(m₀) − L(m), measured.

    ratio = kept / promised      below ¼: a quarter of the radius      above ¾: twice the radius

A mask that keeps nothing of its promise, or less, is not taken.
"""

from dataclasses import dataclass

POOR, GOOD = 0.25, 0.75
SHRINK, GROW = 0.25, 2.0
TRIALS = 4  # radii tried at one decision, before it falls back on optimal brain damage
LARGEST = 2.0  # of what it started from: then a promise is of the whole loss


@dataclass(frozen=True)
class Promise:
    """What a decision promised beyond optimal brain damage, and what was kept; in loss units."""

    promised: float
    kept: float

    @property
    def ratio(self) -> float:
        """kept / promised; 1 where nothing was promised."""
        return self.kept / self.promised if self.promised > 0 else 1.0

    @property
    def accepted(self) -> bool:
        """Something of it was kept: the mask is better than optimal brain damage's."""
        return self.ratio > 0


def next_radius(factor: float, promise: Promise) -> float:
    """The factor on the radius after a promise: ¼ of it, as much, or twice it, up to LARGEST.

    A promise of nothing says nothing of the radius. One whose worth is no number, as a loss of the
    mask that is none makes it, counts as broken.
    """
    if not promise.promised > 0:
        return factor
    if not promise.ratio >= POOR:
        return factor * SHRINK
    if promise.ratio > GOOD:
        return min(factor * GROW, LARGEST)
    return factor
