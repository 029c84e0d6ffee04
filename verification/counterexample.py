"""A counterexample to a law: what the selector got and returned when the law was seen broken."""

import copy
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pins.selection.tree import Node
from verification.laws import Law, Selector, require_mask, right_mask
from verification.scopes import Given, Keep


@dataclass(frozen=True)
class Call:
    """One call of a selector.

    Attributes:
        importance: a copy of the scores as the selector got them, with their strides.
        keep: k, or a tree of bounds.
        mask: the mask returned, (n,) bool or of the shape of the matrix, True = keep.
        after: a copy of the scores after the call.
    """

    importance: Any
    keep: Any
    mask: Tensor
    after: Any


class Counterexample(tuple[Any, Any]):
    """(importance, keep) on which a law was seen broken; its text says where.

    The text names the first call whose mask is wrong, with its scores and k, the mask found, the
    mask expected, and the first index at which they differ. Expected is the mask of an earlier
    call for the same scores, else the optimum of the scope; a law that holds without the tie rule
    takes, of equal scores, those that the mask found keeps.

    Attributes:
        law: the law.
        calls: the calls of the selector while the law was tested, in order.
    """

    law: Law
    calls: tuple[Call, ...]

    def __new__(
        cls, importance: Given, keep: Keep, law: Law, calls: Sequence[Call]
    ) -> "Counterexample":
        """The pair, with the law and the calls."""
        self = super().__new__(cls, (importance, keep))
        self.law, self.calls = law, tuple(calls)
        return self

    def __str__(self) -> str:
        lines = [f"the law {self.law.name!r} is broken: {self.law.statement}"]
        wrong = self._wrong()
        if wrong is None:  # the law asks for more than the right mask
            lines += [self._called(i) for i in range(len(self.calls))]
        else:
            number, expected, reason = wrong
            call = self.calls[number]
            index = int((call.mask != expected).reshape(-1).nonzero()[0])
            lines += [
                self._called(number),
                f"  expected: {_bits(expected)}, {reason}",
                f"  first difference: index {index}, {_place(call.importance, index)}, "
                + ("is pruned, not kept" if expected.reshape(-1)[index] else "is kept, not pruned"),
            ]
        lines += [
            f"  call {i + 1} changed the scores to {_shown(call.after)}"
            for i, call in enumerate(self.calls)
            if identity(call.importance, 0) != identity(call.after, 0)
        ]
        return "\n".join(lines)

    def _called(self, i: int) -> str:
        call = self.calls[i]
        scores = _shown(call.importance)
        keep = " ".join(repr(call.keep).split())  # a tree is long, and in one line
        return (
            f"  call {i + 1} of {len(self.calls)}: k = {keep}, scores {scores}\n"
            f"  found:    {_bits(call.mask)}"
        )

    def _wrong(self) -> tuple[int, Tensor, str] | None:
        """The place of the first call with a wrong mask, the mask expected, and the reason."""
        first: dict[Hashable, int] = {}
        for i, call in enumerate(self.calls):
            earlier = first.setdefault(identity(call.importance, call.keep), i)
            mask = self.calls[earlier].mask
            if not torch.equal(call.mask, mask):
                return i, mask, f"the mask of call {earlier + 1} for the same scores and k"
        for i, call in enumerate(self.calls):
            like = None if self.law.tie_rule else call.mask
            right = right_mask(call.importance, call.keep, like, self.law.scope)
            right = right.view(call.mask.shape)
            if not torch.equal(call.mask, right):
                best = f"the {self.law.scope.best}"
                return i, right, best + (", ties to the lower index" * (like is None))
        return None


def judge(
    selector: Selector, law: Law, importance: Given, keep: Keep
) -> Counterexample | Exception | None:
    """Test the law once: the counterexample, or the exception of the selector, or None."""
    calls: list[Call] = []

    def recorded(given: Given, keep: Keep) -> Tensor:
        before = _copied(given)
        mask = require_mask(selector(given, keep), given)
        calls.append(Call(before, keep, mask, _copied(given)))
        return mask

    try:
        if law.holds(recorded, _copied(importance), keep):
            return None
    except Exception as error:
        return error
    return Counterexample(_copied(importance), keep, law, calls)


def identity(importance: Given, keep: Keep) -> Hashable:
    """Equal for the same names, dtypes, shapes, strides and bits of the scores, and the same k."""
    frozen: tuple[Hashable, ...] = ()
    if isinstance(keep, Node):  # whose frozen weights do not count when nodes are compared
        frozen = tuple(
            None if each is None else _bytes(each)
            for node in keep.tensors
            for each in (node.zeros, node.fixed)
        )
    if isinstance(importance, Tensor):
        importance = {"": importance}
    return (keep, frozen), *(
        (name, s.dtype, s.shape, s.stride(), _bytes(s)) for name, s in importance.items()
    )


def _bytes(tensor: Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy(force=True).tobytes()


def _copied(given: Given) -> Given:
    """A copy of the scores that keeps their strides."""
    if not isinstance(given, Tensor):
        return {name: _copied_tensor(scores) for name, scores in given.items()}
    return _copied_tensor(given)


def _copied_tensor(scores: Tensor) -> Tensor:
    return scores.clone() if scores.is_contiguous() else copy.deepcopy(scores)


def _shown(given: Given) -> str:
    """The scores as an expression in Python, exactly, and the strides that it lacks."""
    if isinstance(given, Tensor):
        strides = "" if given.is_contiguous() else f" with strides {given.stride()}"
        return f"torch.tensor({given.tolist()}, dtype={given.dtype}){strides}"
    return "{" + ", ".join(f"{name!r}: {_shown(scores)}" for name, scores in given.items()) + "}"


def _bits(mask: Tensor) -> str:
    return str(mask.int().tolist())


def _place(given: Given, index: int) -> str:
    """Where the flat index over all tensors is, and its score."""
    if isinstance(given, Tensor):
        row, column = divmod(index, given.shape[1])
        return f"row {row}, column {column}, of score {given[row, column].item()}"
    for name, scores in given.items():
        if index < scores.numel():
            return f"{name}[{index}] of score {scores.reshape(-1)[index].item()}"
        index -= scores.numel()
    raise IndexError(index)
