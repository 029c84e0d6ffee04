"""Transposable N:M masks of a real model: loss against the optimum, certified gap, and time.

    python -m benchmarks.transposable [--instances minilm,minilm-x8] [--blocks 200]

Scores are |gθ| of the matrices of MiniLM's encoder, or these eight times (84.9 M weights). A row of
transposable.json is one method on one pattern, written as soon as it is done: an interrupted
benchmark continues with what is missing. Writes the table transposable.md. HiGHS gets some blocks,
evenly spaced; every answer of its is compared with ours in exact arithmetic.
"""

import functools
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from benchmarks.harness import benchmark
from benchmarks.harness.cli import Instances, Out, Render, named
from benchmarks.harness.results import RESULTS, attempt, outcome
from benchmarks.harness.timing import seconds_of
from benchmarks.transposable.methods import greedy, rounded
from benchmarks.transposable.table import EXACT, GREEDY, HIGHS, ROUNDED, table
from pins.models.demo_model import DEMO_MODEL
from pins.selection.transposable.blocks import split
from pins.selection.transposable.proof import Proof
from pins.selection.transposable.select import transposable
from solvers import Highs, TransposableFormulation, compare, exact_sum
from verification.experiments.model_snapshot import observe

FILE = "transposable.json"
CRITERION = "sensitivity"
Scores = Sequence[Tensor]


@functools.cache
def minilm() -> Scores:
    """|gθ| of MiniLM's prunable matrices, the gradient of 32 rows."""
    found = observe(DEMO_MODEL).importance(CRITERION).values()
    return [each for each in found if each.dim() == 2]


def smoke() -> Scores:
    """Two small matrices of random scores."""
    draw = torch.Generator().manual_seed(0)
    return [torch.rand(64, 96, generator=draw), torch.rand(32, 64, generator=draw)]


@dataclass(frozen=True)
class Instance:
    """Matrices of scores, and what is measured with them.

    Attributes:
        exercises: the question it answers.
        scores: makes the matrices.
        patterns: n and m.
        repeats: how many times all matrices are taken.
        methods: names of `METHODS`, or HiGHS.
    """

    exercises: str
    scores: Callable[[], Scores]
    patterns: tuple[tuple[int, int], ...]
    repeats: int = 1
    methods: tuple[str, ...] = (EXACT, ROUNDED, GREEDY, HIGHS)


INSTANCES: Mapping[str, Instance] = {
    "minilm": Instance("all patterns on a real model", minilm, ((2, 4), (4, 8), (8, 16), (16, 32))),
    "minilm-x8": Instance(
        "as many weights as the encoder of BERT-base has", minilm, ((8, 16),), 8, (EXACT, GREEDY)
    ),
    "smoke": Instance("every step of the driver, in seconds", smoke, ((4, 8),)),
}
MEASURED = "minilm,minilm-x8"
METHODS: Mapping[str, Callable[[Tensor, int, int], Tensor]] = {
    EXACT: lambda scores, n, m: transposable(scores, n, m).mask,
    ROUNDED: rounded,
    GREEDY: greedy,
}


@dataclass(frozen=True)
class Run:
    """One row: a method on a pattern of an instance."""

    instance: str
    n: int
    m: int
    method: str


def runs(instances: Mapping[str, Instance]) -> Iterator[Run]:
    """All rows, pattern by pattern."""
    for name, instance in instances.items():
        for n, m in instance.patterns:
            yield from (Run(name, n, m, method) for method in instance.methods)


@functools.lru_cache(maxsize=1)
def proofs(instance: str, n: int, m: int) -> list[Proof]:
    """The proof of each matrix."""
    return [transposable(scores, n, m).proof for scores in INSTANCES[instance].scores()]


def measure(run: Run, blocks: int) -> dict[str, Any]:
    """The fields of one row; `error` is the text of the error if it failed."""
    instance = INSTANCES[run.instance]
    scores = instance.scores()
    work = _asked if run.method == HIGHS else _masked
    return {
        "weights": sum(each.numel() for each in scores) * instance.repeats,
        **dict.fromkeys(("seconds", "cpu", "gap", "missing", "answers")),
        **outcome(attempt(work, run, instance, blocks)),
        "load": round(os.getloadavg()[0], 1),
    }


def _masked(run: Run, instance: Instance, _blocks: int) -> dict[str, Any]:
    """Seconds for all masks, their certified gap, and the share of ones that they lack."""
    scores = instance.scores()
    masks: list[Tensor] = []
    method = METHODS[run.method]

    def work() -> None:
        for _ in range(instance.repeats):
            masks[:] = [method(each, run.n, run.m) for each in scores]

    start = time.process_time()
    seconds = seconds_of(work)
    cpu = time.process_time() - start
    bound = sum((proof.bound for proof in proofs(run.instance, run.n, run.m)), Fraction(0))
    regret = sum((proof.regret for proof in proofs(run.instance, run.n, run.m)), Fraction(0))
    if run.method != EXACT:
        kept = (exact_sum(s[mask].numpy()) for s, mask in zip(scores, masks, strict=True))
        regret = bound - sum(kept, Fraction(0))
    ones = sum(int(mask.sum()) for mask in masks)
    all_ones = sum(each.numel() for each in scores) * run.n // run.m
    return {
        "seconds": seconds,
        "cpu": cpu,
        "gap": float(regret / bound),
        "missing": 1 - ones / all_ones,
    }


def _asked(run: Run, instance: Instance, blocks: int) -> dict[str, Any]:
    """Seconds of HiGHS for all blocks, if each takes as long as some, and its answers."""
    every = torch.cat([split(each, run.m) for each in instance.scores()], 2)
    chosen = every[:, :, torch.arange(blocks) * every.shape[2] // blocks]
    seconds, verdicts = 0.0, []
    for block in chosen.unbind(2):
        formulation = TransposableFormulation(block.contiguous(), run.n, run.m)
        result = Highs().solve(formulation.program)
        mask = transposable(formulation.importance, run.n, run.m).mask
        found = compare(formulation.program, formulation.apply(mask), result)
        seconds += result.report.seconds
        verdicts.append(found.verdict.name)
    scale = every.shape[2] * instance.repeats / blocks
    return {"seconds": seconds * scale, "answers": Counter(verdicts)}


def run(
    instances: Instances = MEASURED,
    blocks: Annotated[int, typer.Option(min=1, help="Blocks that HiGHS gets.")] = 200,
    out: Out = RESULTS,
    render_only: Render = False,
) -> None:
    """Measure what the results file does not hold yet."""
    if not render_only:
        settings = {"criterion": CRITERION, "blocks": blocks}
        document = benchmark.resume(out / FILE, benchmark.new_document(settings, {"OUT": out}))
        benchmark.complete(
            document,
            out / FILE,
            list(runs(named(instances, INSTANCES, "score set"))),
            lambda run: [measure(run, blocks)],
            shows="{seconds:.3g} s",
        )
    benchmark.render(out, FILE, table)
