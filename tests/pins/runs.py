"""A run small enough for a test: a tiny BERT on two classes of made-up texts."""

from pathlib import Path
from typing import Any

from pins.settings import Settings
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


def settings(model: Path, data: Path, **given: Any) -> Settings:
    return Settings(**{**SMALL, "model": str(model), "data": data, **given})
