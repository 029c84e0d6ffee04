"""One set of scores, selected from by every method: seconds, memory, and what was kept."""

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness.process import free_bytes, fresh, peak_resident, reset_peak, resident
from benchmarks.harness.results import describe
from benchmarks.harness.score_sets import BLOCK, SMOKE, ScoreSet, find_score_set
from benchmarks.selection.methods import METHODS, READ, Scores, kth_largest

SMALLEST_FOR_MEMORY = 10**7  # scores; what fewer take, a process has lying about
CALLED_UP_TO = 10**6  # scores: smaller sets are selected from several times in a turn
RESERVE = 0.9  # of the free memory is used: estimates are estimates


@dataclass(frozen=True)
class Kept:
    """What masks keep.

    Attributes:
        weights: the number of ones.
        least: the least score kept; None where nothing is.
    """

    weights: int
    least: float | None

    def is_optimum(self, keep: int, threshold: float) -> bool:
        """k ones, none of them below s₍ₖ₎: no mask of k ones is better."""
        return self.weights == keep and (self.least is None or self.least >= threshold)


def kept(scores: Scores, masks: Sequence[Tensor]) -> Kept:
    """Read back from scores and masks, block by block."""
    weights, least = 0, None
    for each, mask in zip(scores.values(), masks, strict=True):
        blocks = zip(
            torch.split(each.reshape(-1), BLOCK), torch.split(mask.reshape(-1), BLOCK), strict=True
        )
        for values, chosen in blocks:
            found = values[chosen != 0]
            if found.numel():
                weights += found.numel()
                lowest = found.min().item()
                least = lowest if least is None else min(least, lowest)
    return Kept(weights, least)


def measure(
    score_set: ScoreSet, device: torch.device, rounds: int, methods: Sequence[str] = tuple(METHODS)
) -> list[dict[str, Any]]:
    """A row of results for each method, in the order of `methods`.

    A method that does not run here, or that would not fit, has a row that says so.
    """
    free = free_bytes(device)
    skipped = {name: reason(score_set, name, device, free) for name in methods}
    running = [name for name in methods if skipped[name] is None]
    timed: dict[str, Any] | str = {}
    if running:
        timed = fresh(side_by_side, score_set, str(device), running, rounds)
    rows = []
    for name in methods:
        row: dict[str, Any] = {"method": name, "skipped": skipped[name], "error": None}
        row |= dict.fromkeys(("seconds", "extra_bytes", "kept", "least", "threshold", "optimum"))
        if name in running:
            found = timed if isinstance(timed, str) else timed[name]
            row |= {"error": found} if isinstance(found, str) else found
            if device.type == "cpu" and score_set.size >= SMALLEST_FOR_MEMORY and not row["error"]:
                peak = fresh(extra_bytes_of_process, score_set, name)
                row |= {"error": peak} if isinstance(peak, str) else {"extra_bytes": peak}
        rows.append(row)
    return rows


def reason(score_set: ScoreSet, name: str, device: torch.device, free: int | None) -> str | None:
    """Why a method is not run on these scores; None where it is."""
    method = METHODS[name]
    if device.type not in method.devices:
        return f"is not for {device.type}"
    if method.largest is not None and score_set.size > method.largest:
        return f"takes too long beyond {method.largest:,} scores"
    if device.type == "cpu" and name in score_set.too_long:
        return "its time grows as n² on such scores: see fewer of them"
    masks = 0 if name == READ else 1
    beside = method.beside(score_set.dtype.itemsize) + masks
    need = score_set.nbytes + int(beside * score_set.size)
    if free is not None and need > RESERVE * free:
        return f"needs about {need / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free"
    return None


def side_by_side(
    score_set: ScoreSet, device: str, names: Sequence[str], rounds: int
) -> dict[str, Any]:
    """Seconds of each method, in turns; every other round goes the other way through them.

    A turn of each comes first and does not count: from it is read what the masks keep, and on CUDA
    the most memory that tensors take beside the scores and n bytes of masks.

    Returns:
        By method the fields of its row; an error's text where it failed.
    """
    place = torch.device(device)
    scores = score_set.make(place)
    results: dict[str, Any] = {}
    threshold = _reference(score_set, scores)
    for name in names:
        try:
            results[name] = _first_turn(score_set, scores, name, place, threshold)
        except Exception as error:  # a failure is a result: the others are measured all the same
            results[name] = describe(error)
    for number in range(rounds):
        for name in list(names)[:: 1 if number % 2 == 0 else -1]:
            if isinstance(results[name], str):
                continue
            try:
                results[name]["seconds"].append(_seconds(score_set, scores, name, place))
            except Exception as error:
                results[name] = describe(error)
    return results


def extra_bytes_of_process(score_set: ScoreSet, name: str) -> int:
    """The most that a method takes on a CPU beside the scores and n bytes of masks.

    Of the whole process, which never forgets its peak everywhere: call it in a fresh one.
    """
    method, small = METHODS[name], find_score_set(SMOKE)
    method.select(small.make(), small.keep)  # what is loaded or started by the first call of all
    scores = score_set.make()
    gc.collect()
    reset_peak()
    before = resident()
    masks = method.select(scores, score_set.keep)
    return peak_resident() - before - (score_set.size if masks else 0)


def _first_turn(
    score_set: ScoreSet, scores: Scores, name: str, device: torch.device, threshold: float | None
) -> dict[str, Any]:
    extra = None
    if device.type == "cuda":
        _tidy(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    masks = METHODS[name].select(scores, score_set.keep)
    if device.type == "cuda":
        extra = torch.cuda.max_memory_allocated(device) - before
        extra -= score_set.size if masks else 0
    row: dict[str, Any] = {"seconds": [], "extra_bytes": extra, "threshold": threshold}
    if masks:
        found = kept(scores, masks)
        row |= {"kept": found.weights, "least": found.least}
        if threshold is not None:
            row["optimum"] = found.is_optimum(score_set.keep, threshold)
    return row


def _reference(score_set: ScoreSet, scores: Scores) -> float | None:
    """numpy's s₍ₖ₎, by which all masks are judged; None where a copy of the scores is too large."""
    free = free_bytes(torch.device("cpu"))
    copy = 4 * score_set.size + (0 if score_set.dtype.itemsize >= 4 else 4 * score_set.size)
    if free is not None and copy > RESERVE * free:
        return None
    return kth_largest(scores, score_set.keep)


def _seconds(score_set: ScoreSet, scores: Scores, name: str, device: torch.device) -> float:
    calls = max(1, CALLED_UP_TO // score_set.size)
    _tidy(device)
    start = time.perf_counter()
    for _ in range(calls):
        masks = METHODS[name].select(scores, score_set.keep)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - start
    del masks  # giving the last ones back is not selecting
    return seconds / calls


def _tidy(device: torch.device) -> None:
    """What the method before left to be freed or done."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
