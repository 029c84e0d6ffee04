"""Passes over the scores of a whole model, tensor by tensor, a block of weights at a time.

Each pass reads every score once, in its tensor; nothing of the model's size is made but the masks.
Scores are compared as floats of their common type; where a processor flushes denormals, as the
integers of `pins.selection.scan.float_keys`, which have the same order.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pins.errors import ImportanceError
from pins.selection.scan import float_keys
from pins.utils import bit_packing
from pins.utils.lazy_tensors import shapes_of

# Weights looked at together: what a pass needs beside scores and masks. A processor's share fits
# its cache; a GPU wants few and large kernels.
BLOCK, GPU_BLOCK = 1 << 20, 1 << 26
_SEED = 0  # of the sample: another one finds the same mask


@dataclass(frozen=True)
class Marked:
    """What a pass knows of an interval [low, high] of scores, tensor by tensor in order.

    Attributes:
        masks: by name, sᵢ > high.
        above: number of scores > high.
        inside: number of scores in the interval.
        positions: flat indices in their tensor of scores inside, ascending; int32 or int64.
        values: of these.
        complete: whether these are all that are inside.
    """

    masks: dict[Any, Tensor]
    above: Tensor
    inside: Tensor
    positions: list[Tensor]
    values: list[Tensor]
    complete: bool


class Compared(NamedTuple):
    """What masks keep, against a value: numbers of scores.

    Attributes:
        kept: kept ones.
        below: kept ones below the value.
        above: pruned ones above it.
        equal: pruned ones that are equal to it.
    """

    kept: int
    below: int
    above: int
    equal: int


class Scan:
    """The scores of this process, to be read pass by pass: first by `survey`.

    Attributes:
        sizes: number of scores by name.
        dtype: the common type, in which every score is exact; known after `survey`.
        devices: the kinds of those on which the scores are; likewise.
    """

    dtype: torch.dtype
    devices: frozenset[str] = frozenset()

    def __init__(
        self, importance: Mapping[Any, Tensor], names: Collection[Any] | None = None
    ) -> None:
        """Read nothing yet.

        Args:
            importance: scores by name; a `Scores` computes a tensor each time it is asked for.
            names: of the tensors to look at; default: all.
        """
        self._importance = importance
        shapes = shapes_of(importance)
        self.sizes = {name: shapes[name].numel() for name in (shapes if names is None else names)}
        self._as_keys = not float_keys.denormals_compare(max(self.sizes.values(), default=0))

    def survey(self, size: int, of: int) -> Tensor:
        """Find the common type, see that all scores can be ranked, and draw a sample of them.

        Args:
            size: of the sample, were it of all ranks.
            of: number of scores of all ranks. Each tensor gives its share, at random places, the
                same ones each time.

        Returns:
            Scores as they are compared, on the CPU.

        Raises:
            ImportanceError: NaN, ±inf, or not floating point; names tensor, index, value.
        """
        drawn: list[Tensor] = []
        sums: dict[Any, Tensor] = {}
        dtype: torch.dtype | None = None
        for name, total in self.sizes.items():
            scores = self._importance[name]
            require_rankable(label(name), scores)
            self.devices |= {scores.device.type}
            dtype = scores.dtype if dtype is None else torch.promote_types(dtype, scores.dtype)
            flat = scores.detach().reshape(-1)
            # a NaN or inf among the terms makes a sum one; a sum of finite terms may be one, too
            sums[name] = _sum(flat)
            if total and size:
                generator = torch.Generator(flat.device).manual_seed(_SEED)
                places = torch.randint(
                    total,
                    (-(-size * total // of),),
                    generator=generator,
                    device=flat.device,
                )
                drawn.append(flat[places])
        self.dtype = dtype or torch.float32
        if sums and not stacked([value.isfinite() for value in sums.values()]).all():
            for name, value in sums.items():
                if not value.isfinite():
                    require_finite(label(name), self._importance[name])
        found = [self._comparable(values) for values in drawn]
        return torch.cat(beside(found)).cpu() if found else self.nothing

    @property
    def nothing(self) -> Tensor:
        """No scores, as they are compared."""
        return self._comparable(torch.empty(0))

    def bound(self, key: int) -> float:
        """What scores are compared with, of a key."""
        return key if self._as_keys else float_keys.score(key, self.dtype)

    def bound_of(self, score: float) -> float:
        """What scores are compared with, of a score."""
        return float_keys.key(score, self.dtype) if self._as_keys else score

    def key(self, bound: float) -> int:
        """The key of a score as it is compared."""
        return int(bound) if self._as_keys else float_keys.key(bound, self.dtype)

    def score(self, bound: float) -> float:
        """The score of a score as it is compared."""
        return float_keys.score(int(bound), self.dtype) if self._as_keys else float(bound)

    def _tensors(self) -> Iterator[tuple[Any, Tensor]]:
        for name in self.sizes:
            yield name, self._importance[name]

    def mark(self, low: float | None, high: float, *, every: int = 1, room: int = 0) -> Marked:
        """The scores above an interval, and those inside.

        Args:
            low: the interval's lower end; None: it has none.
            high: its upper end.
            every: gather of scores at multiples of it only.
            room: gather no more than so many.
        """
        masks, above, inside = {}, [], []
        positions: list[Tensor] = []
        values: list[Tensor] = []
        gather, complete = room > 0, every == 1
        for name, scores in self._tensors():
            flat = scores.detach().reshape(-1)
            mask = empty_mask(flat)
            # one for all blocks: small results kept between large buffers would scatter these
            buffer = torch.empty_like(mask[: _block(flat)])
            tally = torch.zeros(2, dtype=torch.int64, device=flat.device)
            where, what = [flat.new_empty(0, dtype=torch.int64)], [self._comparable(flat[:0])]
            for start, block, part in _blocks(flat, mask):
                block = self._comparable(block)
                torch.gt(block, high, out=part[: len(block)])
                candidates = buffer[: len(part)]
                candidates[len(block) :] = False
                if low is None:
                    torch.le(block, high, out=candidates[: len(block)])
                else:
                    torch.ge(block, low, out=candidates[: len(block)])
                    candidates.view(torch.int64).bitwise_xor_(part.view(torch.int64))
                within = bit_packing.ones(candidates)
                tally[0] += bit_packing.ones(part)
                tally[1] += within
                if not gather:
                    continue
                if int(within) > room * every:  # finding them all would take more than the room
                    complete = False
                    continue
                if every == 1:
                    found = bit_packing.positions(candidates)
                else:
                    first = -start % every
                    found = candidates[first::every].nonzero().view(-1) * every + first
                room -= len(found)
                where.append(found + start)
                what.append(block[found])
            masks[name] = shaped(mask, scores.shape)
            above.append(tally[0])
            inside.append(tally[1])
            positions.append(torch.cat(where))
            values.append(torch.cat(what))
        complete &= gather
        return Marked(masks, stacked(above), stacked(inside), positions, values, complete)

    def tie(self, masks: Mapping[Any, Tensor], value: float, allowed: Mapping[Any, int]) -> None:
        """Add to masks, in each tensor, the first so many of the scores that are equal to a value.

        Args:
            masks: by name, changed.
            value: as blocks have it.
            allowed: how many by name.
        """
        for name, left in allowed.items():
            if not left:
                continue
            flat, mask = self._importance[name].detach().reshape(-1), masks[name].view(-1)
            size = _piece(flat)
            for piece, kept in zip(torch.split(flat, size), torch.split(mask, size), strict=True):
                ties = self._comparable(piece) == value
                count = int(ties.count_nonzero())
                if count > left:
                    ties &= ties.cumsum(0) <= left
                kept |= ties
                left -= min(count, left)
                if not left:
                    break

    def ties(self, marked: Marked, value: float) -> Tensor:
        """How many of the gathered scores of each tensor are equal to a value."""
        return stacked([(values == value).sum() for values in marked.values])

    def settle(self, marked: Marked, value: float, allowed: Sequence[int]) -> None:
        """Add to masks the gathered scores > value, and so many of each tensor that are equal."""
        for mask, positions, values, count in zip(
            marked.masks.values(), marked.positions, marked.values, allowed, strict=True
        ):
            flat = mask.view(-1)
            flat[positions[values > value]] = True
            if count:
                flat[positions[values == value][:count]] = True

    def largest_below(self, value: float) -> Tensor:
        """The largest score < value; of no length, where there is none."""
        largest = self.nothing
        for _, scores in self._tensors():
            flat = scores.detach().reshape(-1)
            for piece in torch.split(flat, _piece(flat)):
                block = self._comparable(piece)
                below = block[block < value]
                if below.numel():
                    largest = torch.cat([largest, below.amax().cpu()[None]]).amax()[None]
        return largest

    def compared(self, masks: Mapping[Any, Tensor], value: float) -> Compared:
        """Count what masks keep and prune, against a value."""
        all_kept = below = above = equal = 0
        for name, scores in self._tensors():
            flat, mask = scores.detach().reshape(-1), masks[name].reshape(-1)
            for start in range(0, flat.numel(), _block(flat)):
                block = self._comparable(flat[start : start + _block(flat)])
                kept = mask[start : start + len(block)]
                all_kept += int(bit_packing.ones(kept))
                reaches = block >= value
                if torch.equal(_words(reaches), _words(kept)):
                    continue
                # of two bools the first is greater where it alone is True
                over = int(bit_packing.ones((block > value).gt(kept)))
                below += int(bit_packing.ones(kept.gt(reaches)))
                equal += int(bit_packing.ones(reaches.gt(kept))) - over
                above += over
        return Compared(all_kept, below, above, equal)

    def _comparable(self, block: Tensor) -> Tensor:
        """A block in the type in which all are compared."""
        if self._as_keys:
            return float_keys.keys(float_keys.widened(block, self.dtype))
        return block.to(self.dtype)


def label(name: object) -> str:
    """What messages call a tensor of that name or number; the only one has none."""
    return "importance" if name is None else f"importance[{name!r}]"


def require_rankable(label: str, scores: object) -> None:
    """Scores are a dense tensor of floats.

    Raises:
        ImportanceError: they are not.
    """
    if not isinstance(scores, Tensor) or scores.dtype not in float_keys.DTYPES:
        kind = scores.dtype if isinstance(scores, Tensor) else type(scores).__name__
        raise ImportanceError(
            f"{label} is {kind}: importance is a tensor of float16, bfloat16, float32 or float64"
        )
    if scores.layout != torch.strided or scores.is_meta:
        raise ImportanceError(
            f"{label} is {'on the meta device' if scores.is_meta else scores.layout}: "
            "importance is a dense tensor with values"
        )


def require_finite(label: str, scores: Tensor) -> None:
    """Every score can be ranked.

    Raises:
        ImportanceError: one is NaN or ±inf; names tensor, index, value.
    """
    flat = scores.detach().reshape(-1)
    for start in range(0, flat.numel(), _block(flat)):
        block = flat[start : start + _block(flat)]
        finite = block.isfinite()
        if not finite.all():
            offset = int((~finite).nonzero()[0])
            index = torch.unravel_index(torch.tensor(start + offset), scores.shape)
            where = ", ".join(str(int(i)) for i in index)
            raise ImportanceError(
                f"{label} at index ({where}) is {block[offset].item()}: importance must be "
                "finite to be ranked; look for overflow in the loss or its gradient"
            )


def _block(flat: Tensor) -> int:
    return BLOCK if flat.device.type == "cpu" else GPU_BLOCK


def _piece(flat: Tensor) -> int:
    """A part of a block, for what takes eight bytes a score."""
    return max(_block(flat) // 16, 1)


def _blocks(flat: Tensor, mask: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Start, scores and, in whole words, mask of each block."""
    size = _block(flat)
    for start in range(0, flat.numel(), size):
        yield start, flat[start : start + size], mask[start : start + size]


def empty_mask(flat: Tensor) -> Tensor:
    """Bools for a mask of these scores in whole words; those beyond the last score are False."""
    mask = torch.empty(bit_packing.padded(flat.numel()), dtype=torch.bool, device=flat.device)
    mask[flat.numel() :] = False
    return mask


def shaped(mask: Tensor, shape: torch.Size) -> Tensor:
    """The mask without the padding of its last word."""
    size = shape.numel()
    return (mask if mask.numel() == size else mask[:size].clone()).view(shape)


def stacked(numbers: list[Tensor]) -> Tensor:
    """0-d tensors as one on the CPU: the one time that a pass waits for a device."""
    return torch.stack(beside(numbers)).cpu()


def beside(tensors: list[Tensor]) -> list[Tensor]:
    """All on the device of the first."""
    return [tensor.to(tensors[0].device) for tensor in tensors]


def _words(bools: Tensor) -> Tensor:
    """Eight at a time, where they are whole words; else as they are."""
    whole = not (bools.numel() % bit_packing.WORD or bools.storage_offset() % bit_packing.WORD)
    return bools.view(torch.int64) if whole else bools


def _sum(flat: Tensor) -> Tensor:
    """In a type in which 16-bit floats do not overflow."""
    if flat.dtype.itemsize > 2:
        return flat.sum()
    if flat.device.type != "cpu":
        return flat.sum(dtype=torch.float32)
    # a processor converts before it adds: block by block, not all at once
    total, buffer = torch.zeros(()), torch.empty(min(BLOCK, len(flat)))
    for block in torch.split(flat, BLOCK):
        total += buffer[: len(block)].copy_(block).sum()
    return total
