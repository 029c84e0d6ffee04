"""Laws of any scope: what they compare with, and pruners that break each of them."""

from itertools import islice, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import pins
from pins.errors import MaskError, SettingError
from pins.selection.tree import Node
from tests.laws.wrong_in_scope import BROKEN_BY, all_weights_compete, right
from verification.laminar import Program
from verification.laws import LAWS, flat, laws_of, right_mask
from verification.scopes import FLAT, ROW, TREE, Scope, blocks, n_of_m, scope_of
from verification.strategies import assert_law, counterexample, instances, matrices, trees
from verification.strategies.smallest import smallest

SCOPES = (ROW, n_of_m(4, 2), n_of_m(3), blocks(), TREE)


def name_of(scope: Scope) -> str:
    return scope.name


scopes = pytest.mark.parametrize("scope", SCOPES, ids=name_of)


@scopes
def test_the_selection_of_pins_keeps_every_law_of_the_scope(scope: Scope) -> None:
    for law in laws_of(scope):
        assert counterexample(right(scope), law, instances(law), max_examples=4) is None, law
        assert all(law.holds(right(scope), *i) for i in islice(smallest(law), 0, 300, 30))


@scopes
def test_each_law_of_the_scope_is_broken(scope: Scope) -> None:
    for law in laws_of(scope):
        for wrong in BROKEN_BY[law.name]:
            first = next((i for i in smallest(law) if not law.holds(wrong(scope), *i)), None)
            found = first or counterexample(wrong(scope), law, instances(law), max_examples=99)
            assert found is not None, (law.name, wrong)
            assert law.holds(right(scope), *found)


def test_the_search_goes_beyond_the_smallest_instances() -> None:
    def wrong_from_five_columns_on(matrix: torch.Tensor, keep: int) -> torch.Tensor:
        return right(ROW)(-matrix if matrix.shape[1] > 4 else matrix, keep)

    law = laws_of(ROW)[1]
    found = counterexample(wrong_from_five_columns_on, law, max_examples=60)
    assert found is not None
    assert found[0].shape == (1, 5)


def test_which_laws_a_scope_has() -> None:
    names = {scope.name: {law.name for law in laws_of(scope)} for scope in (FLAT, *SCOPES)}
    every = {law.name for law in LAWS}
    assert names == {
        "flat": every,
        "row": every,
        "N:3": every,
        "2:4": every - {"nesting"},
        "block": every - {"concatenation"},
        "tree": every - {"concatenation"},
    }
    assert "complement" not in {law.name for law in laws_of(n_of_m(4, 1))}
    assert every == BROKEN_BY.keys()


@st.composite
def small(draw: st.DrawFn) -> tuple[Scope, dict[str, torch.Tensor], int | Node]:
    """A scope with scores of at most eight weights, many ties among them, and what is allowed."""
    scope = draw(st.sampled_from((FLAT, *SCOPES)))
    if scope is TREE:
        return scope, *draw(trees(max_total=6, integers=True, allowed=True))
    matrix = draw(matrices(multiples=scope.sides, max_total=6, integers=True)) // 4
    largest = scope.room({"weight": matrix})
    keep = draw(st.integers(0, largest)) if scope.number is None else scope.number
    return scope, {"weight": matrix}, keep


@settings(max_examples=20)
@given(small())
def test_right_masks_and_exchanges_are_those_of_all_masks(case: tuple[Scope, dict, int]) -> None:  # type: ignore[type-arg]
    scope, importance, keep = case
    tree = scope.tree(importance, keep)
    program = Program.of(tree, importance)
    total = flat(importance).numel()
    allowed = []
    for bits in product((True, False), repeat=total):
        mask = torch.tensor(bits)
        parts = torch.split(mask, [s.numel() for s in importance.values()])
        masks = {n: p.view(importance[n].shape) for n, p in zip(importance, parts, strict=True)}
        try:
            proof = pins.optimality(importance, masks, tree=tree)
        except MaskError:  # a block in part
            assert not program.allows(mask)
            continue
        assert program.allows(mask) == (proof.broken is None)
        if proof.broken is None:
            allowed.append((float(flat(importance)[mask].sum()), bits))
            assert (program.gaining_exchange(mask) is None) == proof.holds
    best = max(allowed)  # of equal sums the mask that keeps the lower index
    assert tuple(right_mask(importance, keep, scope=scope).tolist()) == best[1]
    for value, bits in allowed:
        if value == best[0]:
            like = torch.tensor(bits)
            assert torch.equal(right_mask(importance, keep, like, scope), like)


def test_the_message_for_a_matrix_has_rows_and_columns() -> None:
    law = laws_of(ROW)[0]
    rows = st.just((torch.tensor([[3.0, 4.0], [0.0, 1.0]]), 1))
    with pytest.raises(AssertionError) as broken:
        assert_law(all_weights_compete(ROW), law, rows)
    assert str(broken.value).splitlines() == [
        "the law 'exact-count' is broken: Each row keeps exactly k weights, whatever the ties.",
        "  call 1 of 1: k = 1, scores torch.tensor([[3.0, 4.0], [0.0, 1.0]], dtype=torch.float32)",
        "  found:    [[1, 1], [0, 0]]",
        "  expected: [[0, 1], [0, 1]], the k largest scores of each row",
        "  first difference: index 0, row 0, column 0, of score 3.0, is kept, not pruned",
    ]


def test_the_message_for_a_tree_has_its_bounds() -> None:
    found = counterexample(all_weights_compete(TREE), laws_of(TREE)[0])
    assert found is not None
    said = str(found)
    assert "the law 'exact-count' is broken: Each node keeps a number of weights within" in said
    assert "k = Node(name='the model', children=(" in said
    assert ", the largest scores that the bounds allow\n" in said


@pytest.mark.parametrize(("name", "size"), [("row", 2), ("N:4", 4), ("2:4", 4), ("block", 8)])
def test_a_counterexample_in_a_scope_is_small(name: str, size: int) -> None:
    scope = scope_of(name)
    law = {law.name: law for law in laws_of(scope)}["tie-rule"]
    (wrong, *_) = BROKEN_BY["tie-rule"]
    found = counterexample(wrong(scope), law)
    assert found is not None
    assert found[0].numel() == size
    assert not found[0].any()


def test_a_mask_of_another_shape_than_the_matrix_is_an_error() -> None:
    matrix = torch.tensor([[1.0, 2.0, 3.0]])
    with pytest.raises(
        MaskError,
        match=r"returned a tensor of dtype torch\.bool and shape \(3,\); with n = 3 scores, return "
        r"one tensor of dtype torch\.bool and shape \(1, 3\), True = keep: mask\.bool\(\) converts "
        r"0 and 1$",
    ):
        laws_of(ROW)[0].holds(lambda *_: torch.tensor([True, False, False]), matrix, 1)


@pytest.mark.parametrize("name", ["flat", "row", "N:8", "2:4", "block", "block:1x4", "tree"])
def test_a_scope_is_found_by_its_name(name: str) -> None:
    assert scope_of(name).name == name


@pytest.mark.parametrize("name", ["", "rows", "5:4", "2:0", "block:0x4", "Flat"])
def test_an_unknown_scope_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(SettingError, match=rf"^there is no scope '{name}': give flat, row, 2:4"):
        scope_of(name)


@scopes
def test_without_ties_another_tie_rule_keeps_the_law(scope: Scope) -> None:
    law = {law.name: law for law in laws_of(scope)}["tie-rule"]
    (wrong, *_) = BROKEN_BY["tie-rule"]
    assert counterexample(wrong(scope), law) is not None
    assert counterexample(wrong(scope), law, instances(law, ties=False), max_examples=8) is None
