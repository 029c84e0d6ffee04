"""A run of `pins oneshot`, its files, and the perplexity that it states by the whole model."""

import io
import json
from math import exp
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from pins.oneshot.command import run_oneshot
from pins.oneshot.settings import Settings
from tests.pins.oneshot.tiny_decoders import tokenizer
from verification.certificates.budget import certify_choice
from verification.certificates.run import certify_run


def run(settings: Settings, out: Path, **options: Any) -> dict[str, Any]:
    options = {"certify": certify_run, "certify_choice": certify_choice, **options}
    code = run_oneshot(Console(file=io.StringIO()), settings, out, **options)
    assert code == 0
    return json.loads((out / "run.json").read_text())  # type: ignore[no-any-return]


@torch.no_grad()
def perplexity(model: Any, text: str, facts: dict[str, Any]) -> float:
    """By the protocol of run.json, from the logits of the whole model."""
    stated = facts["perplexity"]
    width, stride = stated["context"], stated["stride"]
    ids = tokenizer()(text)["input_ids"]
    total, count = 0.0, 0
    for number in range(stated["windows"]):
        piece = torch.tensor([ids[number * stride : number * stride + width]])
        logs = model(input_ids=piece).logits[0, :-1].double().log_softmax(-1)
        new = stride if number and stride < width else width - 1
        total -= float(logs.gather(1, piece[0, 1:, None])[-new:].sum())
        count += new
    assert stated["tokens"] == count
    assert stated["rest"] == len(ids) - width - stride * (stated["windows"] - 1)
    return exp(total / count)


def contents(place: Path) -> dict[str, Any]:
    """All files by name, without the times that a run took."""
    found: dict[str, Any] = {}
    for file in place.rglob("*"):
        if file.name in ("run.json", "README.md") or file.is_dir():
            continue
        found[str(file.relative_to(place))] = file.read_bytes()
        if file.parent.name == "blocks" and file.suffix == ".json":
            found[str(file.relative_to(place))] = {**json.loads(file.read_text()), "seconds": 0}
    return found
