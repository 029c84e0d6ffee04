"""Models that differ from the usual ones: pruned all the same, or refused in one line."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pins import masks as mask_files
from pins.errors import ModelError
from pins.oneshot.settings import Settings
from tests.pins.oneshot.runs import run
from tests.pins.oneshot.tiny_decoders import network, save_decoder, save_text

pytest.importorskip("transformers", reason="the models are those of transformers")


def settings_of(folder: Path, **changes: Any) -> Settings:
    usual: dict[str, Any] = {
        "model": str(folder / "model"), "task": "text", "data": save_text(folder / "text.txt"),
        "calibration": 2, "length": 16, "device": "cpu",
    }  # fmt: skip
    return Settings(**{**usual, **changes})


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {n: t for file in folder.glob("model*.safetensors") for n, t in load_file(file).items()}


@pytest.mark.parametrize("tied", [True, False])
def test_a_tied_output_matrix_is_left_out_and_stays_tied(tied: bool, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    save_decoder(tmp_path / "model", shard="8KB", tie_word_embeddings=tied)
    assert len([*(tmp_path / "model").glob("model-*.safetensors")]) >= 3
    facts = run(settings_of(tmp_path), tmp_path / "out")
    linear = sum(
        module.weight.numel()
        for name, module in network("Llama").named_modules()
        if isinstance(module, torch.nn.Linear) and ".layers." in name
    )
    assert facts["weights"] == {"kept": linear // 2, "prunable": linear}
    before, after = tensors(tmp_path / "model"), tensors(tmp_path / "out")
    assert before.keys() == after.keys()
    assert ("lm_head.weight" in after) != tied
    for name in ("lm_head.weight", "model.embed_tokens.weight"):
        if name in after:
            assert torch.equal(before[name], after[name])
    load: Any = AutoModelForCausalLM.from_pretrained
    model, found = load(tmp_path / "out", output_loading_info=True)
    assert not found["missing_keys"]
    assert not found["unexpected_keys"]
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied


def test_a_head_of_another_width_than_the_model_has_its_own_counts(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {
        "hidden_size": 24, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 8,
        "intermediate_size": 32,
    }  # fmt: skip
    save_decoder(tmp_path / "model", "Qwen3", **sizes)
    facts = run(settings_of(tmp_path), tmp_path / "out")
    layers = facts["blocks"][0]["layers"]
    shapes = {"q_proj": 32 * 12, "k_proj": 8 * 12, "v_proj": 8 * 12, "o_proj": 24 * 16}
    for name, kept in shapes.items():
        assert layers[f"model.layers.0.self_attn.{name}.weight"]["kept"] == kept


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors:UserWarning")
@pytest.mark.parametrize("method", ["wanda", "sparsegpt", "alps"])
def test_matrices_without_weights_are_left_out(method: str, tmp_path: Path) -> None:
    save_decoder(tmp_path / "model", intermediate_size=0)
    facts = run(settings_of(tmp_path, method=method, refit=True), tmp_path / "out")
    assert not any("mlp" in name for name in mask_files.load(tmp_path / "out/masks.safetensors"))
    assert tensors(tmp_path / "out").keys() == tensors(tmp_path / "model").keys()
    assert facts["weights"]["kept"] * 2 == facts["weights"]["prunable"] > 0


def test_a_model_without_special_tokens_is_pruned(tmp_path: Path) -> None:
    none: dict[str, Any] = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
    save_decoder(tmp_path / "model", **none)
    facts = run(settings_of(tmp_path), tmp_path / "out")
    save_decoder(tmp_path / "model")
    assert run(settings_of(tmp_path), tmp_path / "usual")["perplexity"] == facts["perplexity"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_refitted_weights_that_16_bits_do_not_hold_are_refused(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    model = network("Llama")
    with torch.no_grad():
        # the first two inputs are the same one, and the refit gives the one that stays both weights
        model.model.embed_tokens.weight[:, 1] = model.model.embed_tokens.weight[:, 0]
        model.model.layers[0].self_attn.q_proj.weight[:, :2] = 6e4
    model.to(dtype).save_pretrained(save_decoder(tmp_path / "model"))
    wanted = settings_of(tmp_path, pattern="1:2", refit=True)
    if dtype != torch.float16:
        run(wanted, tmp_path / "out")
        weight = tensors(tmp_path / "out")["model.layers.0.self_attn.q_proj.weight"]
        assert weight.abs().max() > 65504
        return
    with pytest.raises(
        ModelError,
        match=r"a weight of 'model.layers.0.self_attn.q_proj.weight' became 1.\d+e\+05 by wanda "
        r"and its refit, and its file holds torch.float16 of at most 65504: save",
    ):
        run(wanted, tmp_path / "out")
    run(settings_of(tmp_path, pattern="1:2"), tmp_path / "kept")


def test_what_a_method_tells_of_a_layer_is_in_run_json(tmp_path: Path) -> None:
    save_decoder(tmp_path / "model")
    facts = run(settings_of(tmp_path, method="alps", refit=True), tmp_path / "out")
    for block in facts["blocks"]:
        assert all(layer["iterations"] > 0 for layer in block["layers"].values())
