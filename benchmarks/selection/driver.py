"""The exact optimum for a whole model against other methods of selection, in turns.

    python -m benchmarks.selection [--device cuda] [--instances bert-base,1e8] [--rounds 5]

Writes selection-DEVICE.json (a row for each set of scores and method), the tables
selection-DEVICE.md and the figure selection-DEVICE.svg to the results folder.
"""

from collections.abc import Mapping

from matplotlib.figure import Figure

from benchmarks.harness import benchmark, score_sets
from benchmarks.harness.cli import DefaultRounds, Device, Instances, Out, Render, named
from benchmarks.harness.device import describe_device, find_device
from benchmarks.harness.results import RESULTS, Document
from benchmarks.selection.methods import METHODS
from benchmarks.selection.rounds import measure
from benchmarks.selection.table import nanoseconds, table
from pins.utils.io import write_json
from verification import plots

ROUNDS: Mapping[str, int] = {"cuda": 20, "cpu": 5}
NOT_MEASURED = (score_sets.SMALL_MODEL, score_sets.SMOKE)
MEASURED = ",".join(name for name in score_sets.SCORE_SETS if name not in NOT_MEASURED)


def figure(document: Document) -> Figure:
    """Time per weight against the size, and on the adversarial sets."""
    rows = [
        {**row, "nanoseconds": nanoseconds(row)}
        for row in document["rows"]
        if METHODS[row["method"]].pattern is None
    ]
    sizes = (*score_sets.SIZES, score_sets.MODEL, score_sets.SMOKE)
    return plots.selection(
        *([row for row in rows if row["instance"] in of] for of in (sizes, score_sets.ADVERSARIAL))
    )


def run(
    device: Device = None,
    instances: Instances = MEASURED,
    rounds: DefaultRounds = None,
    out: Out = RESULTS,
    render_only: Render = False,
) -> None:
    """Measure every set of scores; the file is written after each."""
    file = "selection-*.json"
    if not render_only:
        chosen = named(instances, score_sets.SCORE_SETS, "score set")
        where = find_device(device)
        turns = rounds or ROUNDS[where.type]
        settings = {"kept": f"1/{score_sets.KEPT_ONE_IN}", "rounds": turns, "methods": [*METHODS]}
        document = benchmark.new_document(settings, {"OUT": out})
        memory = "the most that a fresh process takes at a time"
        document["device"] = describe_device(where, document, memory)
        file = f"selection-{where.type}.json"
        for name, score_set in chosen.items():
            print(f"{name}: {score_set.size:,} scores …", flush=True)
            about = {**score_set.describe(name), "bytes": score_set.nbytes}
            document["rows"] += [about | row for row in measure(score_set, where, turns)]
            write_json(document, out / file)
    benchmark.render(out, file, table, figure)
