"""A run small enough for a test: a tiny BERT on two classes of made-up texts."""

import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pins.runs.run import Run
from pins.runs.settings import Settings
from tests.tiny_model import WORDS, save_tiny_bert

SMALL: dict[str, Any] = {
    "task": "sst2",
    "steps": 12,
    "batch_size": 4,
    "learning_rate": 1e-3,
    "max_length": 16,
    "warmup": 2,
    "cooldown": 3,
    "interval": 2,
    "evaluate_every": 3,
    "checkpoint_every": 2,
    "device": "cpu",
    "smoothing": "window",
}


def save_model(folder: Path, *, seed: int = 0) -> Path:
    return save_tiny_bert(folder, seed=seed)


def save_classifier(
    folder: Path, *, labels: int = 2, factor: float = 1.0, kind: str = "Bert", **sizes: int
) -> Path:
    """A model with a head, as fine-tuning leaves it; `factor` enlarges the head's weights."""
    import transformers

    save_tiny_bert(folder)
    every = {
        "vocab_size": len(WORDS.split()) + 2,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 64,
        "num_labels": labels,
    }
    torch.manual_seed(0)
    model: Any = getattr(transformers, f"{kind}ForSequenceClassification")(
        getattr(transformers, f"{kind}Config")(**{**every, **sizes})
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("classifier") and parameter.dim() == 2:
                parameter.mul_(factor)
    model.save_pretrained(folder)
    return folder


def save_decoder(folder: Path, *, factor: float = 1.0) -> Path:
    """A GPT-2 whose output embeddings are tied to those of the input; `factor` enlarges them."""
    import transformers

    save_tiny_bert(folder)
    torch.manual_seed(0)
    model: Any = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=len(WORDS.split()) + 2,
            n_embd=16,
            n_layer=2,
            n_head=2,
            n_positions=32,
            bos_token_id=None,
            eos_token_id=None,
        )
    )
    with torch.no_grad():
        model.transformer.wte.weight.mul_(factor)
    model.save_pretrained(folder)
    return folder


def save_text(folder: Path) -> Path:
    """Lines for a language model."""
    folder.mkdir(parents=True, exist_ok=True)
    words = WORDS.split()
    for name, start in (("train.txt", 0), ("test.txt", 1000)):
        lines = [
            " ".join(words[(row * 7 + 3 * at) % len(words)] for at in range(9))
            for row in range(start, start + 40)
        ]
        (folder / name).write_text("\n".join(lines) + "\n")
    return folder


def save_data(folder: Path, rows: int = 60) -> Path:
    """SST-2's files, with a rule that can be learnt."""
    words = WORDS.split()
    folder.mkdir(parents=True, exist_ok=True)
    for name, start in (("train.tsv", 0), ("dev.tsv", 1000)):
        lines = ["sentence\tlabel"]
        for row in range(start, start + rows):
            picked = [words[(row * 7 + 3 * at) % len(words)] for at in range(2 + row % 6)]
            lines.append(f"{' '.join(picked)} \t{int('class' in picked or 'list' in picked)}")
        (folder / name).write_text("\n".join(lines) + "\n")
    return folder


def save_run(folder: Path, **given: Any) -> Path:
    """A model, its data, and `run.toml`: the settings of a run on them."""
    stated = {
        "model": str(save_model(folder / "model")),
        "data": str(save_data(folder / "data")),
        **{
            name: SMALL[name] for name in ("task", "batch_size", "max_length", "interval", "device")
        },
        **given,
    }
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in stated.items()]
    (folder / "run.toml").write_text("".join(lines))
    return folder


def settings(model: Path, data: Path, **given: Any) -> Settings:
    return Settings(**{**SMALL, "model": str(model), "data": data, **given})


def take(run: Run, steps: int | None = None) -> Run:
    """So many steps, or all that are left."""
    for _ in islice(run.steps(), steps):
        pass
    return run


def weights(run: Run) -> dict[str, Tensor]:
    """Copies of all weights, as they are now."""
    return {name: t.clone() for name, t in run.pretrained.model.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Whether names and bits are the same."""
    return first.keys() == second.keys() and all(
        torch.equal(tensor, second[name]) for name, tensor in first.items()
    )


def names(folder: Path) -> Iterable[str]:
    """What a folder holds, sorted."""
    return sorted(each.name for each in folder.iterdir())
