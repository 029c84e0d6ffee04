"""Constraints: what they say, which tensors they fit, and how ratios become numbers."""

import functools
import operator
from fractions import Fraction
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pins.errors import CardinalityError, ScheduleError
from pins.selection.constraints import (
    AtMostNofM,
    Bounds,
    Cardinality,
    Constraint,
    Frozen,
    LayerBounds,
    NofM,
    PerTensor,
    Rows,
    keep_count,
    per_tensor,
)
from pins.selection.reach import keep_of
from pins.selection.tree import Runs, View
from tests.tree_oracle import enumerate_tree
from verification.strategies import sparsities

MASK = torch.tensor([[True, False, False], [False, False, True]])
VIEWS = {"a": View(1, 2, 3), "b": View(1, 1, 4), "c": View(1, 1, 1)}
SIZES = st.dictionaries(st.text(max_size=2), st.integers(0, 10**9), min_size=1, max_size=5)


def views(sizes: dict[str, int]) -> dict[str, View]:
    return {name: View(1, 1, size) for name, size in sizes.items()}


def bounds(constraint: Constraint) -> dict[str, tuple[int, int | None]]:
    """l and h of each tensor."""
    return {node.name: (node.minimum, node.maximum) for node in constraint.tree(VIEWS).tensors}


def test_each_kind_is_a_tree_of_bounds() -> None:
    free: dict[str, tuple[int, int | None]] = {"a": (0, None), "b": (0, None), "c": (0, None)}
    kinds: dict[Constraint, tuple[int, dict[str, tuple[int, int | None]]]] = {
        Cardinality(5): (5, free),
        NofM(1, 1): (11, free),
        Rows(0.5): (7, free),
        Cardinality(5) & AtMostNofM(1, 1): (5, free),
    }
    assert bounds(PerTensor({"a": 3, "b": 2, "c": 0})) == {"a": (3, 3), "b": (2, 2), "c": (0, 0)}
    assert bounds(LayerBounds({"a": 1}, 0.5)) == {"a": (1, 3), "b": (0, 2), "c": (0, 0)}
    for kind, (keep, expected) in kinds.items():
        assert isinstance(kind, Constraint)
        assert keep_of(kind.tree(VIEWS)) == keep
        assert bounds(kind) == expected
    assert not isinstance(5, Constraint)


@pytest.mark.parametrize(
    "constraint",
    [
        Cardinality(0),
        Cardinality(11),
        PerTensor({"a": 6, "b": 0, "c": 1}),
        Cardinality(11) & LayerBounds({"a": 6, "b": 4, "c": 1}),
        Cardinality(0) & LayerBounds({}, {}),
        Cardinality(3) & LayerBounds({"b": 3}, {"a": 0, "c": 0}),
    ],
)
def test_what_some_mask_meets_is_accepted(constraint: Constraint) -> None:
    keep_of(constraint.tree(VIEWS))


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        (
            Cardinality(12),
            r"^keep is 12: it is the number of weights to keep, an int from 0 to 11$",
        ),
        (PerTensor({"a": 1, "b": 1}), "PerTensor says nothing of 'c': give each tensor its number"),
        (
            PerTensor({"a": 1, "b": 1, "c": 1, "d": 0}),
            r"keeps\['d'\] is 0, and there is no tensor 'd': leave it out",
        ),
        (
            PerTensor({"a": 1, "b": 5, "c": 1}),
            r"keeps\['b'\] is 5, and 'b' has 4 weights: ask for fewer",
        ),
        (LayerBounds({"a": 7}), r"minimum\['a'\] is 7, and 'a' has 6 weights"),
        (LayerBounds(maximum={"e": 1}), r"maximum\['e'\] is 1, and there is no tensor 'e'"),
        (NofM(2, 4), "'a' has rows of 3 weights, which 4 does not divide: leave it out of 2:4, or"),
        (Frozen(zeros={"e": MASK}), "weights of 'e' are frozen, and there is no such tensor"),
    ],
)
def test_what_does_not_fit_the_tensors_is_refused_by_tensor(
    constraint: Constraint, message: str
) -> None:
    with pytest.raises(CardinalityError, match=message):
        constraint.tree(VIEWS)


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        (
            Cardinality(3) & LayerBounds({"a": 2, "b": 2}),
            "^the model is to keep exactly 3 of its 11 weights, and the bounds inside it allow 4 ",
        ),
        (Cardinality(10) & LayerBounds(maximum=0.5), "the bounds inside it allow 0 to 5: no mask"),
        (
            LayerBounds({"a": 5}, {"a": 4}),
            "^'a' is to keep 5 to 4 of its 6 weights, and the bounds inside it allow 0 to 6: ",
        ),
        (
            AtMostNofM(1, 3, skip_indivisible=True) & LayerBounds({"a": 3}),
            "^'a' is to keep 3 to 6 of its 6 weights, and the bounds inside it allow 0 to 2: ",
        ),
        (
            Rows(0.5) & AtMostNofM(0, 1),
            "^row 0 of 'a' is to keep exactly 2 of its 3 weights, .* allow 0 to 0: no mask",
        ),
        (Cardinality(3) & Cardinality(4), "^the model is to keep 4 to 3 of its 11 weights"),
        (LayerBounds({"a": 5}), "^the model may keep 5 to 11 of 11 weights: say how many, as by &"),
        (
            Frozen({"a": MASK}, {"a": MASK}) & Cardinality(1),
            "^2 weights of 'a' are frozen as zero and as kept$",
        ),
        (
            Frozen(weights={"a": MASK}) & Cardinality(1),
            "^the model is to keep exactly 1 of its 11 weights, and the bounds inside it allow 2 ",
        ),
    ],
)
def test_what_no_mask_meets_is_refused_with_node_bounds_and_size(
    constraint: Constraint, message: str
) -> None:
    with pytest.raises(CardinalityError, match=message) as refused:
        keep_of(constraint.tree(VIEWS))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("number", [-1, 1.0, "1", None, True, torch.tensor(True)])
def test_a_number_that_is_no_count_is_refused(number: Any) -> None:
    with pytest.raises(CardinalityError, match=r"keeps\['a'\] is .*: it is a number of weights"):
        PerTensor({"a": number})
    for name in ("minimum", "maximum"):
        with pytest.raises(CardinalityError, match=rf"{name}\['a'\] is "):
            LayerBounds(**{name: {"a": number}})
    with pytest.raises(CardinalityError, match=r"keep is .*: it is the number of weights to keep"):
        Cardinality(number).tree(VIEWS)
    with pytest.raises(CardinalityError, match=r"N:M is .*: N of each M weights are kept"):
        NofM(number, 4)


def test_a_group_of_nothing_is_refused() -> None:
    for n, m in ((3, 2), (0, 0)):
        with pytest.raises(CardinalityError, match=f"N:M is {n}:{m}: N of each M weights are kept"):
            AtMostNofM(n, m)


def test_integers_of_other_libraries_are_integers() -> None:
    numbers: Any = {"a": np.int64(2), "b": torch.tensor(1)}
    assert PerTensor(numbers) == PerTensor({"a": 2, "b": 1})
    assert LayerBounds(numbers) == LayerBounds({"a": 2, "b": 1})
    assert Cardinality(np.int64(4)).tree(VIEWS) == Cardinality(4).tree(VIEWS)  # type: ignore[arg-type]


def test_a_constraint_does_not_change_with_the_mapping_it_came_from() -> None:
    numbers = {"a": 2, "b": 0, "c": 0}
    constraints = [PerTensor(numbers), LayerBounds(numbers)]
    before = [bounds(each) for each in constraints]
    numbers["a"] = 9
    assert [bounds(each) for each in constraints] == before


TWO = {"a": VIEWS["a"], "b": View(1, 1, 2)}
KINDS: dict[str, Bounds] = {
    "number": Cardinality(5),
    "layers": LayerBounds({"a": 2, "b": 1}, {"a": 4}),
    "ratio": LayerBounds(maximum=0.75),
    "rows": Rows(0.5),
    "at most": AtMostNofM(2, 3, skip_indivisible=True),
    "exactly": NofM(1, 2, skip_indivisible=True),
    "zeros": Frozen(zeros={"a": MASK}),
    "weights": Frozen(weights={"a": MASK}),
    "tensors": PerTensor({"a": 3, "b": 1}),
}


def allowed(*constraints: Bounds) -> set[int]:
    """All masks of eight weights that a constraint, put together from these, allows."""
    importance = {name: torch.zeros(view.shape[1:]) for name, view in TWO.items()}
    together = functools.reduce(operator.and_, constraints)
    return {*enumerate_tree(importance, together.tree(TWO)).values}


@functools.cache
def allowed_alone(kind: str) -> set[int]:
    return allowed(KINDS[kind])


@pytest.mark.parametrize("first", KINDS)
def test_what_two_constraints_allow_together_is_what_both_allow(first: str) -> None:
    assert 0 < len(allowed_alone(first)) < 2**8
    for second in KINDS:
        masks = allowed_alone(first) & allowed_alone(second)
        assert allowed(KINDS[first], KINDS[second]) == masks


def test_of_three_constraints_the_order_does_not_matter() -> None:
    three = ("layers", "at most", "number")
    masks = set.intersection(*map(allowed_alone, three))
    assert masks
    for order in permutations(three):
        assert allowed(*(KINDS[kind] for kind in order)) == masks
        assert masks < allowed_alone(order[0])


def test_only_constraints_are_put_together() -> None:
    with pytest.raises(TypeError, match="unsupported operand"):
        Cardinality(1) & 5  # type: ignore[operator]


def test_a_tensor_that_m_does_not_divide_is_refused_or_kept() -> None:
    sizes = {"a": View(1, 2, 3), "b": View(1, 2, 4), "empty": View(1, 0, 3)}
    with pytest.raises(CardinalityError, match="'a' has rows of 3 weights, which 4 does not"):
        NofM(2, 4).tree(sizes)
    tree = NofM(2, 4, skip_indivisible=True).tree(sizes)
    assert keep_of(tree) == 6 + 4
    assert [node.runs for node in tree.tensors] == [(), (Runs(4, 2, 2, "2:4 group"),), ()]


@pytest.mark.parametrize(("sparsity", "kept"), [(0.5, 2), (0.6, 1), (1.0, 0), (Fraction(1, 3), 2)])
def test_each_row_is_rounded_by_itself(sparsity: float | Fraction, kept: int) -> None:
    tree = Rows(sparsity).tree({"w": View(2, 5, 3, transposed=True), "column": View(1, 4, 1)})
    rows, column = (node.runs[0] for node in tree.tensors)
    assert (rows.length, rows.minimum, rows.maximum) == (3, kept, kept)
    assert (column.length, column.minimum) == (1, keep_count(sparsity, 1))
    with pytest.raises(ScheduleError, match="sparsity is 2"):
        Rows(2)


@given(sparsities(), SIZES)
def test_per_tensor_rounds_each_tensor_by_itself(
    sparsity: float | Fraction, sizes: dict[str, int]
) -> None:
    constraint = per_tensor(sparsity, sizes)
    constraint.tree(views(sizes))
    assert constraint.keeps == {name: keep_count(sparsity, size) for name, size in sizes.items()}
    together = keep_count(sparsity, sum(sizes.values()))
    assert 2 * abs(sum(constraint.keeps.values()) - together) <= len(sizes) + 1


def test_the_numbers_of_tensors_may_add_up_to_another_total() -> None:
    sizes = {"a": 5, "b": 5, "c": 5}
    assert sum(per_tensor(0.5, sizes).keeps.values()) == 9
    assert keep_count(0.5, 15) == 8


@given(sparsities(), SIZES)
def test_ratios_are_the_least_and_the_largest_number_within_them(
    ratio: float | Fraction, sizes: dict[str, int]
) -> None:
    exact = ratio if isinstance(ratio, Fraction) else Fraction(repr(ratio))
    for node in LayerBounds(minimum=ratio).tree(views(sizes)).tensors:
        assert node.minimum >= exact * node.size > node.minimum - 1
        assert node.minimum > 0 or ratio == 0 or node.size == 0
    for node in LayerBounds(maximum=ratio).tree(views(sizes)).tensors:
        assert node.maximum is not None
        assert node.maximum <= exact * node.size < node.maximum + 1


def test_the_ratio_is_the_decimal_that_was_written() -> None:
    tree = LayerBounds(0.1, 0.3).tree(views({"a": 10, "b": 11}))
    assert [(node.minimum, node.maximum) for node in tree.tensors] == [(1, 3), (2, 3)]


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan"), "x"])
def test_what_is_no_ratio_is_refused(ratio: Any) -> None:
    for name in ("minimum", "maximum"):
        message = f"the {name} kept of each tensor is .*: it is a ratio from 0 to 1"
        with pytest.raises(CardinalityError, match=message):
            LayerBounds(**{name: ratio})
    with pytest.raises(ScheduleError, match="sparsity is"):
        per_tensor(ratio, {"a": 3})
