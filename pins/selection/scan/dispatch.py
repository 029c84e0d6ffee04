"""Which way the scores of a model are read: by Triton's kernels, by numpy, or as PyTorch can."""

import functools
import importlib.util
import math
import os
import warnings
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from pins.distributed.process_group import SINGLE_PROCESS, Group
from pins.errors import ImportanceError
from pins.selection.scan import float_keys
from pins.selection.scan.numpy_backend import ArrayScan
from pins.selection.scan.reference import Marked, Scan
from pins.utils.lazy_tensors import Scores


def scan_of(
    importance: Mapping[Any, Tensor],
    names: Collection[Any] | None = None,
    group: Group = SINGLE_PROCESS,
) -> Scan:
    """The scores of this process, to be read pass by pass.

    Args:
        importance: as for `Scan`. Of scores that are computed the smallest tensor is asked for, to
            see where they are.
        names: as for `Scan`.
        group: the ranks; all of them read their scores in the same way, or the values that they
            send each other would not be alike.
    """
    scan = ArrayScan(importance, names)
    device = _device(importance, scan.sizes) if torch.cuda.is_available() else None
    if int(group.total(torch.tensor(int(device is not None)))) < group.size or device is None:
        return scan
    from pins.selection.scan.triton_backend import TritonScan  # Triton is not everywhere

    return TritonScan(importance, names, device=device)


def _device(importance: Mapping[Any, Tensor], sizes: Mapping[Any, int]) -> torch.device | None:
    """The GPU on which kernels may read these scores."""
    known: Collection[Any] = sizes
    if isinstance(importance, Scores) and sizes:
        known = [min(sizes, key=lambda name: sizes[name] or math.inf)]
    some = [importance[name] for name in known]
    if not some or not all(isinstance(scores, Tensor) and _on_gpu(scores) for scores in some):
        return None
    kinds = tuple(sorted({scores.dtype for scores in some}, key=str))
    return some[0].device if rehearsed(some[0].device, kinds) else None


def _on_gpu(scores: Tensor) -> bool:
    return scores.is_cuda and scores.dtype in float_keys.DTYPES and scores.layout == torch.strided


@functools.cache
def rehearsed(device: torch.device, dtypes: tuple[torch.dtype, ...]) -> bool:
    """Whether Triton's kernels do on this device what PyTorch does; warns once where not.

    Tensors of these types go through every pass: with ties, both zeros and the least floats; of
    several blocks, of none, and such as are not contiguous or begin anywhere.
    """
    interpreted = os.environ.get("TRITON_INTERPRET", "0") not in ("0", "")
    if importlib.util.find_spec("triton") is None or (interpreted and device.type != "cpu"):
        return False  # the interpreter runs on the CPU, which has no such addresses
    try:
        wrong = _difference(_rehearsal(device, dtypes), device)
    except Exception as error:  # whatever a compiler or a driver raises
        wrong = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    if wrong:
        warnings.warn(
            f"PINS selects on {device} without kernels of its own, which takes longer and gives "
            f"the same masks: they failed a rehearsal ({wrong})",
            stacklevel=2,
        )
    return not wrong


class _Keys(Scan):
    """Scores that are compared as their keys, as `TritonScan` does."""

    def __init__(self, importance: Mapping[Any, Tensor]) -> None:
        super().__init__(importance)
        self._as_keys = True

    def all(self) -> Tensor:
        """The key of every score."""
        return torch.cat([self._comparable(s.reshape(-1)) for _, s in self._tensors()])


def _rehearsal(device: torch.device, dtypes: tuple[torch.dtype, ...]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for dtype in dtypes:
        least = torch.ones(1, dtype=float_keys.DTYPES[dtype]).view(dtype)
        largest = torch.tensor([torch.finfo(dtype).max], dtype=dtype)
        few = torch.cat([least, -least, least * 0, -least * 0, largest, -largest]).to(device)
        # 257 values, each forty times
        many = ((torch.arange(10_283, device=device) * 101 % 257 - 128) / 16).to(dtype)
        found |= {
            f"{dtype} {kind}": scores
            for kind, scores in {
                "many": many,
                "few": few,
                "none": many[:0],
                "across": many[:10_220].view(70, 146).T,
                "anywhere": torch.cat([few, many])[1:],
            }.items()
        }
    return found


def _difference(scores: Mapping[str, Tensor], device: torch.device) -> str:
    """What the two ways do not agree on, if anything."""
    from pins.selection.scan.triton_backend import TritonScan

    plain, fast = _Keys(scores), TritonScan(scores, device=device)
    total = sum(plain.sizes.values())
    plain.survey(0, total)
    sample = fast.survey(total // 4, total)
    if fast.dtype != plain.dtype or _takes_any_score(scores, device):
        return "survey"
    values = plain.all()
    if not len(sample) or not torch.isin(sample, values.cpu()).all():
        return "sample"
    ranked = values.sort().values
    low, high = int(ranked[total // 2]), int(ranked[3 * total // 4])
    for first, last, room, every in (
        (low, high, total, 1),
        (None, low, total, 1),
        (low, high, total, 7),
        (low, high, 8, 1),
        (low, low, 0, 1),
    ):
        marks = [way.mark(first, last, room=room, every=every) for way in (plain, fast)]
        if not _alike(*marks, gathered=room != 8):
            return "mark"
        for value in (low, high, int(ranked[-1])):
            counts = [way.compared(marks[0].masks, value) for way in (plain, fast)]
            if counts[0] != counts[1]:
                return "compared"
    for way, marked in zip((plain, fast), marks, strict=True):
        way.tie(marked.masks, low, {name: min(3, size) for name, size in way.sizes.items()})
    if not _same(marks[0].masks, marks[1].masks):
        return "tie"
    marks = [way.mark(low, high, room=total) for way in (plain, fast)]
    for way, marked in zip((plain, fast), marks, strict=True):
        way.settle(marked, high - 1, [3] * len(scores))
        way.settle(marked, high, way.ties(marked, high).div(2, rounding_mode="floor").tolist())
    if not _same(marks[0].masks, marks[1].masks):
        return "settle"
    for value in (low, int(ranked[0])):
        if not torch.equal(plain.largest_below(value).cpu(), fast.largest_below(value).cpu()):
            return "largest_below"
    return ""


def _takes_any_score(scores: Mapping[str, Tensor], device: torch.device) -> bool:
    """Whether there is a tensor whose last score may be none."""
    from pins.selection.scan.triton_backend import TritonScan

    for name, tensor in scores.items():
        for bad in (math.nan, math.inf, -math.inf) if tensor.numel() else ():
            spoilt = tensor.clone()
            spoilt[tuple(size - 1 for size in spoilt.shape)] = bad
            try:
                TritonScan({name: spoilt}, device=device).survey(0, 1)
            except ImportanceError:
                continue
            return True
    return False


def _alike(one: Marked, other: Marked, *, gathered: bool) -> bool:
    lists = ((one.positions, other.positions), (one.values, other.values)) if gathered else ()
    return (
        one.complete == other.complete
        and _same(one.masks, other.masks)
        and torch.equal(one.above, other.above)
        and torch.equal(one.inside, other.inside)
        and all(torch.equal(a, b) for x, y in lists for a, b in zip(x, y, strict=True))
    )


def _same(masks: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(mask, others[name]) for name, mask in masks.items())
