"""Scores and a cardinality constraint → the optimal mask: exactly k kept, ties by index.

The mask keeps the k largest scores; among equal ones the lower flat index. The threshold s₍ₖ₎ is
found by a radix search on integers whose order is the order of the scores, so nothing is sorted,
rounded, concatenated or sampled, and the answer is the same on every device and for every chunking.
"""

import functools
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import torch
from torch import Tensor

from pins.errors import CardinalityError, ImportanceError, OptimalityError
from pins.optimality import Optimality, optimality

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
    """One solved program max s·m s.t. 1·m = keep: the optimal masks and the proof.

    Attributes:
        masks: bool masks by tensor name, True = keep.
        proof: Theorem 1, read back from scores and masks after the selection.
    """

    masks: dict[str, Tensor]
    proof: Optimality


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


def decide(importance: Mapping[str, Tensor], keep: int) -> Decision:
    """Solve the program and prove the solution: `select`, then Theorem 1 on what it returned.

    Raises:
        ImportanceError, CardinalityError: as `select`.
        OptimalityError: the masks are not the optimum, which would be a defect of PINS.
    """
    if not isinstance(importance, Mapping):
        raise ImportanceError(
            f"decide() was given a {type(importance).__name__}: give a mapping of tensors by name, "
            "or call select()"
        )
    masks = select(importance, keep)
    proof = optimality(importance, masks)
    if proof.keep != keep or not proof.holds:
        raise OptimalityError(f"the selection kept {proof.keep} of {keep} and proves {proof}")
    return Decision(masks, proof)


def _masks(importance: Mapping[str, Tensor], keep: int) -> dict[str, Tensor]:
    """Masks by label; the labels are those an error message names."""
    _validate(importance)
    total = sum(scores.numel() for scores in importance.values())
    keep = _cardinality(keep, total)
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


def _cardinality(keep: int, total: int) -> int:
    """`keep` as an int of [0, total]."""
    try:
        number = operator.index(keep)
    except TypeError:
        number = -1
    boolean = isinstance(keep, bool) or getattr(keep, "dtype", None) == torch.bool
    if boolean or not 0 <= number <= total:
        raise CardinalityError(
            f"keep is {keep!r}: it is the number of weights to keep, an int from 0 to {total}"
        )
    return number
