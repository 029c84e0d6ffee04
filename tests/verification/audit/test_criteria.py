"""A magnitude mask is recognised, whoever made it; of any other the regret is exact and proved."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.utils.prune as torch_prune
from torch import Tensor, nn

from tests.verification.audit.models import largest_of_rows
from verification.audit.criteria import LOWER, NO_TIES, Judgement, judge_layer
from verification.audit.pattern import completed, find_pattern
from verification.certificates import fast_checker


def weights(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def judged(dense: Tensor, mask: Tensor, folder: Path, **how: Any) -> list[Judgement]:
    """What is found of a mask; every certificate is proved."""
    pattern = find_pattern(mask, ~mask)
    assert torch.equal(completed(pattern, mask, ~mask), mask)
    rounded = dense.to(how.pop("dtype", dense.dtype))
    found = judge_layer("w", dense, rounded, mask, pattern, folder / "000", **how)
    for each in found:
        assert each.certificate is not None
        assert fast_checker.check(each.certificate).outcome.name == "PROVED"
        assert each.optimal == (each.exchanged == 0)
    return found


def pruned_by_torch(method: Any, dense: Tensor, **how: Any) -> Tensor:
    layer = nn.Linear(dense.shape[1], dense.shape[0])
    layer.weight.data = dense.clone()
    method(layer, "weight", **how)
    mask: Tensor = layer.weight_mask  # type: ignore[assignment]
    return mask.bool()


def test_l1_unstructured_of_torch_is_the_optimum_of_its_tensor(tmp_path: Path) -> None:
    dense = weights(13, 31)
    mask = pruned_by_torch(torch_prune.l1_unstructured, dense, amount=0.5)
    [one] = judged(dense, mask, tmp_path)
    assert (one.criterion, one.scope, one.optimal) == ("magnitude", "tensor", True)
    assert one.ties == NO_TIES
    assert (
        one.count == "50 % of 403, rounded up" or one.count == "50 % of 403, to the nearest number"
    )


@pytest.mark.parametrize("n", [1, 2])
def test_ln_structured_of_torch_is_the_optimum_of_rows_by_its_norm(tmp_path: Path, n: int) -> None:
    dense = weights(32, 31) * torch.linspace(0.9, 1.1, 31)
    mask = pruned_by_torch(torch_prune.ln_structured, dense, amount=0.5, n=n, dim=0)
    found = {each.criterion: each for each in judged(dense, mask, tmp_path)}
    assert all(each.scope == "block" for each in found.values())
    assert found["magnitude" if n == 1 else "squared magnitude"].optimal
    assert not found["squared magnitude" if n == 1 else "magnitude"].optimal


def test_a_threshold_by_index_is_recognised_with_its_off_by_one_and_its_ties(
    tmp_path: Path,
) -> None:
    dense = weights(10, 37).mul(20).round() / 20
    scores = dense.abs()
    mask = scores > scores.flatten().sort().values[int(scores.numel() * 0.5)]
    [one] = judged(dense, mask, tmp_path)
    assert one.optimal
    assert one.ties == NO_TIES
    assert one.count is not None
    assert "more than 50 % of 370, rounded down: all up to a threshold, of which" in one.count


def test_rows_with_ties_by_the_lower_index_and_by_another_order(tmp_path: Path) -> None:
    dense = weights(40, 31).mul(4).round() / 4
    mask = largest_of_rows(dense, 16)
    [one] = judged(dense, mask, tmp_path)
    assert (one.scope, one.optimal, one.ties) == ("row", True, LOWER)
    assert one.count == "50 % of 31, to the nearest number"
    other = largest_of_rows(dense.flip(1), 16).flip(1)
    (tmp_path / "b").mkdir()
    [two] = judged(dense, other, tmp_path / "b")
    assert (two.optimal, two.ties) == (True, "kept in another order")


def test_two_of_four_is_judged_among_its_groups_in_both_directions(tmp_path: Path) -> None:
    dense = weights(24, 48)
    mask = largest_of_rows(dense.view(-1, 4), 2).view(24, 48)
    [one] = judged(dense, mask, tmp_path)
    assert (one.scope, one.optimal, one.count) == ("N:M", True, "exactly 50 % of 4")
    (tmp_path / "b").mkdir()
    [two] = judged(dense.mT.contiguous(), mask.mT.contiguous(), tmp_path / "b")
    assert (two.scope, two.optimal) == ("N:M", True)


def test_the_regret_of_another_mask_is_exact_and_proved(tmp_path: Path) -> None:
    dense = weights(40, 31)
    mask = largest_of_rows(dense, 16)
    row = dense[5].abs()
    worst_kept = int(row.masked_fill(~mask[5], 9).argmin())
    best_pruned = int(row.masked_fill(mask[5], 0).argmax())
    mask[5, worst_kept], mask[5, best_pruned] = False, True
    [one] = judged(dense, mask, tmp_path)
    loss = Fraction(float(row[worst_kept])) - Fraction(float(row[best_pruned]))
    assert (one.optimal, one.exchanged, one.regret) == (False, 1, loss)
    assert one.ties is None
    said = one.as_json(tmp_path)
    assert Fraction(int(said["regret"]["numerator"]), int(said["regret"]["denominator"])) == loss
    assert said["certificate"] == "000.magnitude.json"


def test_a_mask_made_after_rounding_is_recognised_by_the_rounded_weights(tmp_path: Path) -> None:
    dense = weights(40, 31)
    mask = largest_of_rows(dense.bfloat16().float().flip(1), 16).flip(1)
    assert not torch.equal(mask, largest_of_rows(dense, 16))
    [one] = judged(dense, mask, tmp_path, dtype=torch.bfloat16)
    assert (one.optimal, one.weights) == (True, "bfloat16")
    (tmp_path / "b").mkdir()
    [two] = judged(dense, largest_of_rows(dense, 16), tmp_path / "b", dtype=torch.bfloat16)
    assert (two.optimal, two.weights) == (True, "float32")
