"""The whole method on real input: fine-tune, prune, certify every decision, compare, report.

    load → fine-tune dense → loss change of one decision → prune gradually, each decision certified
    → check the last certificate with the standard library alone → ledger → report

Every number of the report is in the returned results and was measured in this run.
"""

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from pins.models.pretrained import weights_digest
from pins.models.weight_files import WEIGHTS
from pins.utils import child_process
from pins.utils.io import write_json
from pins.utils.progress import Progress
from pins.utils.provenance import provenance
from verification import checker
from verification.claims import ALL_CLAIMS, Setting, ledger
from verification.demo import report
from verification.demo.comparison import compare
from verification.demo.run import DemoRun, load, timed
from verification.demo.settings import DemoSettings
from verification.demo.training import Training
from verification.empirical.ledger import rule_changes
from verification.experiments.model_snapshot import ModelSnapshot
from verification.experiments.training import evaluate


def run(settings: DemoSettings, folder: Path, progress: Progress) -> dict[str, Any]:
    """Run the demo and return its results; write certificates, masks and model to `folder`.

    Raises:
        PinsError: the model or the task is missing, or a setting is impossible.
    """
    settings.schedule()  # an impossible schedule is an error before any work
    seconds: dict[str, float] = {}
    phase = partial(timed, progress, seconds)
    with phase("load model and task"):
        demo = load(settings, folder, phase)
    report.start(folder)
    training = Training(demo)
    dense_losses = training.dense()
    dense = _evaluate(demo, "dense")
    observed, compared = compare(demo)
    sparse_losses = training.sparse()
    sparse = _evaluate(demo, "sparse")
    checked = _check(demo, training.decisions[-1]["certificate"])
    claims = _ledger(demo, observed, compared["loss_changes"])
    task, classifier = demo.task, demo.classifier
    classifier.save(folder / "model")
    return {
        "provenance": provenance(),
        "settings": asdict(settings),
        "shortened": settings.shortened(),
        "model": {
            "name": settings.model,
            "weights_sha256": weights_digest(classifier.folder).get(WEIGHTS),
            "prunable": training.pruner.total,
            "parameters": sum(p.numel() for p in classifier.model.parameters()),
        },
        "task": {
            "name": task.name,
            "question": task.question,
            "labels": task.labels,
            "train_rows": len(task.train),
            "test_rows": len(task.test),
        },
        "dense": dense,
        "sparse": sparse,
        "training": {"dense_losses": dense_losses, "sparse_losses": sparse_losses},
        "decisions": training.decisions,
        "layers": training.layers(),
        "last_decision": training.curve,
        "checker": checked,
        **compared,
        "ledger": claims,
        "seconds": seconds,
    }


def _evaluate(demo: DemoRun, name: str) -> dict[str, Any]:
    """Loss and accuracy on the test rows."""
    with demo.phase(f"test rows, {name}"):
        return asdict(evaluate(demo.classifier.model, demo.test.batches(64)))


def _check(demo: DemoRun, certificate: str) -> dict[str, Any]:
    """Run the standalone checker as anyone would, in an interpreter without site-packages."""
    with demo.phase("check the last certificate"):
        start = time.perf_counter()
        command = [sys.executable, "-I", "-S", checker.__file__, str(demo.folder / certificate)]
        process = child_process.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        seconds = time.perf_counter() - start
    return {
        "exit": process.returncode,
        "message": (process.stdout or process.stderr).strip(),
        "seconds": round(seconds, 2),
        "certificate": certificate,
    }


def _ledger(
    demo: DemoRun, observed: ModelSnapshot, changes: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Check all claims, write the ledger, and return it."""
    setting = Setting(seed=demo.settings.seed, real=observed, model=demo.settings.model)
    checks = ledger.run(ALL_CLAIMS, setting)
    entries = demo.collect("ledger of claims", len(ALL_CLAIMS), checks)
    empirical = rule_changes(demo.task.name, changes, seed=demo.settings.seed)
    document = ledger.document(entries, setting, empirical)
    write_json(document, demo.folder / report.LEDGER)
    return document
