"""Selectors made of other pruners: which laws the functions of torch, and known rules, break."""

from itertools import islice

import pytest
import torch
from torch import Tensor
from torch.nn.utils import prune

from tests.laws.wrong_in_scope import right
from verification.adapters import by_magnitude, from_in_place, from_ratio, from_torch
from verification.laws import Law, Selector, flat, laws_of
from verification.scopes import FLAT, ROW, Scope, Scores, n_of_m
from verification.strategies import smallest


def broken(selector: Selector, scope: Scope = FLAT, *, ties: bool = True) -> set[str]:
    """The names of the laws that the selector breaks on the smallest instances."""

    def found(law: Law) -> bool:
        tried = (i for i in smallest(law) if ties or distinct(scope.named(i[0])))
        return any(not law.holds(selector, *instance) for instance in islice(tried, 60))

    return {law.name for law in laws_of(scope) if found(law)}


def distinct(importance: Scores) -> bool:
    return len(set(flat(importance).tolist())) == flat(importance).numel()


SIGNED = {"theorem-1", "tie-rule", "permutation", "affine", "complement"}


@pytest.mark.parametrize(
    "selector",
    [from_torch(prune.l1_unstructured), from_torch(prune.ln_structured, n=2, dim=0)],
    ids=["l1_unstructured", "ln_structured"],
)
def test_pruners_of_torch_rank_absolute_scores_and_leave_ties_to_chance(selector: Selector) -> None:
    assert broken(selector) == SIGNED
    ranked = by_magnitude(selector)
    assert broken(ranked) <= {"tie-rule", "complement"}  # topk does not say which ties it keeps
    assert broken(ranked, ties=False) == set()


def test_random_pruning_is_told_from_a_function_of_the_scores() -> None:
    torch.manual_seed(0)
    found = broken(from_torch(prune.random_unstructured))
    assert {"determinism", "theorem-1"} <= found
    assert not found & {"exact-count", "unchanged"}


def wanda(matrix: Tensor, sparsity: float) -> Tensor:
    """The rule of Wanda's released code for rows."""
    order = torch.sort(matrix, dim=-1, stable=True).indices
    pruned = order[:, : int(matrix.shape[1] * sparsity)]
    return torch.ones_like(matrix, dtype=torch.bool).scatter(1, pruned, False)


def test_the_rule_of_wanda_keeps_all_laws_but_the_tie_rule() -> None:
    assert broken(from_ratio(wanda, ROW), ROW) == {"tie-rule"}
    assert broken(from_ratio(wanda, ROW), ROW, ties=False) == set()


def test_a_ratio_whose_fraction_is_cut_off_keeps_one_too_many_from_49_weights_on() -> None:
    kept = {
        n: int(from_ratio(wanda, ROW)(torch.arange(float(n))[None], n - 1).sum())
        for n in range(2, 50)
    }
    assert [n for n, number in kept.items() if number != n - 1] == [49]


def test_a_right_pruner_stays_right_through_each_adapter() -> None:
    def by_ratio(scores: object, sparsity: float) -> Tensor:
        total = FLAT.room(scores)  # type: ignore[arg-type]
        return right(FLAT)(scores, round(total * (1 - sparsity)))

    def in_place(weights: Tensor, keep: int) -> None:
        weights *= right(ROW)(weights, keep)

    assert broken(from_ratio(by_ratio)) == set()
    assert broken(from_in_place(in_place, ROW), ROW) == set()
    assert broken(by_magnitude(right(n_of_m(2)), n_of_m(2)), n_of_m(2)) == set()


def test_a_pruner_in_place_with_a_threshold_keeps_all_ties() -> None:
    def below_the_threshold(weights: Tensor, keep: int) -> None:
        least = weights.sort(descending=True).values[keep - 1] if keep else torch.inf
        weights[weights < least] = 0

    selector = from_in_place(below_the_threshold)
    assert {"exact-count", "nesting"} <= broken(selector)
    assert "theorem-1" not in broken(selector)


def test_a_pruner_may_change_a_module() -> None:
    def prune_module(weights: Tensor, keep: int) -> None:
        module = torch.nn.Linear(len(weights), 1, bias=False)
        module.weight.data = weights[None]
        prune.l1_unstructured(module, "weight", amount=len(weights) - keep)  # type: ignore[no-untyped-call]
        weights *= module.get_buffer("weight_mask")[0]

    assert broken(from_in_place(prune_module), ties=False) == set()
