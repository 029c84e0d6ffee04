"""The tables of the distributed benchmark."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.distributed import cost_model
from benchmarks.distributed.cost_model import HOPPER, counted, planned, predicted
from benchmarks.distributed.methods import DECIDE, METHODS
from benchmarks.harness import markdown
from benchmarks.harness.markdown import escaped, interval, measured_with, number, share
from benchmarks.harness.results import Row

CLOSE = 0.05  # relative error of predicted bytes that counts as close
TERMS = "scanning + calling + exchanging + ranking, ms"


def table(document: Mapping[str, Any]) -> str:
    """The results as Markdown."""
    settings = document["settings"]
    rows = [row for row in document["rows"] if not row["error"]]
    return markdown.document(
        "# One decision among ranks",
        f"Of n scores the k = {settings['kept']} n largest are kept. Each rank holds a contiguous "
        "part of every tensor. pins.decide sends counts, samples and candidates; the other methods "
        "gather all scores on rank 0. Given is the number of bytes that a rank hands to the "
        "others, the mean of the ranks. What reaches a rank is counted for a ring with padded "
        "parts; for the methods that gather, on the rank that most bytes reach.",
        verdict(document),
        "## Measured: processes joined by gloo",
        f"All ranks share {settings['cores']} cores, with one thread each, so more ranks are not "
        f"faster here. Milliseconds are medians of {settings['rounds']} rounds, in which the "
        "methods take turns; a round ends with its slowest rank. Memory is the peak of any rank "
        "beyond its scores and its own masks.",
        markdown.table(
            "scores | n | ranks | method | ms | reaches a rank, MB | "
            "through loopback, MB | memory of a rank, MB | kept | mask of one process",
            "lrrlrrrrrl",
            [cells for row in document["rows"] for cells in _measured(row)],
        ),
        "## Predicted and measured",
        "The model knows sizes, k, ranks and the algorithm's constants; each rank measures the "
        "machine's constants (comparing, calling, sorting, sending) in the same rounds, while all "
        "other ranks do the same. Nothing is fitted to a decision.",
        markdown.table(
            f"scores | ranks | passes, exchanges | {TERMS} | predicted, ms | measured, ms | "
            "predicted/measured | given by a rank, kB | predicted, kB | predicted/counted",
            "lrrlr",
            map(_predicted, rows),
        ),
        "## Simulated: ranks that are threads",
        "The algorithm itself among many ranks with few scores each, to count what it exchanges. "
        "In the rows called scaled, sample and room are so small that the path is that of 7 B "
        "weights and more, for which the first interval does not fit the room.",
        markdown.table(
            "scores | n | ranks | passes, predicted | passes | exchanges | "
            "given by a rank, kB | predicted/counted | reaches a rank, kB | "
            "predicted/counted | mask of one process",
            "lrrrrrrrrrl",
            map(_simulated, document["simulated"]),
        ),
        "## On paper",
        paper_table(document["paper"]),
        measured_with(document["provenance"]),
    )


def verdict(document: Mapping[str, Any]) -> list[str]:
    """One line each for masks, passes, bytes and times."""
    rows = [row for row in document["rows"] if not row["error"]]
    pairs = [(planned(row), counted(row)) for row in [*rows, *document["simulated"]]]
    same = same_masks(document)
    taken = [work.passes == found.passes for work, found in pairs]
    ratios = [work.given / found.given for work, found in pairs]
    ratios += [work.received / found.received for work, found in pairs if work.ranks > 1]
    lines = [
        f"- Masks of {DECIDE} equal to those of one process, bit for bit: {sum(same)} of "
        f"{len(same)}.",
        f"- Passes as predicted: {sum(taken)} of {len(taken)}.",
        f"- Bytes predicted / counted: {interval(ratios, '{:.3f}')}; within {share(CLOSE, 0)}: "
        f"{sum(abs(ratio - 1) <= CLOSE for ratio in ratios)} of {len(ratios)}.",
    ]
    through = [
        statistics.median(passed) / (row["ranks"] * counted(row).received)
        for row in rows
        if row["ranks"] > 1 and all(passed := row["methods"][DECIDE]["loopback"])
    ]
    if through:
        lines.append(
            "- Bytes through the loopback device, with all headers / counted: "
            f"{interval(through, '{:.3f}')}."
        )
    if rows:
        times = [sum(predicted(row).values()) / measured(row) for row in rows]
        lines.append(
            f"- Time predicted / measured: {interval(times, '{:.3f}')}, median "
            f"{number(statistics.median(times))}."
        )
    return lines


def measured(row: Row, method: str = DECIDE) -> float:
    """Median seconds of the rounds."""
    return float(statistics.median(row["methods"][method]["seconds"]))


def same_masks(document: Mapping[str, Any]) -> list[bool]:
    """For each decision, measured or simulated: whether its masks are those of one process."""
    rows = [row for row in document["rows"] if not row["error"]]
    same = [row["methods"][DECIDE]["same_mask"] for row in rows]
    return same + [row["same_mask"] for row in document["simulated"]]


def paper_table(rows: Sequence[Row]) -> str:
    """Seconds and bytes of a decision by model and number of ranks; then the assumptions."""
    near, far = HOPPER.near, HOPPER.far
    tensors = {row["model"]: f"{row['model']}: {row['tensors']}" for row in rows}
    lines = markdown.table(
        f"weights | GPUs | a decision, ms | {TERMS} | exchanges | given by a GPU, kB | "
        "reaches a GPU, MB | all scores to one GPU, GB | sending them alone, ms",
        "lrrlr",
        (
            f"{row['model']} | {row['ranks']:,} | {number(1e3 * row['total_seconds'])} | "
            f"{_terms(row['seconds'])} | {row['exchanges']} | {number(row['given'] / 1e3)} | "
            f"{number(row['received'] / 1e6)} | {number(row['gathering_bytes'] / 1e9)} | "
            f"{number(1e3 * row['gathering_seconds'])}"
            for row in rows
        ),
    )
    assumed = (
        "Not measured. Float32 scores, distinct and in random order, in equal tensors "
        f"({', '.join(tensors.values())}); every GPU holds a part of each. Assumed of an H100 and "
        f"its host: memory {HOPPER.bandwidth / 1e12:g} TB/s, {1e6 * HOPPER.dispatch:g} µs to call "
        f"an operation ({cost_model.CALLS} for a tensor in a pass, {cost_model.CALLS_OF_A_PART} "
        f"for a rank's part in a gather), {1e9 * HOPPER.sort:g} ns to sort a value; "
        f"{near.rate / 1e9:g} GB/s and {1e6 * near.latency:g} µs among {HOPPER.node} GPUs, "
        f"{far.rate / 1e9:g} GB/s and {1e6 * far.latency:g} µs beyond. All-gathers are "
        "rings, all-reduces trees; a pass reads every score once and writes a byte. The last two "
        "columns are for gathering the scores on one GPU and sending back a mask of one byte a "
        "weight, at the full rate of its link and without any ranking: a real method takes longer."
    )
    return "\n".join([*lines, "", assumed])


def _terms(seconds: Mapping[str, float]) -> str:
    return " + ".join(number(1e3 * term) for term in seconds.values())


def _measured(row: Row) -> Iterator[str]:
    start = f"{row['instance']} | {row['size']:,} | {row['ranks']} | "
    if row["error"]:
        yield f"{start}failed: {escaped(row['error'])}"
        return
    for name, method in METHODS.items():
        found = row["methods"][name]
        reaches = counted(row).received if name == DECIDE else method.received(row["weights"])
        through = [each for each in found["loopback"] if each is not None]
        more = found["kept"] - row["keep"]
        no = "**no**" if name == DECIDE else "no"
        yield (
            f"{start}{name} | {number(1e3 * measured(row, name))} | {number(reaches / 1e6)} | "
            f"{number(statistics.median(through) / 1e6) if through else '–'} | "
            f"{number(max(found['extra_bytes']) / 1e6)} | k{f' + {more:,}' if more else ''} | "
            f"{'yes' if found['same_mask'] else no}"
        )


def _predicted(row: Row) -> str:
    work, took, given = planned(row), predicted(row), counted(row).given
    total = sum(took.values())
    return (
        f"{row['instance']} | {row['ranks']} | {work.passes}, {len(work.exchanges)} | "
        f"{_terms(took)} | {number(1e3 * total)} | {number(1e3 * measured(row))} | "
        f"{number(total / measured(row))} | {number(given / 1e3)} | "
        f"{number(work.given / 1e3)} | {work.given / given:.3f}"
    )


def _simulated(row: Row) -> str:
    work, found = planned(row), counted(row)
    return (
        f"{row['instance']} | {sum(row['sizes']):,} | {row['ranks']} | {work.passes} | "
        f"{found.passes} | {len(found.exchanges)} | {number(found.given / 1e3)} | "
        f"{work.given / found.given:.3f} | {number(found.received / 1e3)} | "
        f"{work.received / found.received:.3f} | {'yes' if row['same_mask'] else '**no**'}"
    )
