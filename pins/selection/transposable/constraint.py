"""Transposable N:M for all tensors of a model: a constraint that is no tree of bounds."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from pins.distributed.process_group import Group
from pins.errors import CardinalityError
from pins.selection.optimality import Optimality
from pins.selection.transposable.blocks import WIDEST
from pins.selection.transposable.select import transposable
from pins.selection.tree import Node, Runs, TensorNode, View


@dataclass(frozen=True)
class TransposableProof(Optimality):
    """Weak duality by potentials, summed over all tensors: optimum − s·m ≤ regret.

    Thresholds and exchanges are of trees: there are none here.

    Attributes:
        bound: no allowed mask has a larger s·m.
        regret: 0, up to the rounding of scores that is described in `transposable`.
    """

    bound: Fraction = Fraction(0)
    regret: Fraction = Fraction(0)

    @property
    def unique(self) -> bool:
        """False: potentials do not exclude another optimum."""
        return False

    @property
    def binding(self) -> tuple[Any, ...]:
        """No bound of a tensor is narrower than those inside it."""
        return ()


@dataclass(frozen=True)
class TransposableNofM:
    """Each m × m block of every matrix keeps exactly n weights in each row and in each column.

    Attributes:
        n: number of *kept* weights; n = m keeps all.
        m: side of a block.
        skip_indivisible: keep all weights of a tensor of which m does not divide both sides.

    Raises:
        CardinalityError: not 1 ≤ n ≤ m ≤ 64.
    """

    n: int
    m: int
    skip_indivisible: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.n <= self.m <= WIDEST:
            raise CardinalityError(
                f"transposable {self.n}:{self.m} was asked for: 1 ≤ N ≤ M ≤ {WIDEST}"
            )

    def divides(self, shape: torch.Size | tuple[int, ...]) -> bool:
        """Whether blocks fill the matrices of a tensor."""
        return len(shape) > 1 and not any(side % self.m for side in shape[-2:])

    def rows(self, shapes: Mapping[str, torch.Size | tuple[int, ...]]) -> Node:
        """The tree of masks that are N:M in their rows: the allowed ones are among them.

        Raises:
            CardinalityError: m does not divide a tensor, and none is to be skipped.
        """
        nodes = []
        for name, shape in shapes.items():
            view = View.of(shape)
            if self.divides(shape):
                runs = (Runs(self.m, self.n, self.n, f"{self.n}:{self.m} group"),)
                nodes.append(TensorNode(name, view, runs=runs))
            elif self.skip_indivisible:
                nodes.append(TensorNode(name, view, view.size))
            else:
                raise CardinalityError(
                    f"{name!r} is {' × '.join(map(str, shape))}, which blocks of {self.m} × "
                    f"{self.m} do not divide: leave it out, or skip what is indivisible"
                )
        return Node("the model", tuple(nodes))

    def require_whole(self, group: Group) -> None:
        """Require that this process has all of each matrix.

        Raises:
            CardinalityError: ranks have parts of it.
        """
        if group.size > 1:
            raise CardinalityError(
                f"transposable {self.n}:{self.m} needs whole matrices, and each of {group.size} "
                "ranks has a part: choose another pattern"
            )

    def solve(
        self, importance: Mapping[str, Tensor], group: Group
    ) -> tuple[dict[str, Tensor], TransposableProof]:
        """An optimum by tensor name, and its proof.

        Raises:
            CardinalityError: as `rows`, or the tensors are parts of larger ones.
            ImportanceError, OptimalityError: as `transposable`.
        """
        self.require_whole(group)
        masks: dict[str, Tensor] = {}
        bound = regret = Fraction(0)
        for name, scores in importance.items():
            if self.n == self.m or not self.divides(scores.shape):
                masks[name] = torch.ones(scores.shape, dtype=torch.bool, device=scores.device)
                continue
            found = transposable(scores, self.n, self.m, name=repr(name))
            masks[name] = found.mask
            bound, regret = bound + found.proof.bound, regret + found.proof.regret
        kept = sum(int(mask.count_nonzero()) for mask in masks.values())
        total = sum(mask.numel() for mask in masks.values())
        return masks, TransposableProof(kept, total, None, None, bound=bound, regret=regret)
