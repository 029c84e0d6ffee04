"""A planted pattern is found, whatever is free; one weight moved, and it is another or broken."""

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from pins.errors import MaskError
from pins.selection.optimality import optimality
from tests.verification.audit.planted import in_runs, of_blocks, seeds, seen
from verification.audit.blocks import largest_blocks
from verification.audit.pattern import Pattern, completed, find_pattern
from verification.audit.runs import same_count

GROUPS = [(2, 4), (1, 4), (3, 4), (4, 8), (1, 2), (5, 16)]


def nothing(mask: Tensor) -> Tensor:
    return torch.zeros_like(mask)


@given(st.sampled_from(GROUPS), st.booleans(), st.sampled_from([0.0, 0.01, 0.05]), seeds)
def test_n_of_m_is_found_in_both_directions_with_free_weights(
    pattern: tuple[int, int], transposed: bool, free: float, seed: int
) -> None:
    n, m = pattern
    mask = in_runs(24 * 48 // m, m, n, seed).view(24, 48)
    made = seen(mask.mT if transposed else mask, free, seed)
    found = find_pattern(made.kept, made.pruned)
    assert (found.kind, found.length, found.keep) == ("N:M", m, n)
    assert found.along == ("outputs" if transposed else "inputs")
    assert not found.breaks
    mask = completed(found, made.kept, made.pruned)
    assert not (made.kept & ~mask).any()
    assert not (made.pruned & mask).any()
    runs = (mask.mT if transposed else mask).reshape(-1, m)
    assert (runs.sum(1) == n).all()
    importance = {"w": made.kept.double()}  # what is kept is best
    assert optimality(importance, {"w": mask}, tree=found.tree("w", mask)).broken is None


@given(st.sampled_from(GROUPS), seeds, st.integers(0, 10_000))
def test_one_weight_grown_back_breaks_n_of_m_in_its_group(
    pattern: tuple[int, int], seed: int, at: int
) -> None:
    n, m = pattern
    mask = in_runs(24 * 48 // m, m, n, seed).view(24, 48)
    zeros = (~mask).view(-1).nonzero().flatten()
    place = int(zeros[at % len(zeros)])
    mask.view(-1)[place] = True
    found = find_pattern(mask, ~mask)
    assert (found.kind, found.length, found.keep) == ("N:M", m, n)
    [one] = found.breaks
    assert (one.run, one.kept, one.expected) == (place // m, n + 1, n)


@given(st.integers(1, 30), st.booleans(), st.sampled_from([0.0, 0.02]), seeds)
def test_rows_and_columns_of_one_number_are_found_and_one_off_by_one_is_told(
    keep: int, transposed: bool, free: float, seed: int
) -> None:
    rows = in_runs(40, 31, keep, seed)  # 31 is prime: no groups
    kind = "columns" if transposed else "rows"
    made = seen(rows.mT if transposed else rows, free, seed)
    found = find_pattern(made.kept, made.pruned)
    assume(found.kind != "N:M")  # 40 rows may have groups of columns by chance
    assert (found.kind, found.length) == (kind, 31)
    assert not found.breaks
    if not free:
        assert found.keep == keep
    rows[7, rows[7].nonzero()[0]] = False
    moved = rows.mT if transposed else rows
    broken = find_pattern(moved, ~moved)
    if keep > 1:
        assert broken.kind == kind
        assert [(b.run, b.kept, b.expected) for b in broken.breaks] == [(7, keep - 1, keep)]


@given(
    st.sampled_from([(1, 4), (4, 1), (2, 2), (4, 4), (8, 16), (1, 32), (16, 1), (4, 32), (16, 8)]),
    st.sampled_from([0.0, 0.02]),
    seeds,
)
def test_blocks_are_found_and_are_the_largest(
    sides: tuple[int, int], free: float, seed: int
) -> None:
    mask = of_blocks((16, 32), sides, seed)
    made = seen(mask, free, seed)
    found = find_pattern(made.kept, made.pruned)
    assert found.kind == "blocks"
    assert found.sides[0] * found.sides[1] >= sides[0] * sides[1]
    whole = completed(found, made.kept, made.pruned)
    assert not (made.kept & ~whole).any()
    assert not (made.pruned & whole).any()
    importance = {"w": made.kept.double()}
    assert optimality(importance, {"w": whole}, tree=found.tree("w", whole)).broken is None


def test_one_weight_moved_and_the_blocks_are_no_longer_whole() -> None:
    mask = of_blocks((16, 32), (4, 4), 3)
    assert largest_blocks(mask, ~mask) == (4, 4)
    mask[5, 5] = ~mask[5, 5]
    assert largest_blocks(mask, ~mask) == (1, 1)


@given(st.sampled_from([(4, 4), (2, 8), (1, 4)]), seeds, st.booleans(), st.integers(0, 511))
def test_one_weight_grown_back_or_lost_breaks_its_block(
    sides: tuple[int, int], seed: int, grown: bool, at: int
) -> None:
    mask = of_blocks((16, 32), sides, seed)
    kept = mask[:: sides[0], :: sides[1]]  # of each block one
    assume(5 <= int(kept.count_nonzero()) <= kept.numel() - 5)
    others = (mask != grown).view(-1).nonzero().flatten()
    place = int(others[at % len(others)])
    mask.view(-1)[place] = grown
    found = find_pattern(mask, ~mask)
    assert (found.kind, found.sides) == ("blocks", sides)
    [one] = found.breaks
    width, size = 32 // sides[1], sides[0] * sides[1]
    row, column = divmod(place, 32)
    assert one.run == row // sides[0] * width + column // sides[1]
    assert (one.kept, one.expected) == ((1, 0) if grown else (size - 1, size))
    assert torch.equal(completed(found, mask, ~mask), mask)  # no other weight counts as kept


@given(st.sampled_from([0.01, 0.1, 0.5, 0.9, 0.99]), seeds)
def test_scattered_weights_are_no_blocks_with_breaks(density: float, seed: int) -> None:
    mask = torch.rand(64, 64, generator=torch.Generator().manual_seed(seed)) < density
    assert find_pattern(mask, ~mask).kind != "blocks"


@given(seeds)
def test_a_mask_of_no_pattern_is_unstructured(seed: int) -> None:
    mask = torch.rand(40, 48, generator=torch.Generator().manual_seed(seed)) > 0.4
    assert find_pattern(mask, ~mask) == Pattern("unstructured")


@given(seeds)
def test_at_most_two_of_four(seed: int) -> None:
    mask = in_runs(480, 4, 2, seed) & (torch.rand(480, 4) > 0.3)
    mask[0, :2], mask[0, 2:] = True, False
    found = find_pattern(mask.view(40, 48), ~mask.view(40, 48))
    assert (found.kind, found.length, found.keep) == ("at most N:M", 4, 2)
    assert str(found) == "at most 2:4 along the inputs"
    mask[0, 2] = True
    assert str(find_pattern(mask.view(40, 48), ~mask.view(40, 48))) != str(found)


def test_many_groups_below_n_are_at_most_n_and_a_few_are_breaks() -> None:
    mask = in_runs(80 * 64, 4, 2, 0)
    for number, said in ((100, "2:4"), (101, "at most 2:4")):
        below = mask.clone()
        below[torch.arange(0, 40 * number, 40), below.int().argmax(1)[: 40 * number : 40]] = False
        found = find_pattern(below.view(80, 256), ~below.view(80, 256))
        assert str(found) == f"{said} along the inputs"
        assert len(found.breaks) == (100 if number == 100 else 0)


def test_experts_are_matrices_of_their_own() -> None:
    mask = in_runs(3 * 8 * 12, 4, 2, 0).view(3, 8, 48)
    assert str(find_pattern(mask, ~mask)) == "2:4 along the inputs"
    turned = in_runs(3 * 48 * 2, 4, 2, 0).view(3, 48, 8).mT
    assert str(find_pattern(turned, ~turned)) == "2:4 along the outputs"


def test_dense_and_empty() -> None:
    ones = torch.ones(4, 4, dtype=torch.bool)
    assert find_pattern(ones, nothing(ones)).kind == "dense"
    assert find_pattern(nothing(ones), ones).kind == "empty"


def test_a_free_weight_lets_a_row_fit_and_without_it_the_row_breaks() -> None:
    kept = in_runs(8, 13, 5, 1)
    kept[2, kept[2].nonzero()[0]] = False
    free = nothing(kept)
    free[2, (~kept[2]).nonzero()[0]] = True
    fits = same_count(kept, free)
    assert fits is not None
    assert (fits.keep, fits.breaks) == (5, ())
    lacks = same_count(kept, nothing(kept))
    assert lacks is not None
    assert [each.run for each in lacks.breaks] == [2]


def test_a_mask_that_keeps_parts_of_blocks_is_not_of_their_pattern() -> None:
    mask = of_blocks((16, 32), (4, 4), 3)
    tree = Pattern("blocks", (4, 4)).tree("w", mask)
    mask[5, 5] = ~mask[5, 5]
    with pytest.raises(MaskError, match="keeps a part of block"):
        optimality({"w": mask.double()}, {"w": mask}, tree=tree)
