"""Runs on several ranks: what each of them does."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pins import masks
from pins.distributed.launch import only_rank_zero_prints
from pins.runs.run import Run
from tests.pins.runs.tiny_runs import save_classifier, save_data, save_model, settings, take

# of 5 rows a step each of 2 or 3 ranks has another number, in each part of it, too
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "dropout": {"model": "model"},
    "parts": {"accumulation": 2},
    "one row": {"batch_size": 1},
    "two rows in parts": {"batch_size": 2, "accumulation": 2},
    "trust region": {"criterion": "trust-region", "smoothing": None, "radius": 4.0},
    "fisher": {"criterion": "obd", "curvature": "fisher", "smoothing": "none"},
    "hutchinson": {"criterion": "obd", "curvature": "hutchinson", "smoothing": "none"},
    "sgd": {"criterion": "movement", "optimizer": "sgd", "smoothing": "none"},
    "plain loss": {"self_regularization": False},
    "bfloat16": {"precision": "bfloat16"},
    "overflow": {"precision": "float16", "model": "loud"},
    "checkpointing": {"gradient_checkpointing": True},
    "authors": {"criterion": "authors", "smoothing": None},
    "compiled": {"compile": True},
}


def prepare(folder: Path) -> None:
    """Data, a model, one without dropout, and one whose gradients overflow in float16."""
    save_data(folder / "data")
    save_model(folder / "model")
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    for name, factor in (("still", 1.0), ("loud", 40.0)):
        save_classifier(folder / name, factor=factor)
        config = folder / name / "config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), **still}))


def run_of(name: str, folder: Path, out: str, *, resume: bool = False, **more: Any) -> Run:
    """A run of a variant, before its first step, or where it stopped."""
    given = {"batch_size": 5, "model": "still", **VARIANTS[name], **more}
    wanted = settings(folder / given.pop("model"), folder / "data", **given)
    return Run(wanted, folder / out, resume=resume)


def result(run: Run) -> dict[str, Any]:
    """What a rank came to, as JSON values."""
    training = run.training
    return {
        "record": vars(run.history),
        "weights": [p.detach().double().sum().item() for p in training.model.parameters()],
        "scaler": training.state()[1].get("scaler"),
        "optimizer": len(training.optimizer.state),
    }


def keep(run: Run, folder: Path, name: str) -> None:
    masks.save(run.training.pruner.masks, folder / f"{name}.{run.group.rank}.safetensors")
    (folder / f"{name}.{run.group.rank}.json").write_text(json.dumps(result(run)))


def run_variants(folder: Path, names: Sequence[str]) -> None:
    """On each rank: every variant, to its end."""
    with only_rank_zero_prints():
        for name in names:
            keep(take(run_of(name, folder, f"{name} of many")), folder, name)
            if name == "dropout":  # once more, and stopped on the way
                take(run_of(name, folder, f"{name}, cut"), 7)
                keep(
                    take(run_of(name, folder, f"{name}, cut", resume=True)), folder, f"{name}, cut"
                )
