"""The table of the loss change: predicted, measured on the calibration text and on test text."""

import statistics
from collections.abc import Mapping
from typing import Any

from benchmarks.harness import markdown
from benchmarks.harness.markdown import measured_with, number
from benchmarks.harness.one_shot import (
    HALF,
    SETTINGS,
    about,
    dense_perplexity,
    methods,
    not_measured,
    shown,
)
from benchmarks.harness.paired import Paired
from benchmarks.harness.results import Row
from verification.formatting import signed

ROWS, ALL = "each row", "all layers together"
SCOPES: Mapping[str, dict[str, Any]] = {ROWS: {}, ALL: {"scope": "global"}}
RANKED = {
    "magnitude": ROWS,
    "sensitivity": ALL,
    "trust-region": ALL,
    "obs": ROWS,
    "obs + swaps": ROWS,
    "alps + swaps": ROWS,
}
"""Method → where it keeps half of the weights."""
METHODS = {
    name: {**given, **SETTINGS[HALF], **SCOPES[RANKED[name]]}
    for name, given in methods(*RANKED).items()
}


def table(document: Mapping[str, Any]) -> str:
    """The results as Markdown."""
    settings, rows = document["settings"], document["rows"]
    return markdown.document(
        "# Loss change of one-shot pruning by half",
        f"{about(settings)} The methods decide by that text, and are judged on it and on "
        f"{settings['test_windows']} windows of the test text. The dense loss is "
        f"{rows[0]['calibration_dense']:.3f} there, and {statistics.fmean(document['dense']):.3f} "
        f"here, a perplexity of {shown(dense_perplexity(document))}; changes are in nats a token. "
        "Half of the weights are pruned, of each row, or of all layers together where a method can "
        "rank them together.",
        "Own model: what a method by gradients predicts by the model that it optimises, "
        "Σ −gθ of the pruned (`sensitivity`), with Σ ½(h+δ)θ² (`trust-region`). First order: "
        "Σ gΔ for the change Δ of all weights, refitted ones included; second order: with Σ ½hΔ². "
        "h is the mean over windows of the squared gradient of a window's mean loss, which is "
        "less than the curvature of the loss. On the test text: mean over windows ± its standard "
        "error, paired with the dense model. Lowest of each column measured in bold.",
        changes(document),
        not_measured(METHODS, [row["method"] for row in rows]),
        f"{sum(row['cpu'] for row in rows) / 3600:.1f} core-hours for {len(rows)} runs.",
        measured_with(document["provenance"]),
    )


def changes(document: Mapping[str, Any]) -> list[str]:
    """The predicted and measured changes of each method."""
    return markdown.table(
        "method | half of | own model | first order | second order | calibration text | "
        "test text | perplexity | core-seconds",
        "llr",
        (_cells(row, document) for row in document["rows"]),
    )


def _cells(row: Row, document: Mapping[str, Any]) -> str:
    rows = document["rows"]
    change = row["calibration_sparse"] - row["calibration_dense"]
    calibration = signed(change)
    test = str(Paired.of([row["losses"]], [document["dense"]]))
    if row["calibration_sparse"] == min(each["calibration_sparse"] for each in rows):
        calibration = f"**{calibration}**"
    if row["perplexity"] == min(each["perplexity"] for each in rows):
        test = f"**{test}**"
    predicted = ("predicted", "first_order", "second_order")
    models = ["–" if row[name] is None else signed(row[name]) for name in predicted]
    return " | ".join(
        [
            row["method"],
            RANKED[row["method"]],
            *models,
            calibration,
            test,
            shown(row["perplexity"]),
            number(row["cpu"]),
        ]
    )
