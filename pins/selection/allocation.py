"""The constraint of a decision at a sparsity: which weights are ranked with each other, and bounds.

What `pins prune`, `pins certify`, TOML files and `Pruner` are told about the allowed masks.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from pins.errors import CardinalityError
from pins.selection.constraints import (
    AtMostNofM,
    Bounds,
    Cardinality,
    LayerBounds,
    NofM,
    Rows,
    exact_ratio,
    keep_count,
    per_tensor,
)
from pins.selection.pattern import Pattern
from pins.selection.tree import View

SCOPES = ("global", "tensor", "row")


@dataclass(frozen=True)
class Allocation:
    """The allowed masks, apart from their number of ones.

    Attributes:
        scope: which weights are ranked with each other: all ("global"), or those of a tensor or of
            a row, each of which keeps its own share then.
        layer_minimum: the smallest kept ratio of each tensor, against the collapse of layers; if it
            binds, the decision is the optimum of another program.
        layer_maximum: the largest kept ratio of each tensor.
        pattern: N:M along the inputs, such as "2:4"; None: any mask.
        exactly: each M weights keep exactly N, so that the pattern gives the sparsity; else at most
            N. At a lower sparsity N is ⌈(1 − sparsity)·M⌉: it falls from M as the sparsity grows.
        skip_indivisible: keep all weights of a tensor whose rows M does not divide; else that is an
            error.

    Raises:
        CardinalityError: a value is none of these, or two of them contradict each other.
    """

    scope: str = "global"
    layer_minimum: float | Fraction = 0
    layer_maximum: float | Fraction = 1
    pattern: str | None = None
    exactly: bool = False
    skip_indivisible: bool = False

    def __post_init__(self) -> None:
        bounds = LayerBounds(self.layer_minimum, self.layer_maximum)
        if self.scope not in SCOPES:
            raise CardinalityError(
                f"the scope is {self.scope!r}: choose one of {', '.join(SCOPES)}"
            )
        if self.scope == "tensor" and bounds != LayerBounds():
            raise CardinalityError(
                f"each tensor is to keep from {self.layer_minimum} to {self.layer_maximum}, and "
                "its own share, since the scope is tensor: leave one of the two out"
            )
        if self.pattern is None and (self.exactly or self.skip_indivisible):
            raise CardinalityError("exactly and skip_indivisible belong to a pattern: give one")
        if self.pattern is not None:
            Pattern.parse(self.pattern)
            if self.exactly and (self.scope != "global" or bounds != LayerBounds()):
                raise CardinalityError(
                    f"each {self.pattern} group has its number of weights: leave scope and bounds "
                    "of layers out, or give a sparsity"
                )

    def constraint(self, sparsity: float | Fraction, views: Mapping[str, View]) -> Bounds:
        """The constraint of the program at this sparsity.

        Args:
            sparsity: 1 − kept ratio.
            views: of the tensors, by name.
        """
        groups = self._groups(sparsity)
        if groups is not None and self.exactly:
            return groups
        sizes = {name: view.size for name, view in views.items()}
        share: Bounds = Cardinality(keep_count(sparsity, sum(sizes.values())))
        if self.scope == "tensor":
            share = per_tensor(sparsity, sizes)
        elif self.scope == "row":
            share = Rows(sparsity)
        bounds = LayerBounds(self.layer_minimum, self.layer_maximum)
        share = share if bounds == LayerBounds() else share & bounds
        return share if groups is None else share & groups

    def _groups(self, sparsity: float | Fraction) -> Bounds | None:
        if self.pattern is None:
            return None
        pattern = Pattern.parse(self.pattern)
        kind = NofM if self.exactly else AtMostNofM
        keep = max(pattern.n, math.ceil((1 - exact_ratio(sparsity)) * pattern.m))
        return kind(keep, pattern.m, self.skip_indivisible)
