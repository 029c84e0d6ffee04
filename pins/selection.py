"""Scores and a constraint → the optimal mask: exactly k kept, ties by index.

The mask keeps the k largest scores; among equal ones the lower flat index. The threshold s₍ₖ₎ is
found by a radix search on integers whose order is the order of the scores, so nothing is sorted,
rounded, concatenated or sampled, and the answer is the same on every device and for every chunking.
With a minimum in each tensor (`pins.constraints`) a few such selections make the mask.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import torch
from torch import Tensor

from pins.constraints import Cardinality, Constraint, PerTensor, cardinality
from pins.errors import ImportanceError, OptimalityError
from pins.optimality import (
    ConstrainedOptimality,
    Optimality,
    constrained_optimality,
    optimality,
)

BLOCK = 1 << 20  # weights looked at together: bounds the memory beside scores and masks
DIGIT_BITS = 16  # of a key, fixed in one pass over the scores: 2 passes for float32
DIGITS = 1 << DIGIT_BITS

_KEY_DTYPE = {
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
    torch.float32: torch.int32,
    torch.float64: torch.int64,
}


@dataclass(frozen=True)
class Decision:
    """One solved program max s·m over the masks a constraint allows: the optimum and its proof.

    Attributes:
        masks: bool masks by tensor name, True = keep.
        proof: Theorem 1, or 4 where tensors have minimums, read back from scores and masks after
            the selection.
        constraint: the masks allowed.
    """

    masks: dict[str, Tensor]
    proof: Optimality | ConstrainedOptimality
    constraint: Constraint

    @property
    def binding(self) -> tuple[str, ...]:
        """The tensors whose minimum binds: they keep a score below one that is pruned elsewhere.

        Empty iff the mask is an optimum of Σm = k alone. `PerTensor` has no minimums, so none bind.
        """
        if isinstance(self.proof, Optimality) or isinstance(self.constraint, PerTensor):
            return ()
        return self.proof.binding


@overload
def select(importance: Tensor, keep: int) -> Tensor: ...
@overload
def select(importance: Mapping[str, Tensor], keep: int) -> dict[str, Tensor]: ...
@overload
def select(importance: Sequence[Tensor], keep: int) -> Sequence[Tensor]: ...
def select(
    importance: Tensor | Mapping[str, Tensor] | Sequence[Tensor], keep: int
) -> Tensor | dict[str, Tensor] | Sequence[Tensor]:
    """argmax s·m subject to 1·m = keep, m ∈ {0,1}ⁿ; the lower flat index is kept among equals.

    Args:
        importance: scores s, larger = keep: a tensor, or a sequence or mapping of tensors of
            any shapes, numbered row-major in the order given. float16, bfloat16, float32, float64.
        keep: the exact number k of ones over all tensors together, 0 ≤ k ≤ n.

    Returns:
        Bool masks (True = keep) in the structure of `importance`.

    Raises:
        ImportanceError: NaN, ±inf, no weights, or not floating point; names tensor, index, value.
        CardinalityError: `keep` is not an int in [0, n].
    """
    if isinstance(importance, Tensor):
        return _masks({"importance": importance}, keep)["importance"]
    if isinstance(importance, Mapping):
        labelled = {f"importance[{name!r}]": scores for name, scores in importance.items()}
        return dict(zip(importance, _masks(labelled, keep).values(), strict=True))
    labelled = {f"importance[{i}]": scores for i, scores in enumerate(importance)}
    masks = _masks(labelled, keep).values()
    return tuple(masks) if isinstance(importance, tuple) else list(masks)


def decide(importance: Mapping[str, Tensor], keep: int | Constraint) -> Decision:
    """Solve the program and prove the solution: select, then Theorem 1 or 4 on what came of it.

    Of several optima it is the one whose ones stand at the lowest flat indices (the first in
    lexicographic order): each tensor's minimum goes to its largest scores, then the rest to the
    largest of all others, and both times to the lower index among equals. Where the plain selection
    has every minimum already, the mask is the plain selection.

    Args:
        importance: scores s by tensor name, as `select`.
        keep: the constraint; an int k is `Cardinality(k)`.

    Raises:
        ImportanceError: as `select`.
        CardinalityError: no mask of these tensors meets the constraint.
        OptimalityError: the masks are not the optimum, which would be a defect of PINS.
    """
    if not isinstance(importance, Mapping):
        raise ImportanceError(
            f"decide() was given a {type(importance).__name__}: give a mapping of tensors by name, "
            "or call select()"
        )
    constraint = keep if isinstance(keep, Constraint) else Cardinality(keep)
    proof: Optimality | ConstrainedOptimality
    if isinstance(constraint, Cardinality):
        masks = select(importance, constraint.keep)
        proof = optimality(importance, masks)
    else:
        _validate({f"importance[{name!r}]": scores for name, scores in importance.items()})
        constraint.validate({name: scores.shape for name, scores in importance.items()})
        masks = _with_minimums(importance, constraint)
        proof = constrained_optimality(importance, masks, constraint.minimums)
    if proof.keep != constraint.keep or not proof.holds:
        raise OptimalityError(
            f"the selection kept {proof.keep} of {constraint.keep} and proves {proof}"
        )
    return Decision(masks, proof, constraint)


def _with_minimums(importance: Mapping[str, Tensor], constraint: Constraint) -> dict[str, Tensor]:
    """Masks by name with Σm = k and Σ_{i∈t} mᵢ ≥ l_t.

    Where the plain selection gives a tensor less than its minimum, the optimum gives it exactly the
    minimum: that leaves the others fewer weights, hence a higher threshold. The others are a
    smaller program of the same kind, and each such round settles at least one tensor.
    """
    masks: dict[str, Tensor] = {}
    unsettled, left = dict(importance), constraint.keep
    while unsettled:
        minimums = {name: constraint.minimums.get(name, 0) for name in unsettled}
        if sum(minimums.values()) == left:  # nothing beyond them to share
            short = list(unsettled)
        else:
            plain = _largest(unsettled, left)
            short = [n for n, least in minimums.items() if int(plain[n].count_nonzero()) < least]
            if not short:
                masks |= plain
                break
        for name in short:
            masks |= _largest({name: unsettled.pop(name)}, minimums[name])
            left -= minimums[name]
    return {name: masks[name] for name in importance}


def _masks(importance: Mapping[str, Tensor], keep: int) -> dict[str, Tensor]:
    """Masks by label; the labels are those an error message names."""
    _validate(importance)
    total = sum(scores.numel() for scores in importance.values())
    return _largest(importance, cardinality(keep, total))


def _largest(importance: Mapping[str, Tensor], keep: int) -> dict[str, Tensor]:
    """The masks of the k largest scores, 0 ≤ k ≤ n; the lower flat index among equals."""
    total = sum(scores.numel() for scores in importance.values())
    if keep in (0, total):
        return {
            label: torch.full_like(scores, keep > 0, dtype=torch.bool)
            for label, scores in importance.items()
        }
    dtype = functools.reduce(torch.promote_types, (s.dtype for s in importance.values()))
    threshold, above = _threshold(importance, dtype, keep)
    ties_left = keep - above
    masks = {}
    for label, scores in importance.items():
        blocks = []
        for keys in _keys(scores, dtype):
            mask = keys > threshold
            if ties_left:
                ties = keys == threshold
                # running number of each tie: the first ties_left of them are kept
                ties &= ties.cumsum(0) <= ties_left
                ties_left -= int(ties.sum())
                mask |= ties
            blocks.append(mask)
        masks[label] = torch.cat(blocks).view(scores.shape) if blocks else scores.bool()
    return masks


def _threshold(importance: Mapping[str, Tensor], dtype: torch.dtype, keep: int) -> tuple[int, int]:
    """The key of s₍ₖ₎ and the number of keys above it, 0 < keep < n.

    The key is fixed digit by digit from the most significant: a histogram of the next digit, over
    the keys that agree so far, says in which bin the k-th largest lies.
    """
    bits = torch.iinfo(_KEY_DTYPE[dtype]).bits
    prefix, above = 0, 0
    for shift in range(bits - DIGIT_BITS, -1, -DIGIT_BITS):
        first = shift == bits - DIGIT_BITS
        histogram = torch.zeros(DIGITS, dtype=torch.int64)
        for scores in importance.values():
            for keys in _keys(scores, dtype):
                if first:
                    # keys are signed: the bias makes their top digit a bin number
                    digits = (keys >> shift).to(torch.int32) + DIGITS // 2
                else:
                    agree = keys[keys >> (shift + DIGIT_BITS) == prefix]
                    digits = (agree >> shift) & (DIGITS - 1)
                histogram += torch.bincount(digits, minlength=DIGITS).cpu()
        # at_least[d] = above + number of keys whose digit is ≥ d
        at_least = above + histogram.flip(0).cumsum(0).flip(0)
        digit = int((at_least >= keep).sum()) - 1
        above = int(at_least[digit]) - int(histogram[digit])
        prefix = digit - DIGITS // 2 if first else (prefix << DIGIT_BITS) | digit
    return prefix, above


def _keys(scores: Tensor, dtype: torch.dtype) -> Iterator[Tensor]:
    """Integers in the order of the scores, block by block: sᵢ < sⱼ ⇔ keyᵢ < keyⱼ.

    IEEE floats are sign and magnitude; flipping the magnitude bits of the negative ones makes
    two's-complement integers of the same order. Adding 0.0 first turns −0.0 into 0.0, its equal.
    """
    integer = _KEY_DTYPE[dtype]
    magnitude = torch.iinfo(integer).max
    sign_shift = torch.iinfo(integer).bits - 1
    for block in torch.split(scores.detach().reshape(-1), BLOCK):
        if block.numel():
            bits = (block.to(dtype) + 0.0).view(integer)
            yield bits ^ ((bits >> sign_shift) & magnitude)


def _validate(importance: Mapping[str, Tensor]) -> None:
    """Refuse what cannot be ranked."""
    for label, scores in importance.items():
        if not isinstance(scores, Tensor) or scores.dtype not in _KEY_DTYPE:
            kind = scores.dtype if isinstance(scores, Tensor) else type(scores).__name__
            raise ImportanceError(
                f"{label} is {kind}: importance is a tensor of float16, bfloat16, float32 or "
                "float64"
            )
        if scores.layout != torch.strided or scores.is_meta:
            raise ImportanceError(
                f"{label} is {'on the meta device' if scores.is_meta else scores.layout}: "
                "importance is a dense tensor with values"
            )
        for number, block in enumerate(torch.split(scores.detach().reshape(-1), BLOCK)):
            finite = block.isfinite()
            if not finite.all():
                offset = int((~finite).nonzero()[0])
                index = torch.unravel_index(torch.tensor(number * BLOCK + offset), scores.shape)
                where = ", ".join(str(int(i)) for i in index)
                raise ImportanceError(
                    f"{label} at index ({where}) is {block[offset].item()}: importance must be "
                    "finite to be ranked; look for overflow in the loss or its gradient"
                )
    if sum(scores.numel() for scores in importance.values()) == 0:
        raise ImportanceError("importance is empty: there is no weight to rank")
