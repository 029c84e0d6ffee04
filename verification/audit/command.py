"""`pins audit`: the run with its progress bar, and the table."""

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from pins.utils.folder_lock import locked
from pins.utils.output import print_json, results, stopped
from pins.utils.progress import Progress
from verification.audit.run import AUDIT, Audit

TRUE, FALSE_CLAIM = 0, 1


def run_audit(console: Console, dense: str, sparse: str, out: Path, *, json: bool = False) -> int:
    """Audit, write all files, and print the result.

    Args:
        console: for progress and the result; with `json` for progress alone.
        dense: the dense model.
        sparse: the sparse model.
        out: a new or empty folder, or that of an audit of the same files, which goes on.
        json: print audit.json and its folder as one JSON object instead of the table.

    Returns:
        0: audited; 1: a claim of the sparse model is false; 130: stopped from the keyboard.

    Raises:
        PinsError: a model cannot be read, or too few of its weights have a partner.
    """
    try:
        with locked(out):
            audit = Audit(dense, sparse, out)
            with Progress(console) as progress, progress.phase("tensors", len(audit)) as advance:
                for tensor in audit.tensors():
                    advance(tensor["tensor"])
            document = audit.finish()
    except KeyboardInterrupt:
        return stopped("after the last tensor")
    if json:
        print_json({"folder": str(out), **document})
    else:
        console.print(results(headline(document)))
        for sentence in document["sentences"]:
            console.print(f"\n{sentence}", soft_wrap=True)
        console.print(f"\n{out / AUDIT}", soft_wrap=True)
    return TRUE if all(claim["true"] for claim in document["claims"]) else FALSE_CLAIM


def headline(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The results of an audit as lines of name and value."""
    layers = [each for each in document["layers"] if each["pruned"]]
    kept = sum(each["kept"] for each in layers)
    total = sum(math.prod(each["shape"]) for each in layers)
    matched = f"{document['coverage']:.2%} of the weights, {len(document['layers'])} matrices"
    lines = [
        ("matched", matched),
        ("pruned", f"{len(layers)} matrices: {kept:,} of {total:,} weights are kept"),
    ]
    if total:
        lines.append(("sparsity", f"{1 - kept / total:.4%} of these"))
    patterns = Counter(each["pattern"]["name"] for each in layers if each["pattern"]["holds"])
    lines += [("pattern", f"{name}, in {n} matrices") for name, n in patterns.most_common()]
    broken = sum(not each["pattern"]["holds"] for each in layers)
    if broken:
        lines.append(("pattern", f"broken, in {broken} matrices"))
    judged = Counter(
        f"{each['criterion']} by {each['scope']}: {_verdict(each)}"
        for layer in layers
        for each in layer["criteria"]
    )
    lines += [("criterion", f"{said}, in {n} matrices") for said, n in judged.most_common()]
    lines += [
        ("criterion", f"{each['criterion']} over all matrices: {_verdict(each)}")
        for each in document["criteria"]
    ]
    for claim in document["claims"]:
        verdict = "true" if claim["true"] else "FALSE"
        lines.append(
            ("claim", f"{claim['key']} is {claim['claimed']}: {verdict}, found {claim['found']}")
        )
    return lines


def _verdict(judged: Mapping[str, Any]) -> str:
    return "an optimum" if judged["optimal"] else "no optimum"
