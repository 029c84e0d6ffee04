"""What a saved model and its tokenizer must be, beyond what transformers checks itself."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pins.errors import ModelError
from pins.models.heads import SEQ2SEQ, Head
from pins.models.inference import evaluation_mode
from pins.utils.text_files import fault, shown

USED_TOKENS = ("pad", "unk", "bos", "eos", "cls", "sep")  # special ones that a row may have


def require_plain(config: Any) -> None:
    """Check that a configuration, and each in it, names no other weights and no code of the hub.

    Raises:
        ModelError: it does.
    """
    for each in (config, *(getattr(config, name, None) for name in config.sub_configs)):
        for name in ("transformers_weights", "_attn_implementation", "_experts_implementation"):
            value = getattr(each, name, None)
            if value is not None and (name == "transformers_weights" or "/" in str(value)):
                raise ModelError(
                    f"config.json names {shown(value)} as {name.strip('_')}, which PINS does not "
                    "load: remove that line"
                )


def require_readable(files: Iterable[Path]) -> None:
    """Check that each is a file, and no pointer or archive in its place.

    Raises:
        ModelError: one is something else.
    """
    for file in files:
        if cause := fault(file):
            raise ModelError(f"{file} {cause}")


def require_words(tokenizer: Any, folder: Path) -> None:
    """Check that a tokenizer comes from the folder; transformers makes up one without a word.

    Some work on bytes or characters and have no vocabulary; their configuration names their class.

    Raises:
        ModelError: it does not, or knows no word.
    """
    names = ("tokenizer_config.json", *type(tokenizer).vocab_files_names.values())
    found = [folder / name for name in names if (folder / name).is_file()]
    require_readable(found)
    if not found or tokenizer.vocab_size <= len(tokenizer.all_special_ids):
        raise ModelError(f"{folder} holds no tokenizer: save it beside the model")


def require_fitting(network: Any, tokenizer: Any, head: Head) -> None:
    """Check that a model has a vector for each token, and for the one that its decoder begins with.

    Special tokens that no row of a task has, as the mask of BART, may be without one.

    Raises:
        ModelError: a token has none.
        ValueError: of transformers, if the decoder does not know what it begins with.
    """
    try:
        embeddings = network.get_input_embeddings()
    except NotImplementedError:  # as of CANINE, which hashes characters
        return
    if not isinstance(embeddings, nn.Embedding):
        return
    used = {getattr(tokenizer, f"{name}_token") for name in USED_TOKENS}
    added = {each.content for each in tokenizer.added_tokens_decoder.values() if each.special}
    unused = (added | set(tokenizer.all_special_tokens)) - used
    numbers = {token: n for token, n in tokenizer.get_vocab().items() if token not in unused}
    if head is SEQ2SEQ and hasattr(network, "prepare_decoder_input_ids_from_labels"):
        labels = torch.ones(1, 1, dtype=torch.int64)
        begin = network.prepare_decoder_input_ids_from_labels(labels=labels)
        numbers["decoder_start_token_id"] = int(begin[0, 0])
    for token, number in numbers.items():
        if number >= embeddings.num_embeddings:
            raise ModelError(
                f"the token {shown(token)} has the number {number}, {type(network).__name__} has "
                f"vectors for {embeddings.num_embeddings} (vocab_size): give model and tokenizer "
                "that belong together"
            )


@torch.no_grad()
def require_causal(network: nn.Module) -> None:
    """Check that no prediction depends on a later token; else a model reads what it predicts.

    Raises:
        ModelError: one does, as in XLNet.
    """
    with evaluation_mode(network):
        one, other = (
            network(input_ids=torch.tensor([[1, 2, last]])).logits[0, :2] for last in (1, 2)
        )
    if not torch.allclose(one, other, rtol=1e-3, atol=1e-5, equal_nan=True):
        raise ModelError(
            f"{type(network).__name__} sees the tokens that it predicts, so its perplexity would "
            "mean nothing: give a causal language model"
        )
