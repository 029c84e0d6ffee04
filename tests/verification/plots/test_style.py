"""Figures are those of PINS: no setting of the user and no name in a file changes how they look."""

import html
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

plots = pytest.importorskip("verification.plots", reason="the figures are drawn by matplotlib")
from verification.plots import criteria, losses, programs, runs, style  # noqa: E402

CURVE = {
    "lambda": -0.5, "keep": 1, "total": 2, "ranks": [0, 1], "scores": [1.0, -0.5],
    "first": 0, "near": [1.0, -0.5], "tied": 1,
}  # fmt: skip
DRAW = """
import json, sys
from pathlib import Path
from verification import plots
figure = plots.sorted_scores(json.loads(sys.argv[1]))
plots.save(figure, Path("figure.png"), "scores")
print(plots.svg(figure, "scores"))
"""
# each of them changes a figure, or ends in an error, where matplotlib follows the user
SETTINGS = """
text.usetex: True
axes.titlesize: 40
lines.linewidth: 9
font.family: serif
svg.fonttype: path
savefig.bbox: tight
savefig.facecolor: black
figure.autolayout: True
"""
ODD = r"a$b$ \frac{x & <i>"


def test_what_the_user_set_up_for_matplotlib_changes_no_byte(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text(SETTINGS)
    root = str(Path(plots.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", DRAW, json.dumps(CURVE)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root, "MPLBACKEND": "inline"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figure = plots.sorted_scores(CURVE)
    plots.save(figure, tmp_path / "here.png", "scores")
    assert (tmp_path / "figure.png").read_bytes() == (tmp_path / "here.png").read_bytes()
    assert done.stdout == plots.svg(figure, "scores") + "\n"


def test_the_style_itself_changes_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"criterion": "pins", "fraction": 0.1, "predicted": 0.0, "measured": 0.0}]
    before = plots.svg(plots.predicted_against_measured(rows), "points")
    monkeypatch.setitem(style.STYLE, "axes.labelsize", 40)
    assert plots.svg(plots.predicted_against_measured(rows), "points") != before


def loss(**more: Any) -> dict[str, Any]:
    return {"criterion": ODD, "fraction": 0.1, "measured": 1.0, "measured_unseen": 1.0, **more}


TIMED = {"method": ODD, "size": 10, "nanoseconds": 1.0, "instance": ODD}
CELL = {"task": ODD, "method": ODD, "self_regularization": True, "spread": None, "error": None}
ANSWER = {"solver": "cbc", "scaled": True, "kept": None, "status": ODD}
TAYLOR = {
    "rounding": 1e-9,
    "epsilons": [1.0, 0.1],
    "remainders": [[1.0, 0.1]] * 3,
    "slopes": [None] * 3,
}
NAMED: Mapping[str, Callable[[], Any]] = {
    "label": lambda: plots.loss_change([loss(predicted=0.0)]),
    "points": lambda: plots.predicted_against_measured([loss(predicted=0.0)]),
    "title": lambda: plots.end_accuracy([{**CELL, "sparsity": 0.9, "mean": 0.5}]),
    "dots": lambda: plots.selection([TIMED], [TIMED]),
    "models": lambda: plots.rank_decisions(
        [{"instance": ODD, "predicted": 1.0, "found": 1.0}], [], []
    ),
    "bars": lambda: plots.regret_and_overlap(
        [{"criterion": ODD, "relative_regret": 0.1, "kept_jaccard": 0.5}]
    ),
    "cells": lambda: criteria.overlap({n: {ODD: 1.0, "pins": 0.5} for n in (ODD, "pins")}, 0.5),
    "direction": lambda: losses.taylor_remainders({ODD: TAYLOR}, TAYLOR),
    "verdict": lambda: programs.unscaled(
        [{"criterion": ODD, "keep": 1, "scores": [2.0, 1.0], "answers": [ANSWER]}]
    ),
    "kinds": lambda: runs.sparsity_over_training([{"step": 1, "each": [1]}], {"w": 2}, [ODD]),
    "layers": lambda: plots.layer_sparsity([{"kind": ODD, "sparsity": 0.5}]),
    "metric": lambda: runs.self_regularization(
        [{"step": 1, "sparsity": 0.5, "score": 0.5, "divergence": None, "teacher": False}],
        ODD,
        [{"step": 1, "sparsity": 0.5}],
    ),
}


@pytest.mark.parametrize("place", NAMED)
def test_a_name_is_text_and_no_formula(place: str) -> None:
    shown = html.unescape(plots.svg(NAMED[place](), "names"))
    assert ODD in shown or ODD.lower() in shown
