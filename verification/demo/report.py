"""The demo's report: one page of the results that opens from disk, with its figures.

Only the explanations are written by hand; every number of the page comes from `results`.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pins.errors import FileError
from pins.runs import weight_sample
from pins.runs.folder import SAMPLE
from pins.utils.folder_lock import LOCK
from pins.utils.io import require_replaceable, require_utf8, write_json, write_text
from verification import explorer, plots
from verification.experiments.loss_change import Row, by_fraction, pins_lowers_most, step_alone
from verification.experiments.run_reader import REPORT, REPORT_FORMAT
from verification.explorer.page import environment
from verification.formatting import count, percent, signed

LEDGER = "ledger.json"
PAGE = "index.html"
TEMPLATE = "report.html.j2"


def require_free(folder: Path) -> None:
    """Refuse a folder that is not empty, unless it holds an earlier report.

    Raises:
        FileError: it is a file, it holds files and no earlier report, or its name is not UTF-8.
    """
    require_utf8(folder)
    if folder.exists() and not folder.is_dir():
        raise FileError(f"{folder} is a file: give a folder for the report")
    if folder.is_dir() and any(each.name != LOCK for each in folder.iterdir()):
        if not (folder / REPORT).is_file():
            raise FileError(
                f"{folder} is not empty and holds no {REPORT} of an earlier report: give another "
                "folder, nothing is overwritten"
            )
        require_replaceable(folder / REPORT, REPORT_FORMAT)


def start(folder: Path) -> None:
    """Mark the folder as an unfinished report, and remove all files of an earlier one.

    Raises:
        FileError: as `require_free`.
    """
    require_free(folder)
    write_json({"format": REPORT_FORMAT, "finished": False}, folder / REPORT)
    for name in (PAGE, LEDGER, SAMPLE, explorer.FILE):
        (folder / name).unlink(missing_ok=True)
    for name in ("decisions", "figures", "model"):
        shutil.rmtree(folder / name, ignore_errors=True)


def draw(results: Mapping[str, Any]) -> dict[str, str]:
    """The figures of the page by name, as SVG elements."""
    dense, sparse = results["training"]["dense_losses"], results["training"]["sparse_losses"]
    figures = {
        "loss_change": plots.loss_change(results["loss_changes"]),
        "predicted_against_measured": plots.predicted_against_measured(results["loss_changes"]),
        "regret_and_overlap": plots.regret_and_overlap(results["regrets"]),
        "training": plots.training(dense + sparse, results["decisions"], len(dense)),
        "decisions": plots.measured_decisions(results["decisions"]),
        "sorted_scores": plots.sorted_scores(results["last_decision"]),
        "layer_sparsity": plots.layer_sparsity(results["layers"]),
    }
    return {name: plots.svg(figure, name) for name, figure in figures.items()}


def write(results: Mapping[str, Any], figures: Mapping[str, str], folder: Path) -> Path:
    """Write results, figures and page; return the path of the page."""
    for name, text in figures.items():
        write_text(text, folder / "figures" / f"{name}.svg")
    sample = weight_sample.load(folder / SAMPLE)
    templates = environment(Path(__file__).parent)
    templates.filters |= {"signed": signed, "percent": percent, "count": count}
    page = templates.get_template(TEMPLATE).render(
        results=results,
        figures=figures,
        sampled=sample.total,
        folder=folder.name,
        table=_loss_table(results),
        range=_range(results),
    )
    write_text(page, folder / PAGE)
    explorer.write(sample, folder / explorer.FILE)
    write_json({"format": REPORT_FORMAT, "finished": True, **results}, folder / REPORT)
    return folder / PAGE


def _loss_table(results: Mapping[str, Any]) -> dict[str, Any]:
    """A line for each fraction, a cell for each criterion; marks the lowest change of a line."""
    changes = results["loss_changes"]
    lines = []
    for fraction, cells in by_fraction(changes).items():
        best = min(row["measured"] for row in cells.values())
        marked = [{**row, "best": row["measured"] == best} for row in cells.values()]
        pruned = cells["pins"]["pruned"]
        lines.append({"fraction": fraction, "pruned": pruned, "cells": marked})
    names = [cell["criterion"] for cell in lines[0]["cells"]]
    return {"criteria": names, "lines": lines, "alone": step_alone(changes)}


def _range(results: Mapping[str, Any]) -> dict[str, Any]:
    """The fractions at which `pins` lowered the measured loss most, and the first other one."""
    best_at: list[Row] = []
    broken: list[Row] = []
    for cells in by_fraction(results["loss_changes"]).values():
        (best_at if pins_lowers_most(cells, "measured") else broken).append(cells["pins"])
    return {"best_at": best_at, "broken": broken[0] if broken else None}
