"""Every way from scores and k to a mask: the calls of `select`, `decide`, and every solver."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

import pins
from pins.selection import kth_largest
from pins.selection import select as selection
from pins.selection.scan import float_keys, numpy_backend, reference
from solvers import CardinalityFormulation, Cbc, ClosedForm, Enumeration, Highs, Solver
from verification.laws import Selector, flat
from verification.strategies import Instance, integer_selections, selections
from verification.testing.threaded_group import shards, together


def as_tensor(importance: Mapping[str, Tensor], keep: int) -> Tensor:
    return pins.select(flat(importance), keep)


def as_list(importance: Mapping[str, Tensor], keep: int) -> Tensor:
    masks = pins.select([*importance.values()], keep)
    return in_order(importance, dict(zip(importance, masks, strict=True)))


def as_mapping(importance: Mapping[str, Tensor], keep: int) -> Tensor:
    return in_order(importance, pins.select(importance, keep))


def as_decision(importance: Mapping[str, Tensor], keep: int) -> Tensor:
    decision = pins.decide(importance, keep)
    assert decision.proof.holds
    return in_order(importance, decision.masks)


def in_order(importance: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Tensor:
    """All masks in flat order; names, shapes and dtypes must be those of the scores."""
    assert list(masks) == list(importance)
    for name, scores in importance.items():
        assert masks[name].shape == scores.shape
        assert masks[name].dtype == torch.bool
    return torch.cat([mask.reshape(-1) for mask in masks.values()])


def with_constants(**constants: Any) -> Selector:
    """`as_mapping` with other constants in the modules of the scan and in `kth_largest`."""

    def select(importance: Mapping[str, Tensor], keep: int) -> Tensor:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in constants.items():
                for module in (numpy_backend, reference, kth_largest):
                    patch.setattr(module, name, value, raising=False)
            return as_mapping(importance, keep)

    return select


def by_torch(importance: Mapping[str, Tensor], keep: int) -> Tensor:
    """With the torch backend, as on a device whose memory numpy cannot read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "scan_of", reference.Scan)
        return with_constants(BLOCK=8)(importance, keep)


SMALL = {"LEAST_ROOM": 2, "MOST_ROOM": 2, "SAMPLE": 3}


def compared_as_integers(importance: Mapping[str, Tensor], keep: int) -> Tensor:
    """As on a processor that flushes denormals."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(float_keys, "denormals_compare", lambda: False)
        return with_constants(**SMALL)(importance, keep)


def by_ranks(*cuts: float, **constants: Any) -> Selector:
    """Each tensor cut into parts, one for each rank."""

    def select(importance: Mapping[str, Tensor], keep: int) -> Tensor:
        parts = shards(importance, cuts)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in constants.items():
                patch.setattr(kth_largest, name, value)
            masks = together(
                len(parts), lambda rank: pins.decide(parts[rank.rank], keep, rank).masks
            )
        return torch.cat([mask[name] for name in importance for mask in masks])

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
    """One way to a mask, and the instances it is tried on.

    Attributes:
        select: returns the mask.
        max_tensors, max_size: of the scores; small for a path that tries all masks.
        floating: it computes in floating point with a tolerance and guarantees nothing on ties:
            it gets small integers, distinct ones if the law needs the tie rule.
        max_examples: small for a path that starts processes or threads; None: as the profile says.
    """

    name: str
    select: Selector
    max_tensors: int = 4
    max_size: int = 16
    floating: bool = False
    max_examples: int | None = None

    def instances(self, *, integers: bool, tie_rule: bool) -> st.SearchStrategy[Instance]:
        """The instances of a law; integers if it is stated for integers."""
        if self.floating or integers:
            total = min(12, self.max_tensors * self.max_size)
            return integer_selections(
                max_total=total, distinct=self.floating and tie_rule, zero_size=True
            )
        return selections(max_tensors=self.max_tensors, max_size=self.max_size, zero_size=True)


PATHS = (
    Path("tensor", as_tensor),
    Path("list", as_list),
    Path("mapping", as_mapping),
    Path("decide", as_decision),
    Path("blocks-of-8", with_constants(BLOCK=8)),
    Path("by-torch", by_torch),
    Path("little-room", with_constants(**SMALL)),
    Path("narrow-intervals", with_constants(**SMALL, DEVIATIONS=-0.4)),
    Path("intervals-halved", with_constants(**SMALL, SAMPLED=0)),
    Path("integers", compared_as_integers),
    Path("two-ranks", by_ranks(0.4), max_examples=10),
    Path("four-ranks", by_ranks(0.1, 0.15, 0.7), max_examples=10),
    Path("three-ranks-little-room", by_ranks(0.3, 0.3, **SMALL), max_examples=10),
    Path("closed-form", solved_by(ClosedForm())),
    Path("enumeration", solved_by(Enumeration()), max_tensors=2, max_size=5),
    Path("cbc", solved_by(Cbc()), floating=True, max_examples=5),
    Path("highs", solved_by(Highs()), floating=True, max_examples=10),
)
