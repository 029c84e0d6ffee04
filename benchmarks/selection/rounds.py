"""Seconds, memory and kept weights of every method on one set of scores."""

import gc
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness.process import fresh, peak_of
from benchmarks.harness.results import outcome
from benchmarks.harness.score_sets import BLOCK, SCORE_SETS, SMOKE, ScoreSet
from benchmarks.harness.timing import in_turns, seconds_of
from benchmarks.selection import patterns
from benchmarks.selection.methods import METHODS, READ, kth_largest
from benchmarks.selection.patterns import Scores
from pins.utils.memory import free_bytes

SMALLEST_FOR_MEMORY = 10**7  # scores; the memory for fewer is already in use by the process
CALLED_UP_TO = 10**6  # scores in a turn: for small sets a turn holds several calls
RESERVE = 0.9  # share of the free memory that an estimate may take


def kept(scores: Scores, masks: Sequence[Tensor]) -> tuple[int, float | None]:
    """The number of ones and the least kept score (None without ones), read block by block."""
    weights, least = 0, list[float]()
    for each, mask in zip(scores.values(), masks, strict=True):
        for values, chosen in zip(
            *(torch.split(whole.reshape(-1), BLOCK) for whole in (each, mask)), strict=True
        ):
            found = values[chosen != 0]
            if found.numel():
                weights += found.numel()
                least.append(found.min().item())
    return weights, min(least, default=None)


def measure(score_set: ScoreSet, device: torch.device, rounds: int) -> list[dict[str, Any]]:
    """A row of results for each method that suits the scores.

    The row of a method that cannot run here, or would not fit, gives the reason.
    """
    free = free_bytes(device)
    names = [name for name, method in METHODS.items() if method.suits(score_set)]
    skipped = {name: reason(score_set, name, device, free) for name in names}
    running = [name for name in names if skipped[name] is None]
    timed = fresh(side_by_side, score_set, str(device), running, rounds) if running else {}
    rows = []
    for name in names:
        row: dict[str, Any] = {"method": name, "keep": METHODS[name].keep(score_set)}
        row |= {"skipped": skipped[name], "error": None}
        row |= dict.fromkeys(("seconds", "extra_bytes", "kept", "least", "threshold", "optimum"))
        if name in running:
            row |= outcome(timed) if isinstance(timed, str) else timed[name]
            if device.type == "cpu" and score_set.size >= SMALLEST_FOR_MEMORY and not row["error"]:
                peak = fresh(extra_bytes_of_process, score_set, name)
                row |= outcome(peak if isinstance(peak, str) else {"extra_bytes": peak})
        rows.append(row)
    return rows


def reason(score_set: ScoreSet, name: str, device: torch.device, free: int | None) -> str | None:
    """Why a method is not run on these scores; None if it is run."""
    method = METHODS[name]
    if device.type not in method.devices:
        return f"is not for {device.type}"
    if method.largest is not None and score_set.size > method.largest:
        return f"takes too long beyond {method.largest:,} scores"
    if device.type == "cpu" and name in score_set.too_long:
        return "its time grows as n² on such scores: see fewer of them"
    extra = method.extra_bytes(score_set.dtype.itemsize) + (name != READ)  # a byte of its mask
    need = score_set.nbytes + int(extra * score_set.size)
    if free is not None and need > RESERVE * free:
        return f"needs about {need / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free"
    return None


def side_by_side(
    score_set: ScoreSet, device: str, names: Sequence[str], rounds: int
) -> dict[str, dict[str, Any]]:
    """Fields of the row of each method; the seconds are taken in turns.

    The first turn is not timed: its masks are read back, and on CUDA its memory is measured.
    """
    place = torch.device(device)
    scores, calls = score_set.make(place), max(1, CALLED_UP_TO // score_set.size)
    threshold = _reference(score_set, scores)
    read_back: dict[str, dict[str, Any]] = {}

    def start(name: str) -> Callable[[], float]:
        def work() -> Any:
            for _ in range(calls):
                masks = METHODS[name].select(scores, METHODS[name].keep(score_set))
            return masks

        read_back[name] = _first_turn(score_set, scores, name, place, threshold)
        return lambda: seconds_of(work, place) / calls

    timed = in_turns(names, rounds, start)
    return {n: row if row["error"] else {**read_back[n], **row} for n, row in timed.items()}


def extra_bytes_of_process(score_set: ScoreSet, name: str) -> int:
    """Peak memory of a method on a CPU beyond the scores and n bytes of masks.

    It is the peak of the whole process: call it in a fresh one.
    """
    method, small = METHODS[name], SCORE_SETS[SMOKE]
    method.select(small.make(), small.keep)  # loads and starts what a first call needs
    scores = score_set.make()
    gc.collect()
    return _extra_bytes(score_set, scores, name, torch.device("cpu"))[0]


def _extra_bytes(
    score_set: ScoreSet, scores: Scores, name: str, device: torch.device
) -> tuple[int, Sequence[Tensor]]:
    method = METHODS[name]
    peak, masks = peak_of(lambda: method.select(scores, method.keep(score_set)), device)
    return peak - (score_set.size if masks else 0), masks


def _first_turn(
    score_set: ScoreSet, scores: Scores, name: str, device: torch.device, threshold: float | None
) -> dict[str, Any]:
    gc.collect()
    extra, masks = _extra_bytes(score_set, scores, name, device)
    pattern, keep = METHODS[name].pattern, METHODS[name].keep(score_set)
    row = {"threshold": None if pattern else threshold}
    row["extra_bytes"] = extra if device.type == "cuda" else None
    if not masks:
        return row
    weights, least = kept(scores, masks)
    known = None if threshold is None else is_optimum(weights, least, keep, threshold)
    if pattern:
        known = patterns.is_optimum(pattern, scores, masks, keep)
    return {**row, "kept": weights, "least": least, "optimum": known}


def is_optimum(weights: int, least: float | None, keep: int, threshold: float) -> bool:
    """k ones, all at or above s₍ₖ₎: no mask of k ones has a greater sum."""
    return weights == keep and (least is None or least >= threshold)


def _reference(score_set: ScoreSet, scores: Scores) -> float | None:
    """numpy's s₍ₖ₎, by which all masks are judged; None if there is no memory for the copy."""
    free = free_bytes(torch.device("cpu"))
    copies = 1 if score_set.dtype.itemsize >= 4 else 2
    if free is not None and 4 * copies * score_set.size > RESERVE * free:
        return None
    return kth_largest(scores, score_set.keep)
