"""What an allocation asks of patterns, rows and blocks: one meaning for every way to say it."""

from fractions import Fraction
from typing import Any

import pytest
import torch

from pins.errors import CardinalityError
from pins.selection.allocation import Allocation
from pins.selection.constraints import Cardinality, PerRow, keep_count
from pins.selection.reach import keep_of
from pins.selection.select import decide, select
from pins.selection.transposable.constraint import TransposableNofM
from pins.selection.tree import Node, View
from verification.testing.threaded_group import ThreadRank, together

VIEWS = {"a": View.of((6, 8)), "b": View.of((2, 16))}


def scores(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def tree_at(allocation: Allocation, sparsity: float | Fraction) -> Node:
    constraint = allocation.constraint(sparsity, VIEWS)
    assert not isinstance(constraint, TransposableNofM)
    return constraint.tree(VIEWS)


def test_a_pattern_by_itself_is_exact_and_with_a_sparsity_at_most() -> None:
    exact = Allocation.parse(counted=False, pattern="1:3")
    assert exact.exactly
    assert exact.sparsity == Fraction(2, 3)  # no float is
    loose = Allocation.parse(counted=True, pattern="1:3")
    assert (loose.exactly, loose.sparsity) == (False, None)
    assert Allocation.parse(counted=False) == Allocation()


@pytest.mark.parametrize(
    ("pattern", "sparsity", "kept"),
    [
        ("2:4", 0, 4),
        ("2:4", Fraction(249, 1000), 4),
        ("2:4", 0.25, 3),
        ("2:4", Fraction(499, 1000), 3),
        ("2:4", 0.5, 2),
        ("8:16", 0.3, 12),
        ("1:3", Fraction(2, 3), 1),
        ("1:3", Fraction("0.666666"), 2),  # less than 2/3: two are kept
    ],
)
def test_n_falls_from_m_and_is_never_below_what_the_sparsity_keeps(
    pattern: str, sparsity: float | Fraction, kept: int
) -> None:
    found = Allocation(pattern=pattern, exactly=True).pattern_at(sparsity)
    assert found is not None
    assert found.n == kept
    assert found.n >= (1 - Fraction(str(sparsity))) * found.m > found.n - 1


def test_at_a_low_sparsity_the_sum_still_fits_the_groups() -> None:
    loose = Allocation(pattern="2:4")
    for percent in range(0, 100, 3):
        tree = tree_at(loose, Fraction(percent, 100))
        assert keep_of(tree) == keep_count(Fraction(percent, 100), 80)


@pytest.mark.parametrize(
    ("values", "sparsity", "message"),
    [
        ({"pattern": "2:4"}, 0.3, r"2:4 keeps at most 0\.5 .* at least 0\.5, or leave it out"),
        ({"pattern": "1:3"}, Fraction(1, 2), r"give a sparsity of at least 0\.666667,"),
        ({"pattern": "2:4", "exactly": True}, 0.8, "exactly 2:4 is a sparsity of 1/2, and 0.8 is"),
        ({"pattern": "2:4", "exactly": True}, 0.3, "exactly 2:4 is a sparsity of 1/2, and 0.3 is"),
    ],
)
def test_a_pruning_ends_with_its_pattern_or_not_at_all(
    values: dict[str, Any], sparsity: float | Fraction, message: str
) -> None:
    with pytest.raises(CardinalityError, match=message):
        Allocation(**values).require_final(sparsity)


def test_what_a_pattern_can_end_with_is_accepted() -> None:
    Allocation(pattern="2:4").require_final(0.5)
    Allocation(pattern="2:4").require_final(0.8)
    Allocation(pattern="1:3", exactly=True).require_final(Fraction(2, 3))
    Allocation().require_final(0.3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"block": "1x4", "pattern": "2:4"}, "the pattern is 2:4 and the block 1x4: give one"),
        ({"block": "4"}, r"the block is '4': give outputs × inputs, as in 1x4"),
        ({"block": "0x4"}, r"the block is '0x4'"),
        ({"pattern": "2:4", "exactly": True, "scope": "row"}, "leave scope and bounds"),
        ({"pattern": "2:4", "exactly": True, "layer_minimum": 0.1}, "leave scope and bounds"),
        ({"pattern": "transposable-4:8"}, "transposable-4:8 keeps exactly so many: leave the"),
        ({"skip_indivisible": True}, "belong to a pattern: give one"),
        ({"pattern": "4:2"}, r"the pattern is '4:2': give N:M with 1 ≤ N ≤ M"),
    ],
)
def test_contradictions_are_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(CardinalityError, match=message) as raised:
        Allocation(**values)
    assert "\n" not in str(raised.value)


def test_a_block_is_kept_or_pruned_whole_and_counted() -> None:
    tensors = scores({"a": (6, 8), "b": (2, 16)})
    constraint = Allocation(block="2x4").constraint(0.6, VIEWS)
    assert not isinstance(constraint, TransposableNofM)
    masks = select(tensors, constraint)
    blocks = [mask.view(mask.shape[0] // 2, 2, -1, 4) for mask in masks.values()]
    assert sum(int(mask.sum()) for mask in masks.values()) == 8 * keep_count(0.6, 10)
    assert all(torch.equal(b.any(3).any(1), b.all(3).all(1)) for b in blocks)
    free = select(tensors, Cardinality(32))
    assert any(
        not torch.equal(b.any(3).any(1), b.all(3).all(1))
        for b in (mask.view(mask.shape[0] // 2, 2, -1, 4) for mask in free.values())
    ), "of single weights some blocks are kept in part"


def test_shares_replace_those_of_the_sparsity() -> None:
    tensors = scores({"a": (6, 8), "b": (2, 16)})
    share = PerRow({"a": 3, "b": 5})
    constraint = Allocation(scope="row").constraint(0.5, VIEWS, share)
    masks = select(tensors, constraint)  # type: ignore[arg-type]
    assert [set(mask.sum(1).tolist()) for mask in masks.values()] == [{3}, {5}]


def test_transposable_masks_are_proved_for_all_tensors_together() -> None:
    tensors = scores({"a": (8, 16), "b": (3, 8), "c": (8, 8)})
    found = decide(tensors, TransposableNofM(4, 8, skip_indivisible=True))
    assert found.masks["b"].all()
    for name in ("a", "c"):
        mask = found.masks[name]
        assert (mask.view(-1, 8).sum(1) == 4).all()
        assert (mask.T.reshape(-1, 8).sum(1) == 4).all()
    kept = sum(int(mask.sum()) for mask in found.masks.values())
    assert (found.proof.keep, found.proof.total) == (kept, 216)
    assert found.proof.holds
    assert found.proof.regret == 0  # type: ignore[attr-defined]
    assert not found.proof.unique
    assert found.binding == ()
    rows = decide(tensors, Allocation(pattern="4:8", exactly=True).constraint(0.5, {
        name: View.of(each.shape) for name, each in tensors.items()
    }))  # fmt: skip
    assert any((rows.masks[name].T.reshape(-1, 8).sum(1) != 4).any() for name in ("a", "c")), (
        "rows alone leave columns with other numbers"
    )


def test_all_are_kept_at_n_equal_m() -> None:
    found = decide(scores({"a": (8, 8)}), TransposableNofM(8, 8))
    assert found.masks["a"].all()
    assert found.proof.keep == 64


@pytest.mark.parametrize(
    ("n", "m", "message"), [(0, 4, "0:4 was asked for"), (5, 4, "5:4"), (4, 65, "M ≤ 64")]
)
def test_a_transposable_pattern_has_limits(n: int, m: int, message: str) -> None:
    with pytest.raises(CardinalityError, match=message):
        TransposableNofM(n, m)


def test_ranks_that_hold_parts_of_matrices_have_no_transposable_pattern() -> None:
    def rank(group: ThreadRank) -> str:
        with pytest.raises(CardinalityError) as raised:
            decide(scores({"a": (8, 8)}), TransposableNofM(4, 8), group)
        return str(raised.value)

    for line in together(2, rank):
        assert "needs whole matrices, and each of 2 ranks has a part" in line


def test_a_tensor_that_blocks_do_not_divide_is_named() -> None:
    with pytest.raises(CardinalityError, match=r"'b' is 3 × 8, which blocks of 8 × 8 do not"):
        decide(scores({"a": (8, 8), "b": (3, 8)}), TransposableNofM(4, 8))
