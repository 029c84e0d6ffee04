"""The export of a finished run: model, masks, packed form, costs, card; run.json comes last."""

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pins import __version__, masks
from pins.errors import OptimalityError
from pins.models.inference import to_device
from pins.models.pretrained import Pretrained, weights_digest
from pins.models.sparse_format import pack_folder
from pins.models.weight_files import weight_files
from pins.pruning.authors import reported_as_final
from pins.pruning.final_decision import Certify, FinalDecision
from pins.pruning.start import FEW
from pins.runs import checkpoints
from pins.runs.allocation_report import allocation_report
from pins.runs.costs import Costs, count_weights, measure_disk
from pins.runs.folder import (
    CARD,
    CERTIFICATE,
    CHECKPOINTS,
    COSTS,
    INPUTS,
    MASKS,
    RUN,
    SCORES,
)
from pins.runs.inputs import no_formula
from pins.runs.latency import latency
from pins.runs.model_card import model_card
from pins.runs.run import Run
from pins.runs.settings import AUTHORS
from pins.selection.constraints import Cardinality
from pins.selection.transposable.constraint import TransposableNofM
from pins.selection.tree import Node
from pins.utils import io
from pins.utils.io import write_json, write_text
from pins.utils.output import score
from pins.utils.provenance import provenance

LATENCY_ROWS = 8
LATE = "not kept in time"  # asked for after the final decision


def finish(run: Run, certify: Certify | None = None) -> dict[str, Any]:
    """Evaluate the model on the test rows, write all files, and remove the checkpoints.

    Args:
        run: after its last step, on rank 0.
        certify: writes the certificate of the final decision; None: no certificate.

    Returns:
        The content of run.json; scores that are not finite are None.

    Raises:
        OptimalityError: the run is not at its end, or did not reach its final sparsity.
    """
    pruner, out, model = run.training.pruner, run.out, run.pretrained.model
    _require_finished(run)
    scores = {"sparse": dict(run.test())}
    if (teacher := run.settings.teacher) is not None:
        # loaded again: the regulariser's own teacher was replaced by checkpoints of the run
        loaded = run.load(teacher)
        name = "dense" if _is_dense(loaded.model, pruner.masks) else "teacher"
        scores[name] = dict(run.test(loaded))
    _save_model(run.pretrained, out)
    masks.save(pruner.masks, out / MASKS)
    packed = pack_folder(out, pruner.masks)
    certificate = None
    multiplier = run.history.decisions[-1].get("multiplier")
    fault, asked = no_formula(run.settings, multiplier), run.settings.keep_inputs
    inputs = out / INPUTS if asked and not fault and (out / INPUTS).is_dir() else None
    if certify is not None:
        criterion = run.settings.criterion
        decision = FinalDecision(
            scores=out / SCORES,
            cost=out / COSTS if multiplier else None,
            multiplier=multiplier or None,
            masks=out / MASKS,
            certificate=out / CERTIFICATE,
            tree=_final_tree(run),
            criterion=f"{criterion}, {fault}" if fault else criterion,
            inputs=inputs,
        )
        certificate = {"file": CERTIFICATE, "sentence": certify(decision)}
    rows = range(min(LATENCY_ROWS, len(run.train)))
    batch = to_device(run.train.batch(rows), run.device.device)
    costs = Costs(
        count_weights(model, pruner.masks),
        measure_disk(weight_files(out), packed),
        latency(model, run.pretrained.head.inputs(model, batch), pruner.masks),
    )
    facts = {
        "format": "pins-run",
        "version": 1,
        "pins": __version__,
        **provenance(),
        "software": run.history.software,
        "settings": {**run.settings.as_json(), "device": str(run.device.device)},
        "fingerprint": run.fingerprint,
        "precision": run.device.precision,
        "ranks": run.group.size,
        "head": run.pretrained.head.name,
        "weights_sha256": weights_digest(run.pretrained.folder),
        "data": dict(run.task.digests),
        "rows": {
            "train": len(run.train),
            "held_out": len(run.held_out),
            "test": len(run.test_rows),
        },
        "metric": run.task.metric,
        "scores": {
            **scores,
            "split": run.task.split,
            "rows": len(run.test_rows),
            "sample": run.test_sample,
        },
        **_authors_report(run),
        **({"inputs": INPUTS if inputs else f"not checked: {fault or LATE}"} if asked else {}),
        "start": {"zeros": pruner.start.zeros, "total": pruner.total},
        "decisions": run.history.decisions,
        "evaluations": run.history.evaluations,
        "allocation": allocation_report(
            pruner.allocation,
            run.settings.final_sparsity(pruner.start.sparsity),
            pruner.views,
            pruner.masks,
        ),
        "certificate": certificate,
        "prompt": run.task.prompt(run.pretrained.tokenizer, run.pretrained.head),
        "mask": MASKS,
        "packed": packed.name,
        "costs": costs.as_json(),
    }
    write_text(model_card(facts), out / CARD)
    written: dict[str, Any] = finite(facts)
    write_json(written, out / RUN)
    io.flush(out)
    checkpoints.remove(out / CHECKPOINTS)
    return written


def _is_dense(model: nn.Module, pruned: Mapping[str, Tensor]) -> bool:
    """Whether a model has few zeros, at most `FEW`, where a run has pruned."""
    own = dict(model.named_parameters())
    zeros = sum(int((own[name] == 0).sum()) for name in pruned)
    return zeros <= FEW * sum(own[name].numel() for name in pruned)


def finite(value: Any) -> Any:
    """A JSON value with None in place of NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _require_finished(run: Run) -> None:
    steps = run.settings.steps
    if run.step != steps:
        raise OptimalityError(
            f"finish() was called after {run.step} of {steps} steps: take them all, for _ in "
            "run.steps()"
        )
    if not run.training.pruner.finished:
        raise OptimalityError(
            f"the run ended after {steps} steps without its final decision: the gradients of the "
            "last ones overflowed; give more steps, or another precision"
        )


def _final_tree(run: Run) -> Node | TransposableNofM:
    """The feasible masks of the final decision; the released code keeps more than it asks for."""
    pruner = run.training.pruner
    if run.settings.criterion == AUTHORS:
        tree = Cardinality(run.history.decisions[-1]["keep"]).tree(pruner.views)
        return pruner.start.inside(tree)
    return pruner.tree(run.step)


def _authors_report(run: Run) -> dict[str, Any]:
    """The result that the released code would report, if the run has that quirk."""
    if not run.training.quirks.near_final:
        return {}
    found = reported_as_final(
        [each for each in run.history.evaluations if each["score"] is not None],
        run.training.pruner.schedule,
        higher_is_better=run.task.higher_is_better,
    )
    return {"authors_report": found}


def _save_model(pretrained: Pretrained, out: Path) -> None:
    """Move model and tokenizer into `out`, file by file, each complete."""
    folder = out / ".unfinished-model"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        pretrained.save(folder)
        for file in sorted(folder.iterdir()):
            file.replace(out / file.name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def headline(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The results of a run as lines of name and value."""
    weights, metric, scores = facts["costs"]["weights"], facts["metric"], facts["scores"]
    lines = [
        ("kept", f"{weights['kept']:,} of {weights['prunable']:,} prunable weights, exactly"),
        ("sparsity", f"{1 - weights['kept'] / weights['prunable']:.4%}"),
    ]
    lines += [("counted", each) for each in facts.get("allocation", {}).get("sentences", ())]
    lines += [
        (f"{metric}, {other}", score(scores[other][metric]))
        for other in ("dense", "teacher")
        if other in scores
    ]
    for name, value in scores["sparse"].items():
        lines.append((name, score(value) + (" (headline)" if name == metric else "")))
    lines.append(("judged on", f"{scores['rows']:,} {scores['split']} rows"))
    if reported := facts.get("authors_report"):
        value = f"{reported['score']:.4f} on held-out rows at step {reported['step']}"
        lines.append(("as the authors report", value))
    if facts["certificate"]:
        lines.append(("certificate", f"the final mask {facts['certificate']['sentence']}"))
    if "inputs" in facts:
        lines.append(("inputs", facts["inputs"]))
    if facts["decisions"] and (binding := facts["decisions"][-1]["binding"]):
        lines.append(("bounds bind", f"in {len(binding)} nodes: {', '.join(binding[:3])}"))
    return lines
