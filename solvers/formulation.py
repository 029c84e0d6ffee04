"""Formulations: importance and a constraint ↦ a 0-1 program, and its points ↦ masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import torch
from scipy import sparse

from pins.errors import CardinalityError, ImportanceError, MaskError, ProgramError
from pins.selection.constraints import Constraint, PerTensor
from solvers.exact import BoolArray
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
                f"CardinalityFormulation.apply: masks for {sorted(given)} came; "
                f"pass masks for {sorted(wanted)}"
            )
        parts = []
        for name, scores in wanted.items():
            mask = given[name]
            if mask.shape != scores.shape or mask.dtype != torch.bool:
                raise MaskError(
                    f"CardinalityFormulation.apply: mask {name} has shape {tuple(mask.shape)} and "
                    f"dtype {mask.dtype}; pass a bool mask of shape {tuple(scores.shape)}"
                )
            parts.append(mask.detach().cpu().reshape(-1).numpy())
        return np.concatenate(parts)

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
                f"CardinalityFormulation.invert: x of shape {x.shape} and dtype {x.dtype} came; "
                f"pass a bool array of shape ({self.program.size},)"
            )
        masks: dict[str, torch.Tensor] = {}
        start = 0
        for name, scores in _named(self.importance):
            part = torch.tensor(x[start : start + scores.numel()])
            masks[name] = part.reshape(scores.shape).to(scores.device)
            start += scores.numel()
        if isinstance(self.importance, torch.Tensor):
            return masks["0"]
        if isinstance(self.importance, Mapping):
            return masks
        return tuple(masks.values()) if isinstance(self.importance, tuple) else [*masks.values()]


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
        scores = [_flat_scores(name, tensor) for name, tensor in _named(self.importance)]
        flat = np.concatenate(scores) if scores else np.zeros(0)
        if flat.size == 0:
            raise ImportanceError(
                "CardinalityFormulation: importance has no entry; pass at least one score"
            )
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


@dataclass(frozen=True, eq=False)
class ConstrainedFormulation(Formulation):
    """max s·m over the masks that a constraint allows, with one row for each condition.

    After the row 1·x = k comes one row for each tensor t: Σ_{i∈t} xᵢ = k_t for `PerTensor`, else
    −Σ_{i∈t} xᵢ ≤ −l_t where the tensor has a minimum l_t > 0.

    Attributes:
        importance: s, by tensor name, as in `CardinalityFormulation`.
        constraint: which masks are allowed.
        program: the 0-1 program, objective −s.

    Raises:
        ImportanceError: as `CardinalityFormulation`.
        CardinalityError: no mask of these tensors meets the constraint.
    """

    importance: Mapping[str, torch.Tensor]
    constraint: Constraint
    program: BinaryProgram = field(init=False)

    def __post_init__(self) -> None:
        plain = CardinalityFormulation(self.importance, self.constraint.keep).program
        self.constraint.validate({name: s.shape for name, s in self.importance.items()})
        each_exact = isinstance(self.constraint, PerTensor)
        rows, senses = [plain.matrix], [Sense.EQUAL]
        rhs, start = [float(self.constraint.keep)], 0
        for name, scores in self.importance.items():
            number, size = self.constraint.minimums.get(name, 0), scores.numel()
            if each_exact or number > 0:
                sign = 1.0 if each_exact else -1.0
                columns = np.arange(start, start + size)
                entries = (np.full(size, sign), (np.zeros(size, dtype=np.intp), columns))
                rows.append(sparse.csr_array(entries, shape=(1, plain.size)))
                senses.append(Sense.EQUAL if each_exact else Sense.LESS_OR_EQUAL)
                rhs.append(sign * number)
            start += size
        program = BinaryProgram(
            objective=plain.objective,
            matrix=sparse.csr_array(sparse.vstack(rows)),
            senses=tuple(senses),
            rhs=np.array(rhs),
        )
        object.__setattr__(self, "program", program)


def _named(tensors: Tensors) -> list[tuple[str, torch.Tensor]]:
    """(name, tensor) in the given order; the position is the name in a list or tuple."""
    if isinstance(tensors, torch.Tensor):
        return [("0", tensors)]
    if isinstance(tensors, Mapping):
        return list(tensors.items())
    return [(str(position), tensor) for position, tensor in enumerate(tensors)]


def _flat_scores(name: str, tensor: torch.Tensor) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The scores as float64, row-major, (numel,).

    Raises:
        ImportanceError: the scores are not floating point, or one is not finite.
    """
    if not tensor.is_floating_point():
        raise ImportanceError(
            f"CardinalityFormulation: importance {name} has dtype {tensor.dtype}; "
            "pass floating-point scores"
        )
    flat = tensor.detach().to("cpu", torch.float64).reshape(-1)
    bad = torch.nonzero(~torch.isfinite(flat))
    if bad.numel():
        index = int(bad[0])
        raise ImportanceError(
            f"CardinalityFormulation: importance {name} is {flat[index].item()} at flat index "
            f"{index}; pass finite scores only"
        )
    scores: np.ndarray[tuple[int], np.dtype[np.float64]] = flat.numpy()
    return scores
