"""A counterexample to a law: what the selector got and returned when the law was seen broken."""

import copy
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from verification.laws import Law, Scores, Selector, checked, right_mask


@dataclass(frozen=True)
class Call:
    """One call of a selector.

    Attributes:
        importance: a copy of the scores as the selector got them, with their strides.
        keep: k.
        mask: the mask returned, (n,) bool, True = keep.
        after: a copy of the scores after the call.
    """

    importance: Scores
    keep: int
    mask: Tensor
    after: Scores


class Counterexample(tuple[dict[str, Tensor], int]):
    """(importance, keep) on which a law was seen broken; its text says where.

    The text names the first call whose mask is wrong, with its scores and k, the mask found, the
    mask expected, and the first index at which they differ. Expected is the mask of an earlier
    call for the same scores, else the mask of the k largest; a law that holds without the tie rule
    takes, of equal scores, those that the mask found keeps.

    Attributes:
        law: the law.
        calls: the calls of the selector while the law was tested, in order.
    """

    law: Law
    calls: tuple[Call, ...]

    def __new__(
        cls, importance: dict[str, Tensor], keep: int, law: Law, calls: Sequence[Call]
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
            index = int((call.mask != expected).nonzero()[0])
            lines += [
                self._called(number),
                f"  expected: {_bits(expected)}, {reason}",
                f"  first difference: index {index}, {_place(call.importance, index)}, "
                + ("is kept, not pruned" if call.mask[index] else "is pruned, not kept"),
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
        return (
            f"  call {i + 1} of {len(self.calls)}: k = {call.keep}, scores {scores}\n"
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
            right = right_mask(call.importance, call.keep, like)
            if not torch.equal(call.mask, right):
                return i, right, "the k largest" + (", ties to the lower index" * (like is None))
        return None


def judge(
    selector: Selector, law: Law, importance: Scores, keep: int
) -> Counterexample | Exception | None:
    """Test the law once: the counterexample, or the exception of the selector, or None."""
    calls: list[Call] = []

    def recorded(given: Scores, keep: int) -> Tensor:
        before = _copied(given)
        mask = checked(selector)(given, keep)
        calls.append(Call(before, keep, mask, _copied(given)))
        return mask

    try:
        if law.holds(recorded, _copied(importance), keep):
            return None
    except Exception as error:
        return error
    return Counterexample(_copied(importance), keep, law, calls)


def identity(importance: Scores, keep: int) -> Hashable:
    """Equal for the same names, dtypes, shapes, strides and bits of the scores, and the same k."""
    return keep, *(
        (
            name,
            s.dtype,
            s.shape,
            s.stride(),
            s.contiguous().reshape(-1).view(torch.uint8).numpy(force=True).tobytes(),
        )
        for name, s in importance.items()
    )


def _copied(importance: Scores) -> dict[str, Tensor]:
    """A copy of the scores that keeps their strides."""
    return {n: s.clone() if s.is_contiguous() else copy.deepcopy(s) for n, s in importance.items()}


def _shown(importance: Scores) -> str:
    """The scores as an expression in Python, exactly, and the strides that it lacks."""
    tensors = (
        f"{name!r}: torch.tensor({s.tolist()}, dtype={s.dtype})"
        + ("" if s.is_contiguous() else f" with strides {s.stride()}")
        for name, s in importance.items()
    )
    return "{" + ", ".join(tensors) + "}"


def _bits(mask: Tensor) -> str:
    return str(mask.int().tolist())


def _place(importance: Scores, index: int) -> str:
    """The tensor, the flat index in it, and the score of a flat index over all tensors."""
    for name, scores in importance.items():
        if index < scores.numel():
            return f"{name}[{index}] of score {scores.reshape(-1)[index].item()}"
        index -= scores.numel()
    raise IndexError(index)
