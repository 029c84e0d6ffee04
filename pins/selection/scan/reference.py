"""What a selection asks of scores, tensor by tensor and block by block: `Scan`, for any device.

After one reading that validates scores and draws a sample there are two operations: `partition`
sets scores against intervals of keys (`float_keys`), `count` sets masks against keys. Each reads
every score once, where it is; nothing of the model's size is made.
"""

import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pins.errors import ImportanceError
from pins.selection.scan import float_keys
from pins.selection.segments import Piece
from pins.utils.lazy_tensors import shapes_of

# Weights looked at together: what a pass needs beside scores and masks. A processor's share fits
# its cache; a GPU wants few and large kernels.
BLOCK, GPU_BLOCK = 1 << 20, 1 << 26
PART = 1 << 18  # scores among which the last tie is looked for: eight bytes each
_SEED = 0  # of the sample: another one finds the same mask

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Partition:
    """Scores set against intervals of keys, piece by piece in order.

    Attributes:
        above: number of scores above the interval.
        inside: number of scores inside it.
        positions: flat indices in their tensor of gathered scores, ascending; on their device.
        keys: the keys of these.
        complete: whether all that was asked for was gathered.
    """

    above: Integers
    inside: Integers
    positions: Sequence[Tensor]
    keys: Sequence[NDArray[Any]]
    complete: bool


class Scan:
    """The scores of this process, to be read pass by pass: first by `validate_and_sample`.

    Attributes:
        sizes: number of scores by name.
        dtype: the common type, in which every score is exact; known after validation.
    """

    dtype: torch.dtype

    def __init__(self, importance: Mapping[Any, Tensor]) -> None:
        """Read nothing yet.

        Args:
            importance: scores by name; a `Scores` computes a tensor each time it is asked for.
        """
        self._importance = importance
        self._shapes = shapes_of(importance)
        self.sizes = {name: shape.numel() for name, shape in self._shapes.items()}
        self._devices: dict[Any, torch.device] = {}  # known after validation

    def validate_and_sample(
        self, pieces: Sequence[Piece], draws: Sequence[int]
    ) -> list[NDArray[Any]]:
        """Find the common type, check that all scores can be ranked, and draw from each piece.

        Args:
            pieces: where to draw, tensor by tensor.
            draws: number of scores to draw from each, at random places, the same ones each time.

        Returns:
            Keys by piece.

        Raises:
            ImportanceError: NaN, ±inf, or not floating point; names tensor, index, value.
        """
        drawn: dict[int, Tensor] = {}
        sums: dict[Any, Tensor] = {}
        kinds = set()
        for name in self.sizes:
            scores = _resolved(self._importance[name])
            require_rankable(label(name), scores)
            kinds.add(scores.dtype)
            self._devices[name] = scores.device
            flat = scores.detach().reshape(-1)
            sums[name] = sum_of(flat)
            for number, piece in enumerate(pieces):
                if piece.name == name and draws[number]:
                    generator = torch.Generator(flat.device).manual_seed(_SEED)
                    places = torch.empty(draws[number], dtype=torch.int64, device=flat.device)
                    places.random_(piece.start, piece.stop, generator=generator)
                    drawn[number] = flat[places]
        self._set_dtype(kinds)
        if sums and not stacked([value.isfinite() for value in sums.values()]).all():
            for name, value in sums.items():
                if not value.isfinite():
                    require_finite(label(name), self._importance[name])
        nothing = torch.empty(0, dtype=self.dtype)
        return [self._keys(drawn.get(i, nothing)).cpu().numpy() for i in range(len(pieces))]

    def partition(
        self,
        pieces: Sequence[Piece],
        low: Integers,
        high: Integers,
        every: Integers,
        masks: dict[Any, Tensor] | None = None,
        room: int = 0,
    ) -> Partition:
        """Count the scores above and inside an interval of keys, and gather those inside.

        Args:
            pieces: tensor by tensor.
            low: the least key of each piece's interval.
            high: the largest.
            every: gather of those inside at multiples of it from the piece's start only; 0: none.
            masks: by name; keyᵢ > high is written to the pieces. One that is missing is made.
            room: gather no more than this in all.
        """
        counts = np.zeros((len(pieces), 2), dtype=np.int64)
        positions, gathered, complete = [], [], True
        for name, scores, numbers in self._tensors(pieces):
            flat = scores.detach().reshape(-1)
            mask = None if masks is None else mask_of(masks, name, scores)
            for number in numbers:
                least, most, step = (int(of[number]) for of in (low, high, every))
                where, what = [flat.new_empty(0, dtype=torch.int64)], [self._keys(flat[:0])]
                for start, stop in _blocks(pieces[number], flat):
                    block = self._keys(flat[start:stop])
                    over = block > most
                    within = (block >= least) & ~over
                    if mask is not None:
                        mask[start:stop] = over
                    inside = int(within.count_nonzero())
                    counts[number] += int(over.count_nonzero()), inside
                    if step and inside > room * step:  # finding them would take more than the room
                        complete = False
                    elif step and inside:
                        found = within.nonzero().view(-1)
                        found = found[(found + start - pieces[number].start) % step == 0]
                        room -= len(found)
                        where.append(found + start)
                        what.append(block[found])
                positions.append(torch.cat(where))
                gathered.append(torch.cat(what).cpu().numpy())
        return Partition(counts[:, 0], counts[:, 1], positions, gathered, complete)

    def count(
        self, pieces: Sequence[Piece], against: Integers, masks: Mapping[Any, Tensor]
    ) -> Integers:
        """Count what masks keep and prune against a key for each piece.

        Returns:
            (pieces, 4) numbers of scores: kept; kept below the key; pruned above it; pruned equal.
        """
        counts = np.zeros((len(pieces), 4), dtype=np.int64)
        for name, scores, numbers in self._tensors(pieces):
            flat, mask = scores.detach().reshape(-1), masks[name].reshape(-1)
            for number in numbers:
                key = int(against[number])
                for start, stop in _blocks(pieces[number], flat):
                    block, kept = self._keys(flat[start:stop]), mask[start:stop]
                    parts = (
                        kept,
                        kept & (block < key),
                        ~kept & (block > key),
                        ~kept & (block == key),
                    )
                    counts[number] += stacked([part.count_nonzero() for part in parts]).numpy()
        return counts

    def clear(self, pieces: Sequence[Piece], masks: dict[Any, Tensor]) -> None:
        """Keep nothing of the pieces; reads no score."""
        for name, start, stop, _ in pieces:
            if name not in masks:
                masks[name] = torch.empty(
                    self._shapes[name], dtype=torch.bool, device=self._devices[name]
                )
            masks[name].view(-1)[start:stop] = False

    def mark_equal(self, mask: Tensor, piece: Piece, key: int, allowed: int) -> None:
        """Keep the first `allowed` scores of a piece whose key is `key`; reads them once, in parts.

        Args:
            mask: of the piece's tensor, changed where these scores are.
            piece: has more scores of this key than are allowed.
            key: the key.
            allowed: at least 1.
        """
        scores, kept = _resolved(self._importance[piece.name]), mask.view(-1)
        flat = scores.detach().reshape(-1)
        size = PART if flat.device.type == "cpu" else GPU_BLOCK
        for start in range(piece.start, piece.stop, size):
            block = flat[start : min(start + size, piece.stop)]
            equal = float_keys.equal(float_keys.widened(block, self.dtype), key)
            count = int(equal.count_nonzero())
            if count > allowed:
                equal &= equal.cumsum(0) <= allowed
            kept[start : start + len(block)] |= equal
            allowed -= min(count, allowed)
            if not allowed:
                return

    def _tensors(self, pieces: Sequence[Piece]) -> Iterator[tuple[Any, Tensor, list[int]]]:
        """Name and scores of each tensor that has pieces, and the numbers of these."""
        for name, numbers in groupby(range(len(pieces)), key=lambda number: pieces[number].name):
            yield name, _resolved(self._importance[name]), list(numbers)

    def _set_dtype(self, kinds: Collection[torch.dtype]) -> None:
        self.dtype = functools.reduce(torch.promote_types, kinds) if kinds else torch.float32

    def _keys(self, block: Tensor) -> Tensor:
        return float_keys.keys(float_keys.widened(block, self.dtype))


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
    if scores.is_nested or scores.layout != torch.strided or scores.is_meta:
        layout = "a nested tensor" if scores.is_nested else str(scores.layout)
        raise ImportanceError(
            f"{label} is {'on the meta device' if scores.is_meta else layout}: "
            "importance is a dense tensor with values"
        )
    if scores.numel() and not _address(scores):
        raise ImportanceError(
            f"{label} has no values in memory, as inside torch.vmap and torch.func.grad: "
            "select outside of them"
        )


def _address(scores: Tensor) -> int:
    """Where the values of a tensor are; 0 if they are nowhere."""
    try:
        return scores.data_ptr()
    except RuntimeError:  # of a tensor that a transformation of functions follows
        return 0


def _resolved(scores: Any) -> Any:
    """Scores whose numbers stand in memory as they are; a view may negate them when it is read."""
    return scores.resolve_neg() if isinstance(scores, Tensor) and not scores.is_nested else scores


def require_finite(label: str, scores: Tensor) -> None:
    """Every score can be ranked.

    Raises:
        ImportanceError: one is NaN or ±inf; names tensor, index, value.
    """
    flat = scores.detach().reshape(-1)
    for start, stop in _blocks(Piece(None, 0, flat.numel()), flat):
        block = flat[start:stop]
        finite = block.isfinite()
        if not finite.all():
            offset = int((~finite).nonzero()[0])
            index = torch.unravel_index(torch.tensor(start + offset), scores.shape)
            where = ", ".join(str(int(i)) for i in index)
            raise ImportanceError(
                f"{label} at index ({where}) is {block[offset].item()}: importance must be "
                "finite to be ranked; look for overflow in the loss or its gradient"
            )


def mask_of(masks: dict[Any, Tensor], name: Any, scores: Tensor) -> Tensor:
    """The flat mask of a tensor; made without values where there is none yet."""
    if name not in masks:
        masks[name] = torch.empty(scores.shape, dtype=torch.bool, device=scores.device)
    return masks[name].view(-1)


def stacked(numbers: list[Tensor]) -> Tensor:
    """0-d tensors as one on the CPU: the one time that a pass waits for a device."""
    return torch.stack([number.to(numbers[0].device) for number in numbers]).cpu()


def _blocks(piece: Piece, flat: Tensor) -> Iterator[tuple[int, int]]:
    """Start and stop of the blocks of a piece."""
    size = BLOCK if flat.device.type == "cpu" else GPU_BLOCK
    for start in range(piece.start, piece.stop, size):
        yield start, min(start + size, piece.stop)


def sum_of(flat: Tensor) -> Tensor:
    """The sum of scores, in a type in which 16-bit floats do not overflow.

    A NaN or an infinity among the terms makes it one; a sum of finite terms may be one too.
    """
    if flat.dtype.itemsize > 2:
        return flat.sum()
    if flat.device.type != "cpu":
        return flat.sum(dtype=torch.float32)
    # a processor converts before it adds: block by block, not all at once
    total, buffer = torch.zeros(()), torch.empty(min(BLOCK, len(flat)))
    for block in torch.split(flat, BLOCK):
        total += buffer[: len(block)].copy_(block).sum()
    return total
