"""For each law, a pruner that breaks it in any scope: the right one, spoilt in one way."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from typing import Any

import torch
from torch import Tensor

import pins
from pins.selection.reach import keep_of
from pins.selection.tree import Node, change_each
from verification.laws import Selector, flat
from verification.scopes import Keep, Scope, Scores, reverse

Maker = Callable[[Scope], Selector]


def right(scope: Scope) -> Selector:
    """The selection of PINS, under the tree of the scope."""
    return _selector(scope, lambda importance, keep: _selected(scope, importance, keep))


def _selected(scope: Scope, importance: Scores, keep: Keep) -> Tensor:
    masks = pins.select(importance, scope.tree(importance, keep))
    return flat({name: masks[name] for name in importance})


def _selector(scope: Scope, select: Callable[[Scores, Any], Tensor]) -> Selector:
    """A function of scores by name as a selector of the scope."""

    def selector(given: Any, keep: Any) -> Tensor:
        mask = select(scope.named(given), keep)
        return mask.view(given.shape) if scope.matrix else mask

    return selector


def _of_changed_scores(change: Callable[[Tensor], Tensor]) -> Maker:
    def wrong(scope: Scope) -> Selector:
        def select(importance: Scores, keep: Keep) -> Tensor:
            changed = {name: change(scores) for name, scores in importance.items()}
            return _selected(scope, changed, keep)

        return _selector(scope, select)

    return wrong


def keeps_a_weight_more(scope: Scope) -> Selector:
    """The optimum, and the first pruned weight."""

    def select(importance: Scores, keep: Keep) -> Tensor:
        mask = _selected(scope, importance, keep)
        mask[(~mask).nonzero()[:1]] = True
        return mask

    return _selector(scope, select)


def all_weights_compete(scope: Scope) -> Selector:
    """As many weights as the optimum keeps, the largest of all."""

    def select(importance: Scores, keep: Keep) -> Tensor:
        kept = int(_selected(scope, importance, keep).sum())
        return pins.select(flat(importance), kept)

    return _selector(scope, select)


def ties_to_the_higher_index(scope: Scope) -> Selector:
    """Right except for the tie rule."""

    def flipped(mask: Tensor | None) -> Tensor | None:
        return None if mask is None else reverse(mask)

    def select(importance: Scores, keep: Keep) -> Tensor:
        backwards = {name: reverse(importance[name]) for name in reversed([*importance])}
        if isinstance(keep, Node):
            keep = change_each(
                keep,
                lambda node: replace(node, zeros=flipped(node.zeros), fixed=flipped(node.fixed)),
            )
        return _selected(scope, backwards, keep).flip(0)

    return _selector(scope, select)


def nothing_for_odd_k(scope: Scope) -> Selector:
    """The optimum for even k, nothing for odd k."""

    def select(importance: Scores, keep: Keep) -> Tensor:
        odd = (keep_of(keep) if isinstance(keep, Node) else keep) % 2
        return _selected(scope, importance, keep) & (not odd)

    return _selector(scope, select)


def by_turns(scope: Scope) -> Selector:
    """The optimum at two calls, the least sum at the next two."""
    calls = count()

    def select(importance: Scores, keep: Keep) -> Tensor:
        turned = next(calls) // 2 % 2
        signed = {name: -scores if turned else scores for name, scores in importance.items()}
        return _selected(scope, signed, keep)

    return _selector(scope, select)


def sorts_in_place(scope: Scope) -> Selector:
    """Right, but it changes the scores."""

    def select(importance: Mapping[str, Tensor], keep: Keep) -> Tensor:
        mask = _selected(scope, importance, keep)
        for scores in importance.values():
            scores.copy_(scores.reshape(-1).sort().values.view(scores.shape))
        return mask

    return _selector(scope, select)


def _by_index(scores: Tensor) -> Tensor:
    """The same for all scores: the first are the largest."""
    return -torch.arange(float(scores.numel())).view(scores.shape)


def _rounded(scores: Tensor) -> Tensor:
    coarse = torch.float32 if scores.dtype == torch.float64 else torch.bfloat16
    return scores.to(coarse).nan_to_num()


def _by_sign_bit(scores: Tensor) -> Tensor:
    wide = scores.double()
    return wide.where((wide != 0) | ~wide.signbit(), torch.full_like(wide, -5e-324))


def _order_of_memory(scores: Tensor) -> Tensor:
    if not scores.numel():
        return scores
    return scores.as_strided((scores.numel(),), (1,)).view(scores.shape)


BROKEN_BY: dict[str, tuple[Maker, ...]] = {
    "exact-count": (keeps_a_weight_more,),
    "theorem-1": (_of_changed_scores(torch.abs), _of_changed_scores(_by_index)),
    "tie-rule": (ties_to_the_higher_index, _of_changed_scores(_rounded)),
    "permutation": (_of_changed_scores(_by_index),),
    "affine": (_of_changed_scores(torch.abs),),
    "nesting": (nothing_for_odd_k,),
    "complement": (_of_changed_scores(torch.abs),),
    "concatenation": (all_weights_compete,),
    "strides": (_of_changed_scores(_order_of_memory),),
    "float64": (_of_changed_scores(_rounded),),
    "zero": (_of_changed_scores(_by_sign_bit),),
    "determinism": (by_turns,),
    "unchanged": (sorts_in_place,),
}  # by the name of the law
