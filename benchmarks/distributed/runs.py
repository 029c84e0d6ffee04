"""Decisions of several ranks: timed processes, and threads whose exchanges are counted."""

import gc
import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from benchmarks.distributed.cost_model import MARK, PRESENT, SCORE, Constants, Exchange
from benchmarks.distributed.counting_group import CountingGroup
from benchmarks.distributed.methods import METHODS, Parts
from benchmarks.harness.process import peak_of
from benchmarks.harness.results import attempt
from benchmarks.harness.score_sets import BLOCK, ScoreSet
from pins.distributed.process_group import ProcessGroup
from pins.selection import kth_largest
from pins.selection.select import decide
from pins.utils.io import write_json
from verification.testing.threaded_group import ThreadRank, shards, together

LOOPBACK = Path("/proc/net/dev")
CALLS, SORTED, LARGE = 1000, 1 << 17, 1 << 22  # operations, values, bytes


def digests(score_set: ScoreSet, counts: Sequence[int]) -> dict[int, list[str]]:
    """Digest of each rank's part of the masks of one process, for each number of ranks."""
    masks = dict(decide(score_set.make(), score_set.keep).masks)
    return {
        count: [_digest(part.values()) for part in _equal_parts(masks, count)] for count in counts
    }


def measure(score_set: ScoreSet, ranks: int, rounds: int, expected: Sequence[str]) -> Any:
    """Time every method in turns, and the machine, in processes joined by gloo.

    Args:
        score_set: the scores; each rank holds a part.
        ranks: number of processes with one thread each.
        rounds: timed turns, after one that is not timed.
        expected: digests of the masks of one process, by rank.

    Returns:
        Fields of a row; the text of the error if a rank failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        failed = attempt(partial(spawn, nprocs=ranks), _rank, (score_set, ranks, rounds, folder))
        if failed is not None:
            return failed
        reports = [
            json.loads(Path(folder, f"{rank}.json").read_text("utf-8")) for rank in range(ranks)
        ]
    return {
        "methods": {
            name: _over_ranks([each["methods"][name] for each in reports], expected)
            for name in METHODS
        },
        "weights": [each["weights"] for each in reports],
        "exchanges": reports[0]["exchanges"],
        "can": {
            name: _slowest(each["can"][name] for each in reports) for name in reports[0]["can"]
        },
    }


def _over_ranks(reports: Sequence[Mapping[str, Any]], expected: Sequence[str]) -> dict[str, Any]:
    """One method on all ranks."""
    return {
        "seconds": _slowest(each["seconds"] for each in reports),
        "extra_bytes": [each["extra_bytes"] for each in reports],
        "kept": sum(each["kept"] for each in reports),
        "loopback": reports[0]["loopback"],
        "same_mask": [each["digest"] for each in reports] == list(expected),
    }


def _slowest(turns: Iterable[Sequence[float]]) -> list[float]:
    """Seconds of the slowest rank in each round, with which the round ends."""
    return [max(turn) for turn in zip(*turns, strict=True)]


def _equal_parts(tensors: Mapping[str, Tensor], ranks: int) -> list[dict[str, Tensor]]:
    """Each rank's part of the tensors."""
    return shards(tensors, [rank / ranks for rank in range(1, ranks)])


def _rank(rank: int, score_set: ScoreSet, ranks: int, rounds: int, folder: str) -> None:
    """Measure in one process, and write its report."""
    torch.set_num_threads(1)
    store = f"file://{Path(folder, 'store')}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=ranks)
    parts = _equal_parts(score_set.make(), ranks)[rank]
    parts = {name: part.clone() for name, part in parts.items()}  # frees the other ranks' parts
    gc.collect()
    counted = CountingGroup(ProcessGroup())
    decide(parts, score_set.keep, counted)  # loads and starts what a first call needs
    report: dict[str, Any] = {
        "weights": sum(part.numel() for part in parts.values()),
        "exchanges": [asdict(exchange) for exchange in counted.exchanges],
        "methods": {name: _first_turn(parts, score_set.keep, name) for name in METHODS},
        "can": {},
    }
    _machine_seconds(parts, ranks)
    for _ in range(rounds):
        for name, row in report["methods"].items():
            taken, through = _timed(partial(METHODS[name].masks, parts, score_set.keep))
            row["seconds"].append(taken)
            row["loopback"].append(through)
        for what, found in _machine_seconds(parts, ranks).items():
            report["can"].setdefault(what, []).append(found)
    write_json(report, Path(folder, f"{rank}.json"))
    dist.barrier()  # the others fail if a rank closes its connections early
    dist.destroy_process_group()


def _first_turn(parts: Parts, keep: int, name: str) -> dict[str, Any]:
    """Digest of the masks, and peak memory beyond the scores and the rank's masks."""
    gc.collect()
    dist.barrier()
    peak, masks = peak_of(lambda: METHODS[name].masks(parts, keep), torch.device("cpu"))
    return {
        "extra_bytes": peak - sum(mask.numel() for mask in masks),
        "kept": sum(int(mask.sum()) for mask in masks),
        "digest": _digest(masks),
        "seconds": [],
        "loopback": [],
    }


def _timed(work: Callable[[], Any]) -> tuple[float, int | None]:
    """Seconds of this rank, and bytes through the loopback device meanwhile (of all ranks)."""
    gc.collect()
    dist.barrier()
    before = _loopback()
    dist.barrier()
    start = time.perf_counter()
    work()
    taken = time.perf_counter() - start
    dist.barrier()
    after = _loopback()
    return taken, None if before is None or after is None else after - before


def _loopback() -> int | None:
    """Bytes sent so far by all processes; None if the system does not report them."""
    try:
        lines = LOOPBACK.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    fields = [line.split(":")[1].split() for line in lines if line.strip().startswith("lo:")]
    return int(fields[0][8]) if fields else None


def _digest(masks: Iterable[Tensor]) -> str:
    found = hashlib.sha256()
    for mask in masks:
        found.update(mask.contiguous().view(-1).numpy().tobytes())
    return found.hexdigest()


def _machine_seconds(parts: Parts, ranks: int) -> dict[str, float]:
    """Seconds that this rank takes while the others do the same work; see `cost_model.Machine`.

    For a byte compared, an operation called, a value sorted, a step of a ring, a byte sent.
    """
    flats = [part.reshape(-1) for part in parts.values()]
    weights, largest = sum(map(len, flats)), max(flats, key=len)
    values = largest[torch.randint(len(largest), (SORTED,))].numpy()
    few, mask = torch.zeros(8), torch.empty(min(weights, BLOCK), dtype=torch.bool)

    def compare() -> None:
        for flat in flats:
            for block in torch.split(flat, BLOCK):
                torch.ge(block, 0.5, out=mask[: len(block)])

    def call() -> None:
        for _ in range(CALLS):
            torch.ge(few, 0.5, out=mask[:8])

    def gather(length: int, times: int) -> float:
        own = torch.zeros(length, dtype=torch.uint8)
        out = [torch.empty_like(own) for _ in range(ranks)]
        return _timed(lambda: [dist.all_gather(out, own) for _ in range(times)])[0] / times

    compare()  # allocates the pages of the mask
    steps = max(ranks - 1, 1)
    small, large = gather(8, 20), gather(LARGE, 4)
    return {
        "comparing": _timed(compare)[0] / ((SCORE + MARK) * weights),
        "dispatch": _timed(call)[0] / CALLS,
        "sort": _timed(lambda: np.sort(values))[0] / SORTED,
        "latency": small / steps,
        "sending": max(large - small, 0.0) / steps / LARGE,
    }


@contextmanager
def scaled(constants: Constants) -> Iterator[None]:
    """Run the algorithm with other constants, so that it takes the path of a larger model."""
    before = Constants.present()
    try:
        _set(constants)
        yield
    finally:
        _set(before)


def _set(constants: Constants) -> None:
    for name, value in asdict(constants).items():
        setattr(kth_largest, name.upper(), value)


def simulate(score_set: ScoreSet, ranks: int, constants: Constants = PRESENT) -> dict[str, Any]:
    """One decision of ranks that are threads: its exchanges, and whether its masks are right.

    Args:
        score_set: the scores.
        ranks: number of threads.
        constants: of the algorithm.
    """
    parts = _equal_parts(score_set.make(), ranks)

    def work(rank: ThreadRank) -> tuple[str, list[Exchange], int]:
        group = CountingGroup(rank)
        decided = decide(parts[rank.rank], score_set.keep, group)
        return _digest(decided.masks.values()), group.exchanges, rank.sent

    with scaled(constants):
        found, exchanges, sent = zip(*together(ranks, work), strict=True)
    return {
        "ranks": ranks,
        "constants": asdict(constants),
        "exchanges": [asdict(exchange) for exchange in exchanges[0]],
        "most_given": max(sent),
        "same_mask": list(found) == digests(score_set, [ranks])[ranks],
    }
