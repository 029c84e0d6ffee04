"""The SHA-256 of the files that a model is loaded from: its weights, configuration, tokenizer.

Other files in its folder (masks, scores, a packed copy, the results of a run) do not change it.
"""

from pathlib import Path

from pins.models.weight_files import weight_files
from pins.utils.io import sha256

# transformers reads these beside the weights
_OTHERS = (
    "config.json", "generation_config.json", "*token*.json", "*vocab*", "merges.txt", "*.model",
    "*.spm", "*.codes",
)  # fmt: skip


def model_digest(folder: Path) -> dict[str, str]:
    """The digest of each file that decides what the model computes, by its name.

    Raises:
        FileError: there are no weights, or a file cannot be read.
    """
    return {file.name: sha256(file) for file in (*weight_files(folder), *other_files(folder))}


def other_files(folder: Path) -> list[Path]:
    """What decides what a model computes, beside its weights: configuration and tokenizer."""
    found = {file for pattern in _OTHERS for file in folder.glob(pattern) if not file.is_dir()}
    return sorted(found)
