"""The masks that a pruning starts with; no decision leaves them."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import torch
from torch import Tensor

from pins.distributed.sharding import group_of, like_sharding, local, part
from pins.errors import CardinalityError
from pins.masks import PackedMasks, nonzero_masks, require_same_tensors
from pins.selection.blocks import is_blocked
from pins.selection.constraints import Cardinality, Frozen
from pins.selection.reach import keep_of, total_reach
from pins.selection.tree import Node, change_each
from pins.utils.bit_packing import ones

FEW = 0.05  # of a dense model's weights are zero, at most
DIGITS = 6  # of the sparsity in a message


class Start:
    """Masks a by tensor name, of the tensors that are not whole; every decision is a mask m ≤ a.

    Attributes:
        allowed: a, of the local parts, True = may be kept.
        free: the number of ones of a, by the name of every tensor, over all ranks.
    """

    def __init__(self, parameters: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> None:
        """Take the masks.

        A collective if the parameters are sharded.

        Args:
            parameters: θ by name.
            masks: a of some of them, whole or sharded like them.

        Raises:
            MaskError: the masks belong to other parameters.
        """
        require_same_tensors({n: p for n, p in parameters.items() if n in masks}, masks)
        own = {name: part(mask, parameters[name]) for name, mask in masks.items()}
        self._parameters, self.group = parameters, group_of(parameters)
        self.allowed = PackedMasks(
            {name: mask.to(local(parameters[name]).device) for name, mask in own.items()}
        )
        counts = torch.tensor([int(ones(mask)) for mask in own.values()], dtype=torch.int64)
        self.free = {name: parameter.numel() for name, parameter in parameters.items()}
        if own:
            self.free |= zip(own, self.group.total(counts).tolist(), strict=True)

    @classmethod
    def of(cls, parameters: Mapping[str, Tensor]) -> "Start":
        """aᵢ = 1 iff θᵢ ≠ 0 now; −0.0 is zero.

        Tensors that are zero everywhere were pruned so, or initialised so, as B of LoRA. If at most
        `FEW` of all other weights are zero, the model is dense and such a tensor is an initial
        value: all of it may be kept. Otherwise it stays zero, and a warning says so.
        """
        masks = nonzero_masks(parameters)
        sizes = {name: parameter.numel() for name, parameter in parameters.items()}
        start = cls(parameters, masks)
        dead = [name for name, free in start.free.items() if not free]
        other = sum(sizes.values()) - sum(sizes[name] for name in dead)
        dense = other - sum(start.free.values()) <= FEW * other
        if dead and not dense:  # on every rank: where warnings are errors, all of them stop
            warnings.warn(
                f"{len(dead)} tensors of a sparse model are zero everywhere and stay so, "
                f"{dead[0]} first: to train them, give revive_zeros, or leave them out",
                stacklevel=2,
            )
        free = {n for n in masks if start.free[n] == sizes[n] or (dense and n in dead)}
        return cls(parameters, {name: mask for name, mask in masks.items() if name not in free})

    @property
    def masks(self) -> dict[str, Tensor]:
        """The masks by name, unpacked and sharded like the parameters."""
        return {n: like_sharding(mask, self._parameters[n]) for n, mask in self.allowed.items()}

    @property
    def zeros(self) -> int:
        """The number of weights that stay zero."""
        return sum(p.numel() for p in self._parameters.values()) - sum(self.free.values())

    @property
    def sparsity(self) -> Fraction:
        """1 − kept ratio, exactly."""
        return Fraction(self.zeros, max(self.zeros + sum(self.free.values()), 1))

    def apply(self) -> None:
        """θ ← a⊙θ in place."""
        self.allowed.apply({name: local(self._parameters[name]) for name in self.allowed})

    def inside(self, tree: Node) -> Node:
        """The masks of a tree that lie inside a: the zeros of the start are frozen.

        Where the tree says how many weights each tensor or each run keeps, one with fewer free
        weights keeps all of them.
        """
        if not self.zeros:
            return tree
        frozen = self._frozen(tree)
        if tree.minimum == tree.maximum:
            return frozen
        upto = change_each(
            frozen,
            lambda node: replace(
                node, minimum=0, runs=tuple(replace(runs, minimum=0) for runs in node.runs)
            ),
        )
        return Cardinality(int(total_reach(upto, self.group).high[0])).tighten(upto)

    def not_left_out(self, what: str) -> CardinalityError:
        """The error for a constraint under which no zeros can be frozen."""
        return CardinalityError(
            f"{self.zeros:,} weights are zero at the start, which {what} cannot leave out: give "
            "revive_zeros, or a pattern along the inputs"
        )

    def require_room(self, tree: Node) -> None:
        """Check that some mask inside a meets the final bounds.

        Raises:
            CardinalityError: they keep more weights than are free, in all or in a tensor.
        """
        total = sum(self.free.values())
        if tree.minimum > total:
            least = math.ceil(self.sparsity * 10**DIGITS) / 10**DIGITS
            raise CardinalityError(
                f"the model starts with {total:,} weights that are not zero, and the schedule ends "
                f"with {tree.minimum:,}: give a sparsity of at least {least}, or revive_zeros"
            )
        tensors = change_each(self._frozen(tree), lambda node: replace(node, runs=()))
        total_reach(tensors, self.group)  # of runs with fewer free weights all are kept
        keep_of(self.inside(tree), self.group)

    def _frozen(self, tree: Node) -> Node:
        if self.zeros and is_blocked(tree):
            raise self.not_left_out("blocks")
        return Frozen({name: ~mask for name, mask in self.allowed.items()}).tighten(tree)
