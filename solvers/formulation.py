"""Formulations: importance and k ↦ a 0-1 program, and its points ↦ masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import torch
from scipy import sparse

from pins.errors import CardinalityError, ImportanceError, MaskError, ProgramError
from pins.selection.tree import View
from solvers.exact import BoolArray, FloatArray
from solvers.program import BinaryProgram, Sense

Tensors: TypeAlias = torch.Tensor | Mapping[str, torch.Tensor] | Sequence[torch.Tensor]
"""One tensor, named tensors, or a list or tuple of tensors."""


class Formulation:
    """The map between masks and points of a program over all entries of `importance`.

    Attributes:
        importance: s; one tensor, named tensors, or a list or tuple of tensors.
        program: the 0-1 program.
    """

    importance: Tensors
    program: BinaryProgram

    def view(self, name: str, scores: torch.Tensor) -> View:  # noqa: ARG002 (another class needs it)
        """The order of a tensor's weights in x: row-major."""
        return View.of(scores.shape)

    def apply(self, masks: Tensors) -> BoolArray:
        """x, (n,) bool: the masks in flat order; True = keep = 1.

        Args:
            masks: bool tensors with the structure and the shapes of `importance`.

        Raises:
            MaskError: the structure, a shape or a dtype differs.
        """
        given, wanted = dict(_named(masks)), dict(_named(self.importance))
        if given.keys() != wanted.keys():
            raise MaskError(
                f"{type(self).__name__}.apply: masks for {sorted(given)} came; "
                f"pass masks for {sorted(wanted)}"
            )
        parts = []
        for name, scores in wanted.items():
            mask = given[name]
            if mask.shape != scores.shape or mask.dtype != torch.bool:
                raise MaskError(
                    f"{type(self).__name__}.apply: mask {name} has shape {tuple(mask.shape)} and "
                    f"dtype {mask.dtype}; pass a bool mask of shape {tuple(scores.shape)}"
                )
            parts.append(self.view(name, scores).apply(mask.detach().cpu()).numpy())
        return np.concatenate(parts)

    def flat(self, numbers: Tensors) -> FloatArray:
        """Finite floats in the structure of `importance` as float64 in flat order, (n,).

        Raises:
            ImportanceError: a tensor is not floating point or not finite, or there is no entry.
        """
        parts = [
            _flat(f"{type(self).__name__}: importance {name}", self.view(name, tensor), tensor)
            for name, tensor in _named(numbers)
        ]
        flat = np.concatenate([np.zeros(0), *parts])
        if flat.size == 0:
            raise ImportanceError(
                f"{type(self).__name__}: importance has no entry; pass at least one score"
            )
        return flat

    def invert(self, x: BoolArray) -> Tensors:
        """The masks at x: bool tensors, each with the shape and on the device of its scores.

        A mapping gives a dict, a tuple a tuple, any other sequence a list, a tensor a tensor.

        Args:
            x: (n,) bool, xᵢ = 1 = keep.

        Raises:
            ProgramError: `x` has another shape or dtype.
        """
        if x.shape != (self.program.size,) or x.dtype != np.bool_:
            raise ProgramError(
                f"{type(self).__name__}.invert: x of shape {x.shape} and dtype {x.dtype} came; "
                f"pass a bool array of shape ({self.program.size},)"
            )
        named = self._unflat(torch.tensor(x))
        masks = {name: named[name].to(scores.device) for name, scores in _named(self.importance)}
        if isinstance(self.importance, torch.Tensor):
            return masks["0"]
        if isinstance(self.importance, Mapping):
            return masks
        return tuple(masks.values()) if isinstance(self.importance, tuple) else [*masks.values()]

    def _unflat(self, flat: torch.Tensor) -> dict[str, torch.Tensor]:
        """Entries in flat order as tensors of the shapes of `importance`, by name."""
        named = dict(_named(self.importance))
        pieces = flat.split_with_sizes([scores.numel() for scores in named.values()])
        return {
            name: self.view(name, scores).invert(piece).view(scores.shape)
            for (name, scores), piece in zip(named.items(), pieces, strict=True)
        }


@dataclass(frozen=True, eq=False)
class CardinalityFormulation(Formulation):
    """max s·m, 1·m = k, m ∈ {0,1}ⁿ   ⇄   min (−s)·x, 1·x = k, x ∈ {0,1}ⁿ, with x = m flattened.

    A reduction with an inverse: invert(apply(m)) == m and apply(invert(x)) == x for every m and x.
    The flat order is the order of the tensors, each in row-major order.

    Attributes:
        importance: s; floating-point tensors of any shape, dtype and device, finite. All of
            float16, bfloat16, float32 and float64 convert to float64 without rounding.
        keep: k, the number of kept entries over all tensors.
        program: the 0-1 program, objective −s.

    Raises:
        ImportanceError: a tensor is not floating point or not finite, or there is no entry at all.
        CardinalityError: k is not an integer in 0 … n.
    """

    importance: Tensors
    keep: int
    program: BinaryProgram = field(init=False)

    def __post_init__(self) -> None:
        flat = self.flat(self.importance)
        if isinstance(self.keep, bool) or not isinstance(self.keep, int | np.integer):
            raise CardinalityError(
                f"CardinalityFormulation: keep={self.keep!r} came; pass an integer"
            )
        if not 0 <= self.keep <= flat.size:
            raise CardinalityError(
                f"CardinalityFormulation: keep={self.keep} came for {flat.size} entries; "
                f"pass 0 … {flat.size}"
            )
        program = BinaryProgram(
            objective=-flat,
            matrix=sparse.csr_array(np.ones((1, flat.size))),
            senses=(Sense.EQUAL,),
            rhs=np.array([self.keep], dtype=np.float64),
        )
        object.__setattr__(self, "program", program)


def _named(tensors: Tensors) -> list[tuple[str, torch.Tensor]]:
    """(name, tensor) in the given order; the position is the name in a list or tuple."""
    if isinstance(tensors, torch.Tensor):
        return [("0", tensors)]
    if isinstance(tensors, Mapping):
        return list(tensors.items())
    return [(str(position), tensor) for position, tensor in enumerate(tensors)]


def _flat(what: str, view: View, tensor: torch.Tensor) -> FloatArray:
    """The entries as float64 in the order of the view, (numel,).

    Raises:
        ImportanceError: they are not floating point, or one is not finite.
    """
    if not tensor.is_floating_point():
        raise ImportanceError(f"{what} has dtype {tensor.dtype}; pass floating-point scores")
    stored = tensor.detach().to("cpu", torch.float64)
    bad = torch.nonzero(~torch.isfinite(stored).reshape(-1))
    if bad.numel():
        index = int(bad[0])
        value = stored.reshape(-1)[index].item()
        raise ImportanceError(f"{what} is {value} at flat index {index}; pass finite scores only")
    flat: FloatArray = view.apply(stored).numpy()
    return flat
