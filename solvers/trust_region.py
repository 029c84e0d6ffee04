"""The 0-1 program of a trust region: terms, constraint and radius ↦ a program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy import sparse

from pins.errors import ImportanceError, ProgramError
from pins.importance.trust_region.program import Terms
from pins.selection.constraints import Constraint
from pins.selection.tree import Node
from solvers.exact import BoolArray, FloatArray
from solvers.formulation import Tensors
from solvers.program import BinaryProgram, Sense
from solvers.tree import TreeFormulation


@dataclass(frozen=True, eq=False)
class TrustRegionFormulation:
    """max s·m, 1·m = k, c·(1−m) ≤ ρ   ⇄   min s·x, 1·x = n − k, c·x ≤ ρ, with x = 1 − m flattened.

    Here xᵢ = 1 = prune, so that every number of the program is an input: in m the budget would be
    −c·m ≤ ρ − 1·c, and a float may not hold that sum exactly.

    The rows are the rows of `TreeFormulation` for 1 − x, then the budget. For example,
    Σ_{i∈t} mᵢ ≥ l_t becomes Σ_{i∈t} xᵢ ≤ n_t − l_t.

    Attributes:
        terms: s and c ≥ 0 by tensor name, as the importance of `CardinalityFormulation`.
        constraint: the masks that are allowed, apart from the radius: a tree of bounds, or a
            constraint that has one.
        radius: ρ, finite.
        program: the 0-1 program, objective s.

    Raises:
        ImportanceError: s or c is not floating point or not finite, c is negative, their shapes
            differ, or there is no entry at all.
        CardinalityError: as `TreeFormulation`.
        ProgramError: ρ is not finite.
    """

    terms: Mapping[str, Terms]
    constraint: Constraint | Node
    radius: float
    program: BinaryProgram = field(init=False)
    _kept: TreeFormulation = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not np.isfinite(self.radius):
            raise ProgramError(
                f"TrustRegionFormulation: radius={self.radius} came; pass a finite radius"
            )
        terms = {name: Terms(*each) for name, each in self.terms.items()}
        for name, (importance, cost) in terms.items():
            _check_cost(name, importance, cost)
        kept = TreeFormulation({n: s for n, (s, _) in terms.items()}, self.constraint)
        budget = sparse.csr_array(kept.flat({n: c for n, (_, c) in terms.items()})[None, :])
        plain = kept.program
        # A m (≤, =) b is −A x (≤, =) b − A 1; an equality may be written with either sign. The
        # entries of A are 0, 1 and −1, so nothing is rounded.
        equal = np.array([sense is Sense.EQUAL for sense in plain.senses])
        signs = np.where(equal, 1.0, -1.0)
        rows = plain.matrix.copy()
        rows.data *= np.repeat(signs, np.diff(rows.indptr))
        full: FloatArray = np.asarray(plain.matrix.sum(axis=1), dtype=np.float64)
        program = BinaryProgram(
            objective=-plain.objective,
            matrix=sparse.csr_array(sparse.vstack([rows, budget])),
            senses=(*plain.senses, Sense.LESS_OR_EQUAL),
            rhs=np.array([*np.where(equal, full - plain.rhs, plain.rhs - full), self.radius]),
        )
        object.__setattr__(self, "program", program)
        object.__setattr__(self, "_kept", kept)

    def apply(self, masks: Mapping[str, torch.Tensor]) -> BoolArray:
        """x, (n,) bool: the pruned entries in flat order; True = prune = 1.

        Raises:
            MaskError: as `CardinalityFormulation.apply`.
        """
        return ~self._kept.apply(masks)

    def invert(self, x: BoolArray) -> Tensors:
        """The masks at x by tensor name, True = keep.

        Raises:
            ProgramError: as `CardinalityFormulation.invert`.
        """
        return self._kept.invert(~x)


def _check_cost(name: str, importance: torch.Tensor, cost: torch.Tensor) -> None:
    """Require c ≥ 0, finite, floating point, and of the shape of s.

    Raises:
        ImportanceError: c is not.
    """
    if cost.shape != importance.shape:
        raise ImportanceError(
            f"TrustRegionFormulation: cost {name} has shape {tuple(cost.shape)}; pass one of shape "
            f"{tuple(importance.shape)}, the shape of the importance"
        )
    if not cost.is_floating_point():
        raise ImportanceError(
            f"TrustRegionFormulation: cost {name} has dtype {cost.dtype}; pass floating-point costs"
        )
    bad = torch.nonzero(~(cost.isfinite() & (cost >= 0)).reshape(-1))
    if bad.numel():
        index = int(bad[0])
        raise ImportanceError(
            f"TrustRegionFormulation: cost {name} is {cost.reshape(-1)[index].item()} at flat "
            f"index {index}; pass finite costs ≥ 0 only"
        )
