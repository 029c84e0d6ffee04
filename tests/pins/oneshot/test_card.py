"""The card and the table say what run.json says."""

import copy
import io
import json
from typing import Any

import pytest
from rich.console import Console

from pins.oneshot.card import card
from pins.oneshot.command import result_table
from pins.oneshot.settings import Settings

FACTS: dict[str, Any] = {
    "settings": Settings(model="m", method="ria", sparsity=0.75, refit=True).as_json(),
    "about": "m",
    "weights": {"kept": 1234, "prunable": 4936},
    "perplexity": {
        "dense": 10.0, "sparse": 12.3456, "context": 512, "stride": 256, "windows": 3,
        "tokens": 1023, "rest": 7, "text_sha256": "0" * 64,
    },
    "calibration": {"windows": 32, "tokens": 16384, "text_sha256": "1" * 64},
    "budget": None,
    "blocks": [{"layers": {"a": {"level": 0.5}, "b": {"level": "2:4"}, "c": {"level": 0.5}}}],
    "left_dense": [],
    "loss_change": {"dense": 2.0, "sparse": 2.5, "measured": 0.5, "predicted": None},
    "decision": None,
    "relative_error": 0.25,
    "certificates": {"layers.0": "blocks/00.certificate.json"},
    "bytes": 19744,
    "peak_bytes": None,
}  # fmt: skip
BUDGET = {
    "budget": {"cost": "bytes", "exact": "100", "value": 100.0},
    "cost": {"exact": "90", "value": 90.0},
    "gap": {"exact": "1/8", "value": 0.125},
    "optimal": False,
}


def changed(*path: str, to: object) -> dict[str, Any]:
    facts = copy.deepcopy(FACTS)
    part = facts
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = to
    return facts


def decided(multiplier: float | None) -> dict[str, Any]:
    """The facts of a method by gradients."""
    return {
        **FACTS,
        "settings": Settings(model="m", method="obd", scope="global").as_json(),
        "loss_change": {**FACTS["loss_change"], "predicted": -0.25},
        "decision": {"loss": 2.0, "predicted": -0.25, "multiplier": multiplier},
        "certificates": {"all": "blocks/all.certificate.json"},
    }


def table(facts: dict[str, Any]) -> str:
    file = io.StringIO()
    Console(file=file, width=200).print(result_table(facts))
    return file.getvalue()


@pytest.mark.parametrize(
    ("facts", "on_card", "in_table"),
    [
        (FACTS, "| perplexity, sparse | 12.346 |", "12.3456 (headline)"),
        (FACTS, "by row: 75.00% zeros", "1,234 of 4,936 prunable weights, exactly"),
        (FACTS, "windows of 512 every 256, 7 tokens left", "in 3 windows of 512, 7 tokens left"),
        (FACTS, "ria, then refit", "ria, then refit"),
        (FACTS, "pins check blocks/00.certificate.json", "1, one of each block's masks"),
        (FACTS, "Each block was pruned from what", "loss change           0.5000 on the calib"),
        (decided(None), "over all layers: 75.00% zeros", "text, -0.2500 predicted"),
        (decided(None), "scores: `pins check blocks/all.cert", "1, of the masks of all blocks"),
        (decided(2.0), "of all blocks together are proved", ""),
        (decided(2.0), "scores within its trust region", ""),
        (decided(2.0), "by gradients of the dense model's", ""),
        (changed("certificates", to={}), "no certificates: ", "reconstruction error"),
        (changed("budget", to=BUDGET), "| budget | 90 of at most 100 bytes", "0.5 in 2, 2:4 in 1"),
        (changed("budget", to=BUDGET | {"optimal": True}), "errors is least; levels", ""),
        (changed("left_dense", to=["a", "b"]), "left dense | 2 matrices", "reaches: a, …"),
        (changed("perplexity", "sparse", to=None), "sparse | not finite |", "not finite"),
        (changed("settings", "pattern", to="2:4"), "at most 2:4 along the inputs", ""),
        (changed("peak_bytes", to=5_000_000), "", "5 MB; the model has 0 MB"),
    ],
)
def test_results_are_told(facts: dict[str, Any], on_card: str, in_table: str) -> None:
    assert on_card in card(facts)
    assert in_table in table(facts)
    json.dumps(facts, allow_nan=False)
