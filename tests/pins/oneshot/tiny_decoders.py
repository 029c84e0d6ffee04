"""Decoders of a few thousand random weights with a word-level tokenizer, and a text for them."""

from functools import cache
from pathlib import Path
from typing import Any

import torch

WORDS = 64
VECTORS = 72  # some tokenizers bring tokens of their own
SIZES = {
    "vocab_size": VECTORS,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
}
GROUPED = {**SIZES, "intermediate_size": 24, "num_key_value_heads": 1}
ROUTED = {**GROUPED, "num_experts": 4, "moe_intermediate_size": 12}
GPT2 = {"vocab_size": VECTORS, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
CONFIGS: dict[str, dict[str, Any]] = {
    "Llama": GROUPED,
    "Qwen2": {**GROUPED, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    "Qwen3": GROUPED,
    "Mistral": {**GROUPED, "sliding_window": 4},
    "GPT2": GPT2,
    "OPT": {**SIZES, "ffn_dim": 24, "word_embed_proj_dim": 16},
    "Mixtral": {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2},
    "Qwen2Moe": {**ROUTED, "num_experts_per_tok": 1, "shared_expert_intermediate_size": 20},
    "Qwen3Moe": {**ROUTED, "num_experts_per_tok": 2, "head_dim": 8, "mlp_only_layers": [0]},
    "GraniteMoe": {**GROUPED, "num_local_experts": 2},
    "GptOss": {**GROUPED, "num_local_experts": 2, "head_dim": 8},
    "XLNet": {"vocab_size": VECTORS, "d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 24},
    "Bert": {**SIZES, "intermediate_size": 24},
    "T5": {"vocab_size": VECTORS, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2},
}
MIXTURES = ("Mixtral", "Qwen2Moe", "Qwen3Moe")
PASSED = ("Llama", "Qwen2", "Mistral", "GPT2", "OPT", *MIXTURES)


def network(kind: str, **changes: Any) -> Any:
    """The network of this kind, with a spread of weights that lets it tell tokens apart."""
    import transformers

    model: Any

    torch.manual_seed(0)
    auto = {"Bert": "BertForMaskedLM", "T5": "T5ForConditionalGeneration"}.get(kind)
    config = getattr(transformers, f"{kind}Config")(
        **{**CONFIGS[kind], "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, **changes}
    )
    if auto is None:
        loader: Any = transformers.AutoModelForCausalLM
        model = loader.from_config(config)
    else:
        model = getattr(transformers, auto)(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                parameter.mul_(8)
    return model.eval()


@cache
def tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = models.WordLevel({f"t{i}": i for i in range(WORDS)}, unk_token="t0")
    made = Tokenizer(words)
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=made, unk_token="t0"
    )


def save_decoder(folder: Path, kind: str = "Llama", shard: str = "1GB", **changes: Any) -> Path:
    network(kind, **changes).save_pretrained(folder, max_shard_size=shard)
    tokenizer().save_pretrained(folder)
    return folder


def save_text(file: Path, lines: int = 60) -> Path:
    """Lines of 10 tokens; the last tenth of them is the test text."""
    numbers = torch.randint(1, WORDS, (lines, 10), generator=torch.Generator().manual_seed(0))
    text = [" ".join(f"t{number}" for number in line) for line in numbers.tolist()]
    file.write_text("\n".join(text) + "\n", encoding="utf-8")
    return file


def window(length: int = 12, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, WORDS, (1, length), generator=generator)
