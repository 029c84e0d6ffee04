"""Decisions of several ranks: processes that are timed, and threads whose exchanges are counted."""

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

from benchmarks.distributed.communication_plan import SCORE, Constants, Exchange
from benchmarks.distributed.counting_group import Counted
from benchmarks.distributed.methods import METHODS, Parts
from benchmarks.harness.process import peak_resident, reset_peak, resident
from benchmarks.harness.results import describe
from benchmarks.harness.score_sets import ScoreSet
from pins.distributed.process_group import ProcessGroup
from pins.selection import kth_largest
from pins.selection.scan import reference
from pins.selection.select import decide
from pins.utils.io import write_json
from verification.testing.threaded_group import ThreadRank, shards, together

LOOPBACK = Path("/proc/net/dev")
CALLS, TOUCHED, PARTITIONED, LARGE = 1000, 1 << 17, 1 << 18, 1 << 22


def digests(score_set: ScoreSet, counts: Sequence[int]) -> dict[int, list[str]]:
    """Of the masks that one process decides on, for each number of ranks a digest of each part."""
    torch.set_num_threads(1)
    masks = dict(decide(score_set.make(), score_set.keep).masks)
    return {
        count: [_digest(part.values()) for part in shards(masks, _cuts(count))] for count in counts
    }


def measure(score_set: ScoreSet, ranks: int, rounds: int, expected: Sequence[str]) -> Any:
    """Every method and what the machine can do, in turns, in processes that gloo joins.

    Args:
        score_set: the scores, of which each rank holds a part.
        ranks: number of processes, of one thread each.
        rounds: turns that count, after one that does not.
        expected: the digest of each rank's masks.

    Returns:
        A row; an error's text where a rank failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            spawn(_rank, (score_set, ranks, rounds, folder), nprocs=ranks)  # type: ignore[no-untyped-call]
        except Exception as error:  # a failure is a result
            return describe(error)
        told = [json.loads(_file(folder, rank).read_text("utf-8")) for rank in range(ranks)]
    return {
        "methods": {
            name: _of_all([each["methods"][name] for each in told], expected) for name in METHODS
        },
        "weights": [each["weights"] for each in told],
        "exchanges": told[0]["exchanges"],
        # what a rank can do while the others do the same: the slowest
        "can": {
            name: [max(turn) for turn in zip(*(each["can"][name] for each in told), strict=True)]
            for name in told[0]["can"]
        },
    }


def _of_all(told: Sequence[Mapping[str, Any]], expected: Sequence[str]) -> dict[str, Any]:
    """One method, of all ranks: a round is over when the last of them is."""
    return {
        "seconds": [max(turn) for turn in zip(*(each["seconds"] for each in told), strict=True)],
        "extra_bytes": [each["extra_bytes"] for each in told],
        "kept": sum(each["kept"] for each in told),
        "loopback": told[0]["loopback"],
        "same_mask": [each["digest"] for each in told] == list(expected),
    }


def _cuts(ranks: int) -> list[float]:
    return [rank / ranks for rank in range(1, ranks)]


def _file(folder: str, rank: int) -> Path:
    return Path(folder) / f"{rank}.json"


def _rank(rank: int, score_set: ScoreSet, ranks: int, rounds: int, folder: str) -> None:
    """One process."""
    torch.set_num_threads(1)
    meeting = f"file://{Path(folder) / 'meeting'}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=ranks)
    parts = shards(score_set.make(), _cuts(ranks))[rank]
    parts = {name: part.clone() for name, part in parts.items()}  # the others' are let go
    gc.collect()
    counted = Counted(ProcessGroup())
    decide(parts, score_set.keep, counted)  # what is loaded or started by the first call of all
    told: dict[str, Any] = {
        "weights": sum(part.numel() for part in parts.values()),
        "exchanges": [asdict(exchange) for exchange in counted.exchanges],
        "methods": {name: _first_turn(parts, score_set.keep, name) for name in METHODS},
        "can": {},
    }
    _abilities(parts, ranks)
    for _ in range(rounds):
        for name, row in told["methods"].items():
            taken, through = _timed(partial(METHODS[name].masks, parts, score_set.keep))
            row["seconds"].append(taken)
            row["loopback"].append(through)
        for what, found in _abilities(parts, ranks).items():
            told["can"].setdefault(what, []).append(found)
    write_json(told, _file(folder, rank))
    dist.barrier()  # a rank that leaves early breaks the connection of the others
    dist.destroy_process_group()


def _first_turn(parts: Parts, keep: int, name: str) -> dict[str, Any]:
    """The masks and the most memory beyond scores and own masks."""
    gc.collect()
    dist.barrier()
    reset_peak()
    before = resident()
    masks = METHODS[name].masks(parts, keep)
    extra = peak_resident() - before - sum(mask.numel() for mask in masks)
    kept = sum(int(mask.sum()) for mask in masks)
    found = {"extra_bytes": extra, "kept": kept, "digest": _digest(masks)}
    return {**found, "seconds": [], "loopback": []}


def _timed(work: Callable[[], Any]) -> tuple[float, int | None]:
    """Seconds of this rank, and bytes that went through the loopback device meanwhile."""
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
    """Bytes sent so far through it, of all processes; None where the system does not tell."""
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


def _abilities(parts: Parts, ranks: int) -> dict[str, float]:
    """What a rank of this machine takes while the others do the same, in seconds.

    For a byte compared, an operation called, a score drawn or touched, a value sorted or
    partitioned, a step of a ring, a byte sent; see `cost_model.Machine`.
    """
    flats = [part.reshape(-1) for part in parts.values()]
    weights = sum(flat.numel() for flat in flats)
    largest = max(flats, key=len)
    places = torch.randint(len(largest), (TOUCHED,))
    some = largest[places].numpy()
    many = np.resize(some, PARTITIONED)
    few, mask = torch.zeros(8), torch.empty(min(weights, reference.BLOCK), dtype=torch.bool)

    def compare() -> None:
        for flat in flats:
            for block in torch.split(flat, reference.BLOCK):
                torch.ge(block, 0.5, out=mask[: len(block)])

    def call() -> None:
        for _ in range(CALLS):
            torch.ge(few, 0.5, out=mask[:8])

    def exchange(length: int, times: int) -> Callable[[], None]:
        own = torch.zeros(length, dtype=torch.uint8)
        out = [torch.empty_like(own) for _ in range(ranks)]

        def all_gather() -> None:
            for _ in range(times):
                dist.all_gather(out, own)

        return all_gather

    def draw() -> None:
        generator = torch.Generator().manual_seed(0)
        largest[torch.randint(len(largest), (TOUCHED,), generator=generator)]

    compare()  # the mask's pages are had
    found = {
        "comparing": _timed(compare)[0] / ((SCORE + 1) * weights),
        "dispatch": _timed(call)[0] / CALLS,
        "draw": _timed(draw)[0] / TOUCHED,
        "touch": _timed(lambda: largest[places])[0] / TOUCHED,
        "sort": _timed(lambda: np.sort(some))[0] / TOUCHED,
        "partition": _timed(lambda: np.partition(many, PARTITIONED // 3))[0] / PARTITIONED,
    }
    steps = max(ranks - 1, 1)
    small = _timed(exchange(8, 20))[0] / 20
    large = _timed(exchange(LARGE, 4))[0] / 4
    return {
        **found,
        "latency": small / steps,
        "sending": max(large - small, 0.0) / steps / LARGE,
    }


@contextmanager
def scaled(constants: Constants | None) -> Iterator[Constants]:
    """The algorithm with other constants: a model of a larger one, as of a ship in a basin."""
    before = Constants.present()
    try:
        _become(constants or before)
        yield constants or before
    finally:
        _become(before)


def _become(constants: Constants) -> None:
    for name, value in asdict(constants).items():
        setattr(kth_largest, name.upper(), value)


def simulate(score_set: ScoreSet, ranks: int, constants: Constants | None = None) -> dict[str, Any]:
    """One decision of ranks that are threads: exchanges of each, and whether the mask is the one.

    Args:
        score_set: the scores.
        ranks: number of threads.
        constants: of the algorithm, where they are not to be its own.
    """
    scores = score_set.make()
    parts = shards(scores, _cuts(ranks))
    with scaled(constants) as used:

        def work(rank: ThreadRank) -> tuple[str, list[Exchange], int]:
            group = Counted(rank)
            decided = decide(parts[rank.rank], score_set.keep, group)
            return _digest(decided.masks.values()), group.exchanges, rank.sent

        found = together(ranks, work)
    alone = dict(decide(scores, score_set.keep).masks)
    expected = [_digest(each.values()) for each in shards(alone, _cuts(ranks))]
    return {
        "ranks": ranks,
        "constants": asdict(used),
        "exchanges": [asdict(exchange) for exchange in found[0][1]],
        "most_given": max(sent for _, _, sent in found),
        "same_mask": [digest for digest, _, _ in found] == expected,
    }
