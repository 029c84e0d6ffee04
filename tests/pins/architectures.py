"""The architectures that the tests prune, and what of each is pruned: the table in docs/models.md.

`python -m tests.pins.architectures` writes that table.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pins.models.batches import Batch
from pins.models.heads import HEADS, Head
from pins.models.parameters import prunable_parameters

DOCUMENT = Path(__file__).parents[2] / "docs" / "models.md"
BEGIN, END = "<!-- table -->\n", "<!-- end of table -->\n"
WORDS = {"vocab_size": 20, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
BERT = {
    **WORDS,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 20,
}
T5 = {**WORDS, "d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 2, "num_heads": 2}
TEXTS, TOKENS, SPANS = (
    f"AutoModelFor{kind}"
    for kind in ("SequenceClassification", "TokenClassification", "QuestionAnswering")
)
CAUSAL, SEQ2SEQ = "AutoModelForCausalLM", "AutoModelForSeq2SeqLM"


@dataclass(frozen=True)
class Architecture:
    """A family of models, tiny.

    Attributes:
        config: name of its configuration class in transformers.
        sizes: what that is made with.
        auto_classes: that build a model of it.
        later: what is changed of the configuration when it is made.
    """

    config: str
    sizes: Mapping[str, Any]
    auto_classes: tuple[str, ...]
    later: Mapping[str, Any] = field(default_factory=dict)

    def model(self, auto_class: str, **changes: Any) -> Any:
        """Random, for three classes, or a start and an end."""
        import transformers

        torch.manual_seed(0)
        config = getattr(transformers, self.config)(
            **self.sizes, num_labels=2 if auto_class == SPANS else 3
        )
        for name, value in {**self.later, **changes}.items():
            setattr(config, name, value)
        return getattr(transformers, auto_class).from_config(config)


ENCODER = (TEXTS, TOKENS, SPANS)
DECODER = (*ENCODER, CAUSAL)
ARCHITECTURES: Mapping[str, Architecture] = {
    "BERT, MiniLM": Architecture("BertConfig", BERT, ENCODER),
    "RoBERTa": Architecture("RobertaConfig", BERT, ENCODER),
    "ELECTRA": Architecture("ElectraConfig", {**BERT, "embedding_size": 4}, ENCODER),
    "DistilBERT": Architecture(
        "DistilBertConfig",
        {
            **WORDS,
            "dim": 8,
            "n_layers": 2,
            "n_heads": 2,
            "hidden_dim": 16,
            "max_position_embeddings": 20,
        },
        ENCODER,
    ),
    "DeBERTa-v2": Architecture(
        "DebertaV2Config",
        {
            **BERT,
            "pooler_hidden_size": 8,
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_buckets": 4,
        },
        ENCODER,
    ),
    "GPT-2": Architecture(
        "GPT2Config", {**WORDS, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 20}, DECODER
    ),
    "Llama": Architecture("LlamaConfig", {**BERT, "num_key_value_heads": 1}, DECODER),
    "T5": Architecture("T5Config", {**T5, "decoder_start_token_id": 0}, (*ENCODER, SEQ2SEQ)),
    "T5 v1.1": Architecture(
        "T5Config",
        {**T5, "decoder_start_token_id": 0, "feed_forward_proj": "gated-gelu"},
        (*ENCODER, SEQ2SEQ),
        # transformers ties them unless a checkpoint has both
        later={"tie_word_embeddings": False},
    ),
    "BART": Architecture(
        "BartConfig",
        {
            **WORDS,
            "d_model": 8,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 16,
            "decoder_ffn_dim": 16,
            "max_position_embeddings": 20,
        },
        (TEXTS, SPANS, SEQ2SEQ),
    ),
}


def head_of(auto_class: str) -> Head:
    """The head that this class builds."""
    return next(head for head in HEADS.values() if head.auto_class == auto_class)


def batch_for(auto_class: str) -> Batch:
    """Four texts that end in the end-of-sequence token, and their targets."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(3, 20, (4, 6), generator=generator)
    words[:, -1] = 2
    batch = {"input_ids": words, "attention_mask": torch.ones_like(words)}
    if auto_class == TEXTS:
        batch["labels"] = torch.tensor([0, 1, 2, 1])
    elif auto_class == TOKENS:
        batch["labels"] = words % 3
    elif auto_class == SPANS:
        batch["start_positions"] = torch.tensor([0, 1, 2, 3])
        batch["end_positions"] = torch.tensor([1, 1, 4, 5])
    else:
        batch["labels"] = words.clone()
    return batch


def prunable_layers(model: nn.Module) -> list[str]:
    """Names of the linear layers within a block that are pruned, in model order, once each."""
    found = prunable_parameters(model).parameters
    return list(dict.fromkeys(_within_block(name) for name in found))


def matrices_left_out(model: nn.Module) -> dict[str, list[str]]:
    """Names of the other matrices, by what they are."""
    tensors = dict(model.named_parameters(remove_duplicate=False))
    kinds: dict[str, list[str]] = {}
    for name, why in prunable_parameters(model).left_out.items():
        if tensors[name].dim() < 2:
            continue
        kind = "embeddings" if why.startswith("weight of") or why == "embeddings_project" else why
        kind = "output, tied to the embeddings" if kind.startswith("tied to") else kind
        short = _within_block(name).removeprefix("embeddings.")
        if short not in kinds.setdefault(kind, []):
            kinds[kind].append(short)
    return kinds


def table() -> str:
    """The rows of docs/models.md, read off the models."""
    lines = [
        "| architecture | Auto classes tried | linear layers that are pruned, in each block | "
        "matrices left out |",
        "|---|---|---|---|",
    ]
    for name, architecture in ARCHITECTURES.items():
        layers: list[str] = []
        left_out: dict[str, list[str]] = {}
        for auto_class in architecture.auto_classes:
            model = architecture.model(auto_class)
            layers += [each for each in prunable_layers(model) if each not in layers]
            for kind, names in matrices_left_out(model).items():
                known = left_out.setdefault(kind, [])
                known += [each for each in names if each not in known]
        classes = ", ".join(each.removeprefix("AutoModelFor") for each in architecture.auto_classes)
        others = "; ".join(f"{kind}: {_code(names)}" for kind, names in left_out.items())
        lines.append(f"| {name} | {classes} | {_code(layers)} | {others} |")
    return "\n".join(lines) + "\n"


def _within_block(name: str) -> str:
    """Without the block's place, the name that the head gives the network, and `.weight`."""
    inside = re.split(r"\.\d+\.", name)[-1].removesuffix(".weight")
    networks = "bert|roberta|electra|distilbert|deberta|transformer|model"
    return re.sub(rf"^({networks})\.", "", inside)


def _code(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def filled(document: str) -> str:
    """The document with its table as the models have it."""
    before, rest = document.split(BEGIN)
    return before + BEGIN + table() + END + rest.split(END)[1]


if __name__ == "__main__":
    DOCUMENT.write_text(filled(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
