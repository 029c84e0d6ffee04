"""Every way from scores and k to a mask: the calls of `select`, `decide`, and every solver."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

import pins
from pins import selection
from solvers import CardinalityFormulation, Cbc, ClosedForm, Enumeration, Highs, Solver
from verification.strategies import integer_selections, selections

Selector = Callable[[Mapping[str, Tensor], int], Tensor]
"""(importance, keep) ↦ the mask over all tensors in the order given, (n,) bool."""

Instance = tuple[dict[str, Tensor], int]


def flat(tensors: Mapping[str, Tensor]) -> Tensor:
    """All entries in flat order, in the widest dtype that occurs, (n,)."""
    dtype = functools.reduce(torch.promote_types, (t.dtype for t in tensors.values()))
    return torch.cat([tensor.to(dtype).reshape(-1) for tensor in tensors.values()])


def as_tensor(importance: Mapping[str, Tensor], keep: int) -> Tensor:
    return pins.select(flat(importance), keep)


def as_list(importance: Mapping[str, Tensor], keep: int) -> Tensor:
    masks = pins.select(list(importance.values()), keep)
    assert isinstance(masks, list)
    return in_order(importance, dict(zip(importance, masks, strict=True)))


def as_tuple(importance: Mapping[str, Tensor], keep: int) -> Tensor:
    masks = pins.select(tuple(importance.values()), keep)
    assert isinstance(masks, tuple)
    return in_order(importance, dict(zip(importance, masks, strict=True)))


def as_mapping(importance: Mapping[str, Tensor], keep: int) -> Tensor:
    return in_order(importance, pins.select(importance, keep))


def as_decision(importance: Mapping[str, Tensor], keep: int) -> Tensor:
    decision = pins.decide(importance, keep)
    assert decision.proof.holds
    return in_order(importance, decision.masks)


def in_order(importance: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Tensor:
    """The masks as one, after a look at names, shapes and dtypes."""
    assert list(masks) == list(importance)
    for name, scores in importance.items():
        assert masks[name].shape == scores.shape
        assert masks[name].dtype == torch.bool
    return torch.cat([mask.reshape(-1) for mask in masks.values()])


def with_constants(**constants: int) -> Selector:
    """`as_mapping` with other constants in `pins.selection`."""

    def select(importance: Mapping[str, Tensor], keep: int) -> Tensor:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in constants.items():
                patch.setattr(selection, name, value)
            return as_mapping(importance, keep)

    return select


def solved_by(solver: Solver) -> Selector:
    def select(importance: Mapping[str, Tensor], keep: int) -> Tensor:
        formulation = CardinalityFormulation(importance, keep)
        solution = solver.solve(formulation.program).solution
        assert solution is not None
        masks = formulation.invert(solution.x)
        assert isinstance(masks, dict)
        return in_order(importance, masks)

    return select


@dataclass(frozen=True)
class Path:
    """One way to a mask, and what it is tried on.

    Attributes:
        select: the way.
        max_tensors, max_size: of the scores, for those that try all masks.
        floating: works in floating point with a tolerance and promises nothing on ties, so it is
            given small integers, distinct ones where the law needs the tie rule.
        max_examples: for those that start a process each time; None for the profile's.
    """

    name: str
    select: Selector
    max_tensors: int = 4
    max_size: int = 16
    floating: bool = False
    max_examples: int | None = None

    def instances(self, *, integers: bool, tie_rule: bool) -> st.SearchStrategy[Instance]:
        """What a law is tried on; integers on request."""
        if self.floating or integers:
            total = min(12, self.max_tensors * self.max_size)
            return integer_selections(max_total=total, distinct=self.floating and tie_rule)
        return selections(max_tensors=self.max_tensors, max_size=self.max_size)


PATHS = (
    Path("tensor", as_tensor),
    Path("list", as_list),
    Path("tuple", as_tuple),
    Path("mapping", as_mapping),
    Path("decide", as_decision),
    Path("blocks-of-1", with_constants(BLOCK=1), max_size=6),
    Path("blocks-of-5", with_constants(BLOCK=5)),
    Path("digits-of-4-bits", with_constants(DIGIT_BITS=4, DIGITS=2**4)),
    Path("digits-of-8-bits", with_constants(DIGIT_BITS=8, DIGITS=2**8)),
    Path("closed-form", solved_by(ClosedForm())),
    Path("enumeration", solved_by(Enumeration()), max_tensors=2, max_size=5),
    Path("cbc", solved_by(Cbc()), floating=True, max_examples=5),
    Path("highs", solved_by(Highs()), floating=True, max_examples=10),
)
