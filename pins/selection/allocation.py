"""The constraint of a decision at a sparsity: which weights are ranked with each other, and bounds.

What `pins prune`, `pins certify`, TOML files and `Pruner` are told about the allowed masks.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Self

from pins.errors import CardinalityError
from pins.selection.blocks import Blocks, parse_block
from pins.selection.constraints import (
    AtMostNofM,
    Bounds,
    Cardinality,
    Constraint,
    LayerBounds,
    NofM,
    Rows,
    exact_ratio,
    keep_count,
    per_tensor,
)
from pins.selection.pattern import Pattern
from pins.selection.transposable.constraint import TransposableNofM
from pins.selection.tree import View

SCOPES = ("global", "tensor", "row")
DIGITS = 6  # of a sparsity in a message


@dataclass(frozen=True)
class Allocation:
    """The allowed masks, apart from their number of ones.

    Attributes:
        scope: which weights are ranked with each other: all ("global"), or those of a tensor or of
            a row, each of which keeps its own share then.
        layer_minimum: the smallest kept ratio of each tensor, against the collapse of layers; if it
            binds, the decision is the optimum of another program.
        layer_maximum: the largest kept ratio of each tensor.
        pattern: N:M along the inputs, such as "2:4", or "transposable-4:8", along inputs and
            outputs; None: any mask.
        exactly: each M weights keep exactly N, so that the pattern gives the sparsity; else at most
            N. At a lower sparsity N is ⌈(1 − sparsity)·M⌉: it falls from M as the sparsity grows.
        skip_indivisible: keep all weights of a tensor whose rows M does not divide; else that is an
            error.
        block: outputs and inputs of the blocks that are kept or pruned whole, such as "1x4"; all
            numbers are then of blocks, and their scores are exact sums. None: single weights.

    Raises:
        CardinalityError: a value is none of these, or two of them contradict each other.
    """

    scope: str = "global"
    layer_minimum: float | Fraction = 0
    layer_maximum: float | Fraction = 1
    pattern: str | None = None
    exactly: bool = False
    skip_indivisible: bool = False
    block: str | None = None

    @classmethod
    def parse(cls, *, counted: bool, pattern: str | None = None, **others: Any) -> Self:
        """What `pins prune`, `pins certify`, a TOML file or Python asks for.

        Args:
            counted: a sparsity or a number of weights is given too. A pattern then keeps at most N
                of each M; by itself it keeps exactly N, a sparsity of 1 − N/M.
            pattern: as the attribute.
            others: the other attributes but `exactly`.

        Raises:
            CardinalityError: as the class.
        """
        return cls(pattern=pattern, exactly=pattern is not None and not counted, **others)

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
            if Pattern.parse(self.pattern).transposable and not self.exactly:
                raise CardinalityError(
                    f"{self.pattern} keeps exactly so many: leave the sparsity out"
                )
            if self.exactly and (self.scope != "global" or bounds != LayerBounds()):
                raise CardinalityError(
                    f"each {self.pattern} group has its number of weights: leave scope and bounds "
                    "of layers out, or give a sparsity"
                )
        if self.block is not None:
            parse_block(self.block)
            if self.pattern is not None:
                raise CardinalityError(
                    f"the pattern is {self.pattern} and the block {self.block}: give one of them"
                )

    @property
    def block_shape(self) -> tuple[int, int]:
        """Outputs and inputs of a block; of a single weight, 1 × 1."""
        return (1, 1) if self.block is None else parse_block(self.block)

    @property
    def sparsity(self) -> Fraction | None:
        """1 − N/M if the pattern gives the sparsity, else None."""
        return self._pattern_sparsity if self.exactly else None

    def pattern_at(self, sparsity: float | Fraction) -> Pattern | None:
        """The pattern of a decision at this sparsity: N falls from M to its final value."""
        if self.pattern is None:
            return None
        final = Pattern.parse(self.pattern)
        return replace(final, n=max(final.n, math.ceil((1 - exact_ratio(sparsity)) * final.m)))

    def require_final(self, sparsity: float | Fraction) -> None:
        """Check that a pruning to this sparsity ends with the pattern itself.

        Raises:
            CardinalityError: N of each M are fewer weights, or the pattern gives another sparsity.
        """
        if self.pattern is None:
            return
        own, asked = self._pattern_sparsity, exact_ratio(sparsity)
        if self.exactly and asked != own:
            raise CardinalityError(
                f"exactly {self.pattern} is a sparsity of {own}, and {float(asked):.{DIGITS}g} is "
                "asked for: leave the sparsity out, or allow fewer weights by exactly=False"
            )
        if asked < own:
            least = math.ceil(own * 10**DIGITS) / 10**DIGITS
            raise CardinalityError(
                f"{self.pattern} keeps at most {float(1 - own):.{DIGITS}g} of the weights, and a "
                f"sparsity of {float(asked):.{DIGITS}g} keeps {float(1 - asked):.{DIGITS}g}: give "
                f"a sparsity of at least {least}, or leave it out"
            )

    @property
    def _pattern_sparsity(self) -> Fraction:
        pattern = Pattern.parse(self.pattern or "1:1")
        return 1 - Fraction(pattern.n, pattern.m)

    def constraint(
        self,
        sparsity: float | Fraction,
        views: Mapping[str, View],
        share: Bounds | None = None,
    ) -> Constraint | TransposableNofM:
        """The constraint of the program at this sparsity.

        Args:
            sparsity: 1 − kept ratio.
            views: of the tensors, by name.
            share: the numbers to keep, in the place of those that scope and sparsity give.
        """
        pattern = self.pattern_at(sparsity)
        if pattern is not None and pattern.transposable:
            return TransposableNofM(pattern.n, pattern.m, self.skip_indivisible)
        sizes = {name: view.size for name, view in views.items()}
        if self.block is None:
            return self._bounds(sparsity, sizes, share)
        numbers = {name: size // math.prod(self.block_shape) for name, size in sizes.items()}
        return Blocks(self.block_shape, self._bounds(sparsity, numbers, share))

    def _bounds(
        self, sparsity: float | Fraction, sizes: Mapping[str, int], share: Bounds | None
    ) -> Bounds:
        groups = self._groups(sparsity)
        if groups is not None and self.exactly:
            return groups
        if share is None:
            share = self._share(sparsity, sizes)
        bounds = LayerBounds(self.layer_minimum, self.layer_maximum)
        share = share if bounds == LayerBounds() else share & bounds
        return share if groups is None else share & groups

    def _share(self, sparsity: float | Fraction, sizes: Mapping[str, int]) -> Bounds:
        if self.scope == "tensor":
            return per_tensor(sparsity, sizes)
        if self.scope == "row":
            return Rows(sparsity)
        return Cardinality(keep_count(sparsity, sum(sizes.values())))

    def _groups(self, sparsity: float | Fraction) -> Bounds | None:
        if (pattern := self.pattern_at(sparsity)) is None:
            return None
        kind = NofM if self.exactly else AtMostNofM
        return kind(pattern.n, pattern.m, self.skip_indivisible)
