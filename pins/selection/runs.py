"""The largest scores of each run: every `length` consecutive scores of a tensor in one dimension.

Rows of a matrix are runs as long as its inputs, groups of N:M sparsity runs of M. On the CPU numpy
does the work, block by block, in as many threads as PyTorch has:

* Short runs are *ranked*. The rank of a score is the number of scores of its run that are larger,
  or equal and before it. The block is transposed, which puts all scores of one place in their runs
  side by side, and each place is compared with each later one. Runs of two and four are compared
  where they stand.
* Long runs are *cut*. They are sorted, and scores that are at least s₍ₖ₎ are kept; where too many
  are equal to it, the first of them.

On other devices PyTorch sorts, and nothing waits for the device.

Scores are finite or ±inf: NaN is for the caller to refuse. Where a processor flushes denormals, and
of 16-bit floats, integer keys are compared (`float_keys`).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pins.selection.scan import float_keys
from pins.selection.scan.numpy_backend import FLOATS, in_threads

PACKED = (2, 4)  # lengths for which that is faster than transposing
RANKED = 16  # longest run that is ranked: the work for a score grows with the length
TRANSPOSED = 128  # longest run over which numpy is slow to find a minimum
# Scores looked at together: with what is made of them they fit a processor's own cache; a sort on
# another device takes some thirty bytes for each
BLOCK, DEVICE_BLOCK = 1 << 17, 1 << 24

Array = NDArray[Any]
Bools = NDArray[np.bool_]


class Extremes(NamedTuple):
    """The scores beside the cut of each run, as keys: integers of their scores' size.

    Attributes:
        kept_min: the least key kept; the largest integer of its type where nothing is kept.
        pruned_max: the largest key pruned; the least integer where nothing is pruned.
        kept: number of scores kept, int32.
    """

    kept_min: Tensor
    pruned_max: Tensor
    kept: Tensor


def largest_of_runs(scores: Tensor, length: int, keep: int | Tensor) -> Tensor:
    """The k largest scores of each run, ties to the lower index; exact.

    Args:
        scores: (n,), contiguous; float16, bfloat16, float32 or float64.
        length: of a run, a divisor of n. Of runs that are longer than a block each thread makes a
            copy of one.
        keep: k in [0, length] for all runs, or int64 of shape (n / length,).

    Returns:
        Bool mask of shape (n,), True = keep.
    """
    mask = torch.empty_like(scores, dtype=torch.bool)
    runs, kept, array_of = _by_run(scores, length), _by_run(mask, length), _comparison(scores)

    def select(some: slice) -> None:
        number = keep if isinstance(keep, int) else keep[some, None].to(scores.device)
        if array_of is None:
            kept[some] = _sorted(float_keys.keys(runs[some]), number)
        else:
            way = _packed if length in PACKED else _ranked if length <= RANKED else _cut
            way(array_of(runs[some]), np.asarray(number), kept[some].numpy())

    _each_block(runs, select)
    return mask


def extremes_of_runs(scores: Tensor, mask: Tensor, length: int) -> Extremes:
    """The least key that each run keeps, the largest that it prunes, and how many it keeps.

    Args:
        scores: as for `largest_of_runs`.
        mask: any bool mask of shape (n,), True = keep.
        length: of a run.
    """
    runs, kept, array_of = _by_run(scores, length), _by_run(mask, length), _comparison(scores)
    integer = float_keys.DTYPES[scores.dtype]
    found = Extremes(
        *(runs.new_empty(len(runs), dtype=dtype) for dtype in (integer, integer, torch.int32))
    )

    def look(some: slice) -> None:
        if array_of is None:
            keys, ends = float_keys.keys(runs[some]), torch.iinfo(integer)
            found.kept_min[some] = keys.masked_fill(~kept[some], ends.max).amin(1)
            found.pruned_max[some] = keys.masked_fill(kept[some], ends.min).amax(1)
            found.kept[some] = kept[some].sum(1)
        else:
            of_block = _extremes(array_of(runs[some]), kept[some].numpy())
            for whole, part in zip(found, of_block, strict=True):
                whole[some] = torch.from_numpy(part)

    _each_block(runs, look)
    return found


def filled(scores: Tensor, chosen: Tensor, value: float) -> Tensor:
    """A copy of the scores where they are chosen, and else the value: −∞ excludes, ∞ forces.

    Args:
        scores: (n,), contiguous.
        chosen: bool, (n,).
        value: instead of all others.
    """
    if not scores.is_cpu:
        return scores.masked_fill(~chosen, value)
    integer = float_keys.DTYPES[scores.dtype]
    other = int(torch.tensor(value, dtype=scores.dtype).view(integer))
    copy = torch.empty_like(scores)
    bits, source, ones = (
        each.detach().numpy() for each in (copy.view(integer), scores.view(integer), chosen)
    )

    def write(some: slice) -> None:
        # by bits, because numpy and torch are three times as slow with a branch for each score
        bits_of_ones = -ones[some].astype(bits.dtype)
        bits_of_ones &= source[some] ^ other
        np.bitwise_xor(bits_of_ones, other, out=bits[some])

    _each_block(_by_run(scores, 1), write)
    return copy


def _by_run(flat: Tensor, length: int) -> Tensor:
    """(runs, length)."""
    return flat.detach().view(-1, max(length, 1))


def _comparison(scores: Tensor) -> Callable[[Tensor], Array] | None:
    """Scores as numpy compares them: floats, or their keys; None where it cannot read them."""
    if not scores.is_cpu:
        return None
    if scores.dtype in FLOATS and float_keys.denormals_compare():
        return Tensor.numpy
    return lambda block: float_keys.keys(block).numpy()


def _each_block(runs: Tensor, work: Callable[[slice], None]) -> None:
    """Do the work for some runs at a time; on the CPU in as many threads as PyTorch has."""
    step = max((BLOCK if runs.is_cpu else DEVICE_BLOCK) // runs.shape[1], 1)
    blocks = [slice(start, start + step) for start in range(0, len(runs), step)]

    def run(some: Sequence[slice]) -> list[None]:
        for block in some:
            work(block)
        return []

    if runs.is_cpu:
        in_threads(run, blocks)
    else:
        run(blocks)


def _packed(scores: Array, keep: Array, out: Bools) -> None:
    """As `_ranked`, with the ranks of a run in the bytes of an integer: nothing is transposed."""
    flat, length = scores.reshape(-1), scores.shape[1]
    wins, rank = np.zeros(flat.size, dtype=np.bool_), np.empty(flat.size, dtype=np.uint8)
    won, ranks = (each.view(f"<u{length}") for each in (wins, rank))
    ranks[:] = int.from_bytes(range(length), "big")  # as in `_ranked`
    for distance in range(1, length):
        np.greater_equal(flat[:-distance], flat[distance:], out=wins[:-distance])
        won &= int.from_bytes(b"\1" * (length - distance), "little")  # within a run
        ranks -= won
        won <<= 8 * distance
        ranks += won
    number = keep.astype(np.uint8)
    np.less(rank, np.repeat(number, length) if number.ndim else number, out=out.reshape(-1))


def _ranked(scores: Array, keep: Array, out: Bools) -> None:
    """Keep the scores of which the rank in their run is below k."""
    places = np.ascontiguousarray(scores.T)
    length = len(places)
    rank, first = np.empty(places.shape, dtype=np.uint8), np.empty(places.shape, dtype=np.bool_)
    rank[:] = np.arange(length)[::-1, None]  # as if all later scores were larger
    for distance in range(1, length):
        wins = first[distance:]
        np.greater_equal(places[:-distance], places[distance:], out=wins)
        rank[:-distance] -= wins.view(np.uint8)
        rank[distance:] += wins.view(np.uint8)
    out[:] = np.less(rank, keep.T.astype(np.uint8), out=first).T


def _cut(scores: Array, keep: Array, out: Bools) -> None:
    """Keep the scores that are at least s₍ₖ₎, but of those equal to it the first for which is room.

    Where k = 0 it is s₍₁₎, and there is room for none.
    """
    length = scores.shape[1]
    # in runs of a thousand as fast as a partition, which is ten times slower where many are equal
    ranked = np.sort(scores, axis=1)
    cut = np.take_along_axis(ranked, length - np.maximum(keep, 1).reshape(-1, 1), 1)
    np.greater_equal(scores, cut, out=out)
    if np.count_nonzero(out) == np.broadcast_to(keep, cut.shape).sum():
        return
    surplus = out.sum(1, dtype=np.int32) - keep.reshape(-1)
    tied = np.flatnonzero(surplus)
    equal = scores[tied] == cut[tied]
    ends = equal.sum(1, dtype=np.int32).cumsum()
    first_out = np.flatnonzero(equal)[ends - surplus[tied]] % length
    out[tied] &= ~equal | (np.arange(length) < first_out[:, None])


def _extremes(scores: Array, kept: Bools) -> tuple[Array, Array, Array]:
    """The fields of `Extremes`.

    A pruned score is no minimum as max(s, ∞), and stays itself as min(s, ∞); a kept one likewise
    with −∞. So a bound whose sign is made of the mask's bits does without branches.
    """
    if scores.shape[1] <= TRANSPOSED:
        places, ones = np.ascontiguousarray(scores.T), np.ascontiguousarray(kept.T)
    else:
        places, ones = scores.T, kept.T
    bound = ones.astype(f"i{scores.itemsize}")
    ends, sign = np.iinfo(bound.dtype), 8 * scores.itemsize - 1
    floats = scores.dtype.kind == "f"
    if floats:
        bound <<= sign
        bound |= np.array(np.inf, dtype=scores.dtype).view(bound.dtype)
        bound = bound.view(scores.dtype)
    else:
        bound += ends.max  # from the largest integer on to the least
    least, most = np.maximum(places, bound).min(0), np.minimum(places, bound, out=bound).max(0)
    counts = ones.view(np.uint8).sum(0, dtype=np.uint8 if len(places) <= TRANSPOSED else np.int32)
    if floats:  # as in `float_keys`, but that no denormal is flushed here
        least, most = ((each + 0.0).view(f"i{scores.itemsize}") for each in (least, most))
        least, most = (bits ^ ((bits >> sign) & ends.max) for bits in (least, most))
    least[counts == 0] = ends.max
    most[counts == len(places)] = ends.min
    return least, most, counts


def _sorted(keys: Tensor, keep: int | Tensor) -> Tensor:
    """The mask of the first k in the order of a stable sort."""
    order = keys.sort(dim=1, descending=True, stable=True).indices
    first = torch.arange(keys.shape[1], device=keys.device) < keep
    return torch.zeros_like(keys, dtype=torch.bool).scatter_(1, order, first.expand_as(keys))
