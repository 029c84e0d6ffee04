"""Every family of tasks, from its original files to a certified sparse model."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pins import masks
from pins.runs.export import finish
from pins.runs.run import Run
from pins.runs.settings import Settings
from pins.selection.constraints import keep_count
from tests.pins.tasks.reading import byte_tokenizer, piece_tokenizer

FAMILIES = {  # name: task, folder of the shared data, architecture
    "rte": ("rte", "glue/RTE", "bert"),
    "sst2": ("sst2", "glue/SST-2", "bert"),
    "squad": ("squad", "squad", "bert"),
    "ner": ("ner", "ner/wnut17", "bert"),
    "e2e, encoder-decoder": ("e2e", "e2e", "t5"),
    "e2e, decoder": ("e2e", "e2e", "gpt2"),
    "wikitext": ("wikitext", "wikitext-2", "gpt2"),
    "stdlib-docs": ("stdlib-docs", None, "bert"),
}


def bert(folder: Path, texts: list[str]) -> None:
    from transformers import BertConfig, BertModel

    tokenizer = piece_tokenizer(texts, size=2000)
    tokenizer.save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=512,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)


def gpt2(folder: Path, texts: list[str]) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = byte_tokenizer(texts, size=1000)
    tokenizer.save_pretrained(folder)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2, n_positions=256,
        bos_token_id=tokenizer.eos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)


def t5(folder: Path, texts: list[str]) -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    tokenizer = byte_tokenizer(texts, ends=True, size=1000)
    tokenizer.save_pretrained(folder)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    config.decoder_start_token_id = tokenizer.pad_token_id
    T5ForConditionalGeneration(config).save_pretrained(folder)


SAVE: dict[str, Callable[[Path, list[str]], None]] = {"bert": bert, "gpt2": gpt2, "t5": t5}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_runs_end_to_end_on_real_data(
    family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    task, name, architecture = FAMILIES[family]
    folder = request.getfixturevalue("shared_data") / name if name else None
    if folder is None:
        texts = [os.__doc__ or "", *(f.__doc__ or "" for f in vars(os).values())]
    else:
        file = sorted(each for each in folder.iterdir() if "train" in each.name)[0]
        texts = file.read_text(encoding="utf-8")[:40_000].splitlines()
    torch.manual_seed(0)
    SAVE[architecture](tmp_path / "model", texts)
    settings = Settings(
        model=str(tmp_path / "model"), task=task, data=folder, steps=8, batch_size=4, warmup=1,
        cooldown=2, interval=2, sparsity=0.9, max_length=64, train_rows=200, test_rows=12,
        evaluate_every=4, device="cpu", learning_rate=1e-3,
    )  # fmt: skip
    run = Run(settings, tmp_path / "out")
    losses = [moment.loss for moment in run.steps()]
    assert len(losses) == 8
    facts: dict[str, Any] = finish(run)
    kept = masks.count(masks.load(tmp_path / "out" / "masks.safetensors"))
    assert kept.kept == keep_count(0.9, kept.total)
    scores = facts["scores"]["sparse"]
    assert run.task.metric in scores
    assert all(value == value for value in scores.values())
    if not run.task.metric.endswith("perplexity"):
        assert 0 <= scores[run.task.metric] <= 1
    assert facts["data"]
