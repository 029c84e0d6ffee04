"""Transposable N:M masks of a real model: loss against the optimum, certified gap, and time.

    python -m benchmarks.transposable [--instances minilm,minilm-x8] [--blocks 200]

Scores are |gθ| of the matrices of MiniLM's encoder, or these eight times (84.9 M weights). A row of
transposable.json is one method on one pattern, written as soon as it is done: an interrupted
benchmark continues with what is missing. Writes the table transposable.md. HiGHS gets some blocks,
evenly spaced; every answer of its is compared with ours in exact arithmetic.
"""

import functools
import os
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
from benchmarks.transposable.methods import greedy, highs, rounded
from benchmarks.transposable.table import EXACT, GREEDY, HIGHS, ROUNDED, table
from pins.models.demo_model import DEMO_MODEL
from pins.selection.transposable.blocks import split
from pins.selection.transposable.proof import Proof
from pins.selection.transposable.select import transposable
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
    "smoke": Instance("every step of the driver, in seconds", smoke, ((2, 4), (4, 8))),
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
        **dict.fromkeys(("seconds", "gap", "missing", "asked", "agreed")),
        **outcome(attempt(work, run, instance, blocks)),
        "load": round(os.getloadavg()[0], 1),
    }


def _masked(run: Run, instance: Instance, _blocks: int) -> dict[str, Any]:
    """Seconds for all masks, their certified gap, and the share of ones that they lack."""
    scores, masks = instance.scores(), []
    method = METHODS[run.method]

    def work() -> None:
        for _ in range(instance.repeats):
            masks[:] = [method(each, run.n, run.m) for each in scores]

    seconds = seconds_of(work)
    bound = sum((proof.bound for proof in proofs(run.instance, run.n, run.m)), Fraction(0))
    regret = sum((proof.regret for proof in proofs(run.instance, run.n, run.m)), Fraction(0))
    if run.method != EXACT:
        kept = sum(_exact_sum(each, mask) for each, mask in zip(scores, masks, strict=True))
        regret = bound - kept
    ones = sum(int(mask.sum()) for mask in masks)
    all_ones = sum(each.numel() for each in scores) * run.n // run.m
    return {"seconds": seconds, "gap": float(regret / bound), "missing": 1 - ones / all_ones}


def _exact_sum(scores: Tensor, mask: Tensor) -> Fraction:
    """Σ of the kept float32 scores, exactly: integers of 24 bits, summed by exponent."""
    mantissa, exponent = torch.frexp(scores[mask])
    integers = (mantissa * 2.0**24).long()
    return sum(
        (
            Fraction(int(integers[exponent == each].sum())) * Fraction(2) ** (each - 24)
            for each in exponent.unique().tolist()
        ),
        Fraction(0),
    )


def _asked(run: Run, instance: Instance, blocks: int) -> dict[str, Any]:
    """Seconds of HiGHS for all blocks, if each takes as long as those asked, and its answers."""
    every = torch.cat([split(each, run.m) for each in instance.scores()], 2)
    chosen = every[:, :, torch.arange(blocks) * every.shape[2] // blocks]
    answers: list[Fraction] = []
    seconds = seconds_of(lambda: answers.extend(highs(block, run.n) for block in chosen.unbind(2)))
    ours = [transposable(block, run.n, run.m).proof for block in chosen.unbind(2)]
    if wrong := sum(mine.bound < answer for mine, answer in zip(ours, answers, strict=True)):
        raise AssertionError(f"{wrong} of {blocks} optima of HiGHS are above the bound")
    agreed = sum(
        mine.bound - mine.regret <= answer for mine, answer in zip(ours, answers, strict=True)
    )
    scale = every.shape[2] * instance.repeats / blocks
    return {"seconds": seconds * scale, "asked": blocks, "agreed": agreed}


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
