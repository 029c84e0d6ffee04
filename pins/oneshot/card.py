"""The model card of a one-shot run: what was pruned, how, and what it cost in perplexity."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from pins.utils.output import score

METADATA = """---
library_name: transformers
pipeline_tag: text-generation
tags:
- pruning
- sparsity
- pins
---
"""
PASSED = "Each block was pruned from what the pruned ones before it give for the calibration text."
DECIDED = "The masks of all blocks were decided by gradients of the dense model's calibration loss."
NOTES = """
Perplexity is per token of this tokenizer, without special tokens and padding; compare it only with
numbers of the same text, windows and precision. `run.json` has all settings and the error of every
layer.
"""


def card(facts: Mapping[str, Any]) -> str:
    """The card as Markdown with the metadata of the hub."""
    settings, weights, perplexity = facts["settings"], facts["weights"], facts["perplexity"]
    pattern, kept = settings["pattern"], weights["kept"] / weights["prunable"]
    ranked = "over all layers" if settings["scope"] == "global" else f"by {settings['scope']}"
    masks = f"{ranked}: {1 - kept:.2%} zeros"
    if pattern is not None:
        exactly = settings["sparsity"] is None
        masks = f"{'exactly' if exactly else 'at most'} {pattern} along the inputs"
    proofs = "no certificates: the masks are the optimum of no program"
    if facts["certificates"]:
        which = "of all blocks together" if facts["decision"] else "of each block"
        region = " within its trust region" if (facts["decision"] or {}).get("multiplier") else ""
        proofs = (
            f"the masks {which} are proved to be the optimum for the method's scores{region}: "
            f"`pins check {next(iter(facts['certificates'].values()))}`"
        )
    text, context = facts["calibration"], perplexity["context"]
    rows = {
        "method": method(settings),
        "masks": masks,
        "kept": f"{weights['kept']:,} of {weights['prunable']:,} weights of the linear layers",
        "calibration": (
            f"{text['windows']} windows of {context} tokens of the training text of "
            f"{settings['task']}"
        ),
        "loss change": loss_change(facts),
        "perplexity, dense": score(perplexity["dense"], 3),
        "perplexity, sparse": score(perplexity["sparse"], 3),
        "judged on": (
            f"{perplexity['tokens']:,} tokens of the test text, windows of {context} every "
            f"{perplexity['stride']}, {perplexity['rest']:,} tokens left"
        ),
        "proof": proofs,
    }
    if settings["format"] != "dense":
        rows["format"] = (
            f"{settings['format']}, which compressed-tensors 0.9 to 0.14 reads; "
            "`pins unpack . --out DIR` makes the model that transformers loads"
        )
    if facts["budget"]:
        rows["budget"] = budget(facts)
    if dense := facts["left_dense"]:
        rows["left dense"] = (
            f"{len(dense)} matrices that no calibration token reaches, as of experts: "
            "`left_dense` in `run.json`"
        )
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return (
        f"{METADATA}\n# {facts['about']}, pruned in one shot\n\n| | |\n|---|---|\n{table}\n\n"
        f"{DECIDED if facts['decision'] else PASSED}{NOTES}"
    )


def loss_change(facts: Mapping[str, Any]) -> str:
    """The measured change of the loss, and the one that a method by gradients predicted."""
    change = facts["loss_change"]
    measured = f"{score(change['measured'])} on the calibration text"
    if not facts["decision"]:
        return measured
    return f"{measured}, {score(change['predicted'])} predicted"


def budget(facts: Mapping[str, Any]) -> str:
    """The budget, what the choice costs, and how often each level was chosen."""
    stated = facts["budget"]
    cost, most = stated["cost"]["value"], stated["budget"]["value"]
    chosen = Counter(
        layer["level"]
        for block in facts["blocks"]
        for layer in block["layers"].values()
        if "level" in layer
    )
    levels = ", ".join(f"{level} in {number}" for level, number in chosen.most_common())
    best = "least"
    if not stated["optimal"]:
        best = f"at most {stated['gap']['value']:.4g} above the least"
    return (
        f"{cost:,.0f} of at most {most:,.0f} {stated['budget']['cost']}, the sum of the relative "
        f"errors is {best}; levels: {levels}"
    )


def method(settings: Mapping[str, Any]) -> str:
    """The method, and what improves its masks and weights afterwards."""
    after = [name for name in ("swaps", "refit") if settings[name]]
    return str(settings["method"]) + (f", then {' and '.join(after)}" if after else "")
