"""The tables of the distributed benchmark."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.distributed.cost_model import HOPPER
from benchmarks.distributed.methods import DECIDE, METHODS
from benchmarks.distributed.predictions import (
    CLOSE,
    given,
    measured,
    passes,
    planned,
    predicted,
    received,
)
from benchmarks.harness.results import measured_with, number

Row = Mapping[str, Any]


def table(document: Mapping[str, Any]) -> str:
    """The results as Markdown."""
    settings = document["settings"]
    rows = [row for row in document["rows"] if not row["error"]]
    lines = [
        "# One decision among ranks",
        "",
        f"Of n scores the k = {settings['kept']} n largest are kept. Each rank holds a contiguous "
        "part of every tensor. pins.decide sends counts, samples and candidates; the others gather "
        "all scores on rank 0. Bytes are those of a decision: given is what a rank hands to the "
        "others, the mean of the ranks; what reaches a rank is counted for a ring, padded as it "
        "is sent, and of those who gather for the rank that most reaches.",
        "",
        *verdict(document),
        "",
        "## Measured: processes joined by gloo",
        "",
        f"{settings['cores']} cores are shared by all ranks, of one thread each, so more ranks are "
        f"no quicker here. Milliseconds are medians of {settings['rounds']} rounds, in which the "
        "methods take turns; a round is over when its last rank is. Memory is the most that any "
        "rank takes beyond its scores and its own masks.",
        "",
        "| scores | n | ranks | method | ms | reaches a rank, MB | through loopback, MB "
        "| memory of a rank, MB | kept | mask of one process |",
        "|---|---:|---:|---|---:|---:|---:|---:|---:|---|",
        *(line for row in rows for line in _measured(row)),
        *_failed(document["rows"]),
        "",
        "## Predicted and measured",
        "",
        "The model knows sizes, k, ranks and the algorithm's constants; what a rank can do "
        "(comparisons, calls, touches, sorts, messages) is measured by itself in the same rounds, "
        "with as many ranks at it. Nothing is fitted to a decision.",
        "",
        "| scores | ranks | passes, exchanges | scanning + calling + exchanging + ranking, ms "
        "| predicted, ms | measured, ms | predicted/measured | given by a rank, kB | predicted, kB "
        "| predicted/counted |",
        "|---|---:|---:|---|---:|---:|---:|---:|---:|---:|",
        *(_predicted(row) for row in rows),
        "",
        "## Simulated: ranks that are threads",
        "",
        "The algorithm itself among many ranks of few scores each, to count what it exchanges. In "
        "the rows called scaled its sample and room are made so small that it takes the path of "
        "7 B weights and more, on which the first interval does not fit the room.",
        "",
        "| scores | n | ranks | passes, predicted | passes | exchanges | given by a rank, kB "
        "| predicted/counted | reaches a rank, kB | predicted/counted | mask of one process |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|",
        *(_simulated(row) for row in document["simulated"]),
        "",
        "## On paper",
        "",
        paper_table(document["paper"]),
        "",
        measured_with(document["provenance"]),
    ]
    return "\n".join([*lines, ""])


def verdict(document: Mapping[str, Any]) -> list[str]:
    """Masks, bytes and times, each in a line."""
    rows = [row for row in document["rows"] if not row["error"]]
    simulated = document["simulated"]
    same = same_masks(document)
    taken = [planned(row).passes == passes(row) for row in [*rows, *simulated]]
    bytes_ratios = [ratio for row in [*rows, *simulated] for ratio in byte_ratios(row)]
    within = sum(abs(ratio - 1) <= CLOSE for ratio in bytes_ratios)
    lines = [
        f"- Masks of {DECIDE} that are bit for bit the one process's: {sum(same)} of {len(same)}.",
        f"- Passes as predicted: {sum(taken)} of {len(taken)}.",
        f"- Bytes predicted / counted: {_range(bytes_ratios)}; within {CLOSE:.0%}: {within} of "
        f"{len(bytes_ratios)}.".replace("%", " %"),
    ]
    through = [
        statistics.median(passed) / (row["ranks"] * received(row))
        for row in rows
        if row["ranks"] > 1 and all(passed := row["methods"][DECIDE]["loopback"])
    ]
    if through:
        lines.append(
            f"- Bytes through the loopback device, headers and all / counted: {_range(through)}."
        )
    if rows:
        ratios = [predicted(row).total / measured(row) for row in rows]
        lines.append(
            f"- Time predicted / measured: {_range(ratios)}, median "
            f"{number(statistics.median(ratios))}."
        )
    return lines


def same_masks(document: Mapping[str, Any]) -> list[bool]:
    """Of each decision measured or simulated: are its masks bit for bit the one process's?"""
    rows = [row for row in document["rows"] if not row["error"]]
    same = [row["methods"][DECIDE]["same_mask"] for row in rows]
    return same + [row["same_mask"] for row in document["simulated"]]


def byte_ratios(row: Row) -> tuple[float, ...]:
    """Predicted / counted: bytes given, and bytes that reach a rank, where there are others."""
    work = planned(row)
    ratios = (work.given / given(row),)
    return ratios if row["ranks"] == 1 else (*ratios, work.received / received(row))


def paper_table(rows: Sequence[Row]) -> str:
    """Seconds and bytes of a decision, for models and numbers of ranks; then what is assumed."""
    lines = [
        "| weights | GPUs | a decision, ms | scanning + calling + exchanging + ranking, ms "
        "| exchanges | given by a GPU, kB | reaches a GPU, MB | all scores to one GPU, GB "
        "| sending them alone, ms |",
        "|---|---:|---:|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        parts = " + ".join(number(1e3 * each) for each in row["seconds"].values())
        lines.append(
            f"| {row['model']} | {row['ranks']:,} | {number(1e3 * row['total_seconds'])} | {parts} "
            f"| {row['exchanges']} | {number(row['given'] / 1e3)} "
            f"| {number(row['received'] / 1e6)} | {number(row['gathering_bytes'] / 1e9)} "
            f"| {number(1e3 * row['gathering_seconds'])} |"
        )
    near, far = HOPPER.near, HOPPER.far
    lines += [
        "",
        "Not measured. Float32 scores, distinct and in no order, in equal tensors "
        f"({_tensors(rows)}), of each a part on every GPU. Assumed of an H100 and its host: memory "
        f"{HOPPER.bandwidth / 1e12:g} TB/s, {1e6 * HOPPER.dispatch:g} µs to call an operation, "
        f"{1e9 * HOPPER.touch:g} ns to draw or touch a score, {1e9 * HOPPER.sort:g} ns a value "
        f"sorted, {1e9 * HOPPER.partition:g} ns partitioned; {near.rate / 1e9:g} GB/s and "
        f"{1e6 * near.latency:g} µs among {HOPPER.node} GPUs, {far.rate / 1e9:g} GB/s and "
        f"{1e6 * far.latency:g} µs beyond. All-gathers are rings, all-reduces trees; a pass "
        "is one kernel that reads every score once. The last two columns are of gathering the "
        "scores on one GPU and sending a mask of one byte a weight back at the full rate of its "
        "link, nothing ranked: others take longer.",
    ]
    return "\n".join(lines)


def _tensors(rows: Sequence[Row]) -> str:
    found = {row["model"]: row["tensors"] for row in rows}
    return ", ".join(f"{name}: {tensors}" for name, tensors in found.items())


def _measured(row: Row) -> list[str]:
    lines = []
    for name in METHODS:
        found = row["methods"][name]
        reaches = received(row) if name == DECIDE else METHODS[name].received(row["weights"])
        through = [each for each in found["loopback"] if each is not None]
        more = found["kept"] - row["keep"]
        lines.append(
            f"| {row['instance']} | {row['size']:,} | {row['ranks']} | {name} "
            f"| {number(1e3 * measured(row, name))} | {number(reaches / 1e6)} "
            f"| {number(statistics.median(through) / 1e6) if through else '–'} "
            f"| {number(max(found['extra_bytes']) / 1e6)} | k{f' + {more:,}' if more else ''} "
            f"| {'yes' if found['same_mask'] else '**no**' if name == DECIDE else 'no'} |"
        )
    return lines


def _failed(rows: Sequence[Row]) -> list[str]:
    return [
        f"| {row['instance']} | {row['size']:,} | {row['ranks']} | failed: "
        f"{row['error'].replace('|', chr(92) + '|')} |" + " |" * 6
        for row in rows
        if row["error"]
    ]


def _predicted(row: Row) -> str:
    work, took = planned(row), predicted(row)
    parts = (took.scanning, took.calling, took.exchanging, took.ranking)
    return (
        f"| {row['instance']} | {row['ranks']} | {work.passes}, {len(work.exchanges)} "
        f"| {' + '.join(number(1e3 * part) for part in parts)} | {number(1e3 * took.total)} "
        f"| {number(1e3 * measured(row))} | {number(took.total / measured(row))} "
        f"| {number(given(row) / 1e3)} | {number(work.given / 1e3)} "
        f"| {work.given / given(row):.3f} |"
    )


def _simulated(row: Row) -> str:
    work = planned(row)
    return (
        f"| {row['instance']} | {sum(row['sizes']):,} | {row['ranks']} | {work.passes} "
        f"| {passes(row)} | {len(row['exchanges'])} | {number(given(row) / 1e3)} "
        f"| {work.given / given(row):.3f} | {number(received(row) / 1e3)} "
        f"| {work.received / received(row):.3f} | {'yes' if row['same_mask'] else '**no**'} |"
    )


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.3f} to {max(values):.3f}" if values else "–"
