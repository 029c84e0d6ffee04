"""The demo's report: results → one page that opens from disk, with its figures.

Nothing in the page is written by hand but the explanations: every number comes from `results`.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pins.errors import FileError
from pins.runs import weight_sample
from pins.runs.folder import SAMPLE
from pins.utils.io import require_replaceable, write_json, write_text
from verification import explorer, plots
from verification.experiments.loss_change import Row, by_fraction, pins_lowers_most, step_alone
from verification.experiments.run_reader import REPORT, REPORT_FORMAT
from verification.formatting import count, percent, signed

LEDGER = "ledger.json"
PAGE = "index.html"
TEMPLATE = "report.html.j2"


def require_free(folder: Path) -> None:
    """Refuse a folder that holds something other than an earlier report.

    Raises:
        FileError: it is not a folder, or holds files that no report has written.
    """
    if folder.exists() and not folder.is_dir():
        raise FileError(f"{folder} is a file: give a folder for the report")
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / REPORT).is_file():
            raise FileError(
                f"{folder} is not empty and holds no {REPORT} of an earlier report: give another "
                "folder, nothing is overwritten"
            )
        require_replaceable(folder / REPORT, REPORT_FORMAT)


def start(folder: Path) -> None:
    """Mark the folder as a report in the making; all that an earlier one wrote goes.

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
    figures = {
        "loss_change": plots.loss_change(results["loss_changes"]),
        "predicted_against_measured": plots.predicted_against_measured(results["loss_changes"]),
        "regret_and_overlap": plots.regret_and_overlap(results["regrets"]),
        "training": plots.training(
            results["training"]["dense_losses"] + results["training"]["sparse_losses"],
            results["decisions"],
            len(results["training"]["dense_losses"]),
        ),
        "decisions": plots.measured_decisions(results["decisions"]),
        "sorted_scores": plots.sorted_scores(results["last_decision"]),
        "layer_sparsity": plots.layer_sparsity(results["layers"]),
    }
    return {name: plots.svg(figure, name) for name, figure in figures.items()}


def write(results: Mapping[str, Any], figures: Mapping[str, str], folder: Path) -> Path:
    """Write results, figures and page; the path of the page."""
    for name, text in figures.items():
        write_text(text, folder / "figures" / f"{name}.svg")
    sample = weight_sample.load(folder / SAMPLE)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"signed": signed, "percent": percent, "count": count}
    page = environment.get_template(TEMPLATE).render(
        results=results,
        figures=figures,
        sampled=sample.total,
        folder=folder.name,
        table=_loss_table(results),
        scope=_scope(results),
    )
    write_text(page, folder / PAGE)
    explorer.write(sample, folder / explorer.FILE)
    write_json({"format": REPORT_FORMAT, "finished": True, **results}, folder / REPORT)
    return folder / PAGE


def _loss_table(results: Mapping[str, Any]) -> dict[str, Any]:
    """Fractions down, criteria across; the lowest measured change of each line is marked."""
    lines = []
    for fraction, cells in by_fraction(results["loss_changes"]).items():
        best = min(row["measured"] for row in cells.values())
        lines.append(
            {
                "fraction": fraction,
                "pruned": cells["pins"]["pruned"],
                "cells": [{**row, "best": row["measured"] == best} for row in cells.values()],
            }
        )
    return {
        "criteria": [cell["criterion"] for cell in lines[0]["cells"]],
        "lines": lines,
        "alone": step_alone(results["loss_changes"]),
    }


def _scope(results: Mapping[str, Any]) -> dict[str, Any]:
    """Where the signed optimum of the linear model lowered the real loss most, and where not."""
    best_at: list[Row] = []
    broken: list[Row] = []
    for cells in by_fraction(results["loss_changes"]).values():
        (best_at if pins_lowers_most(cells, "measured") else broken).append(cells["pins"])
    return {"best_at": best_at, "broken": broken[0] if broken else None}
