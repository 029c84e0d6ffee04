"""Cost of pruning and self-regularisation in complete training steps, as ratios to dense training.

    python -m benchmarks.overhead [--device cuda] [--networks bert-base,minilm] [--rounds 5]

Writes overhead-DEVICE.json (a row per network, precision and variant) and the table
overhead-DEVICE.md to the results folder.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from typing import Annotated, Any

import torch
import typer

from benchmarks.harness import benchmark, markdown
from benchmarks.harness.cli import DefaultRounds, Device, Out, Render, named, numbers
from benchmarks.harness.device import describe_device, find_device
from benchmarks.harness.markdown import measured_with
from benchmarks.harness.process import fresh
from benchmarks.harness.results import RESULTS, Row
from benchmarks.overhead import training_steps
from benchmarks.overhead.goals import by_workload, change, compared, verdicts
from benchmarks.overhead.training_steps import DENSE, INTERVAL, NETWORKS, VARIANTS, Workload
from pins.errors import SettingError
from pins.models.teacher import fast_dtype
from pins.utils.io import write_json

# rows and tokens of a step, and the precisions, by kind of device
BATCHES: Mapping[str, tuple[int, int]] = {"cuda": (32, 128), "cpu": (8, 64)}
PRECISIONS: Mapping[str, Sequence[str]] = {"cuda": ("bfloat16", "float32"), "cpu": ("float32",)}
ROUNDS: Mapping[str, int] = {"cuda": 20, "cpu": 5}


def workloads(
    networks: Sequence[str], device: str, batch: tuple[int, int] | None
) -> Iterator[Workload]:
    """Every network in every precision of this kind of device."""
    kind = torch.device(device).type
    rows, length = batch or BATCHES[kind]
    for network in networks:
        for precision in PRECISIONS[kind]:
            yield Workload(network, rows, length, device, precision)


def measure(
    workload: Workload, rounds: int, variants: Sequence[str] = tuple(VARIANTS)
) -> list[dict[str, Any]]:
    """A row of results for each variant; each measurement in a fresh process."""
    weights, prunable_bytes = training_steps.sizes(workload.network)
    about = {**asdict(workload), "weights": weights, "prunable_bytes": prunable_bytes}
    seconds = fresh(training_steps.step_seconds, workload, list(variants), rounds)
    rows = []
    for name in variants:
        found = {
            "seconds": seconds if isinstance(seconds, str) else seconds[name],
            "peak_bytes": fresh(training_steps.peak_bytes, workload, name),
        }
        errors = {what: value for what, value in found.items() if isinstance(value, str)}
        rows.append(about | {"variant": name, **found, **dict.fromkeys(errors), "errors": errors})
    return rows


def table(document: Mapping[str, Any]) -> str:
    """The results as Markdown."""
    device, settings = document["device"], document["settings"]
    return markdown.document(
        f"# What pruning and self-regularisation cost: {device['name']}",
        f"Whole training steps (AdamW, clipping). The variants take turns, {settings['interval']} "
        f"steps each, {settings['rounds']} rounds; every turn holds one pruning decision and one "
        "copy of the model to its teacher. Time: seconds of a step, median of the rounds, and the "
        "median of the ratios to the dense steps of the same round (least to greatest). Memory: "
        f"{device['memory']}, in a fresh process for each variant. The teacher's matrices are in "
        f"{device['teacher']}. Judging the model, as a choice of checkpoints needs it, is not "
        "included.",
        *chain.from_iterable(map(_section, by_workload(document["rows"]))),
        verdicts(document),
        measured_with(document["provenance"]),
    )


def _section(rows: Sequence[Row]) -> tuple[str, list[str], list[str]]:
    first = rows[0]
    return (
        f"{first['network']} ({first['weights']:,} weights), {first['precision']}, "
        f"{first['batch']} rows of {first['length']} tokens:",
        markdown.table(
            "training | seconds a step | time | peak memory | memory",
            "lr",
            map(_cells, compared(rows)),
        ),
        [
            f"{row['variant']}: {what} failed with {error}"
            for row in rows
            for what, error in row["errors"].items()
        ],
    )


def _cells(row: Row) -> str:
    seconds = f"{statistics.median(row['seconds']):.3g}" if row["seconds"] else "failed"
    peak = f"{row['peak_bytes'] / 1e6:,.0f} MB" if row["peak_bytes"] else "failed"
    if row["variant"] == DENSE:
        return f"{DENSE} | {seconds} | | {peak} |"
    time, memory = row["time"], row["memory"]
    shown = f"{change(time.median)} ({change(time.low)} to {change(time.high)})" if time else "–"
    more = "–" if memory is None else change(memory)
    return f"+ {row['variant']} | {seconds} | {shown} | {peak} | {more}"


def run(
    networks: Annotated[str, typer.Option(help=f"Of {', '.join(NETWORKS)}.")] = "bert-base,minilm",
    device: Device = None,
    rounds: DefaultRounds = None,
    batch: Annotated[str | None, typer.Option(help="Rows x tokens, such as 8x64.")] = None,
    out: Out = RESULTS,
    render_only: Render = False,
) -> None:
    """Measure every network in every precision; the file is written after each."""
    file = "overhead-*.json"
    if not render_only:
        chosen = named(networks, NETWORKS, "network")
        where = find_device(device)
        turns = rounds or ROUNDS[where.type]
        document = benchmark.new_document({"interval": INTERVAL, "rounds": turns}, {"OUT": out})
        memory = (
            "the most that the process takes at a time, beyond what its libraries take, with what "
            "is freed given back at once"
        )
        teacher = str(fast_dtype(where)).removeprefix("torch.")
        document["device"] = {**describe_device(where, document, memory), "teacher": teacher}
        file = f"overhead-{where.type}.json"
        for workload in workloads([*chosen], str(where), _batch(batch)):
            print(f"{workload.network}, {workload.precision} …", flush=True)
            document["rows"] += measure(workload, turns)
            write_json(document, out / file)
    benchmark.render(out, file, table)


def _batch(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    like = "rows x tokens, such as 8x64"
    found = numbers(text.replace("x", ","), "batch", int, lambda number: number > 0, like)
    if len(found) != 2:
        raise SettingError(f"batch is {text!r}: give {like}")
    return found[0], found[1]
