"""Mixtures of experts: each matrix is pruned from the tokens that its expert got, and no others."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pins import masks as mask_files
from pins.models.decoder import Decoder
from pins.oneshot.gram import Grams, linear_layers
from pins.oneshot.methods.registry import METHODS
from pins.oneshot.settings import Settings
from tests.pins.oneshot.runs import perplexity, run
from tests.pins.oneshot.tiny_decoders import MIXTURES, network, save_decoder, save_text, window
from verification.checker import Outcome, check

pytest.importorskip("transformers", reason="the models are those of transformers")

OF_MIXTRAL = {
    ".mlp.": ".block_sparse_moe.", "gate_proj": "w1", "up_proj": "w3", "down_proj": "w2",
}  # fmt: skip


def stored_name(kind: str, name: str) -> str:
    """The name of an expert's matrix in the files."""
    for own, files in OF_MIXTRAL.items() if kind == "Mixtral" and ".experts." in name else ():
        name = name.replace(own, files)
    return name


def settings_of(folder: Path, **changes: Any) -> Settings:
    usual: dict[str, Any] = {
        "model": str(folder / "model"), "task": "text", "data": save_text(folder / "text.txt"),
        "calibration": 4, "length": 16, "device": "cpu",
    }  # fmt: skip
    return Settings(**{**usual, **changes})


@pytest.mark.parametrize("kind", MIXTURES)
def test_a_mixture_is_pruned_to_the_files_that_it_was_read_from(kind: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    save_decoder(tmp_path / "model", kind, shard="10KB")
    settings, out = settings_of(tmp_path, sparsity=0.25), tmp_path / "out"
    facts = run(settings, out)
    before, after = (
        {n: t for file in folder.glob("model*.safetensors") for n, t in load_file(file).items()}
        for folder in (tmp_path / "model", out)
    )
    masks = mask_files.load(out / "masks.safetensors")
    pruned = {stored_name(kind, name): mask for name, mask in masks.items()}
    assert before.keys() == after.keys() > pruned.keys()
    assert sum(".experts." in name for name in pruned) == (12 if kind == "Qwen3Moe" else 24)
    assert not any("shared_expert_gate" in name or "mlp.gate." in name for name in pruned)
    for name, tensor in after.items():
        mask = pruned.get(name, torch.tensor(True))
        assert torch.equal(tensor, before[name].where(mask, 0.0)), name
        if name in pruned:
            assert (mask.sum(1) == 3 * mask.shape[1] // 4).all()
    assert facts["left_dense"] == []
    for certificate in facts["certificates"].values():
        assert check(out / certificate).outcome is Outcome.PROVED

    text = (tmp_path / "text.txt").read_text().splitlines(keepends=True)
    test = "".join(text[-len(text) // 10 :])
    for name, model in (
        ("dense", network(kind)),
        ("sparse", AutoModelForCausalLM.from_pretrained(out)),
    ):
        right = perplexity(model, test, facts)
        assert facts["perplexity"][name] == pytest.approx(right, rel=1e-5)


@pytest.mark.parametrize("kind", MIXTURES)
def test_an_expert_has_the_matrix_of_the_tokens_sent_to_it(kind: str, tmp_path: Path) -> None:
    decoder = Decoder.open(str(save_decoder(tmp_path, kind)))
    states = [decoder.first(window(seed=seed)) for seed in range(3)]
    with decoder.loaded(0) as block:
        states = [decoder.through(block, 0, state) for state in states]
    with decoder.loaded(1) as block:
        grams = Grams(linear_layers(block))
        sent: list[tuple[Tensor, Tensor]] = []
        experts = block.get_submodule("mlp.experts")
        experts.register_forward_pre_hook(lambda _, given: sent.append((given[0], given[1])))
        for state in states:
            with grams.watching():
                decoder.through(block, 1, state)
        grams.add()
        hidden = torch.cat([tokens for tokens, _ in sent]).double()
        chosen = torch.cat([each for _, each in sent])
        tokens = 0
        for number in range(4):
            own = hidden[(chosen == number).any(1)]
            own_gram, name = own.T @ own, f"mlp.experts.{number}."
            assert (
                grams.vectors(f"{name}gate_proj") == grams.vectors(f"{name}down_proj") == len(own)
            )
            assert torch.allclose(grams.of(f"{name}gate_proj"), own_gram, rtol=1e-5, atol=1e-6)
            assert not torch.allclose(hidden.T @ hidden, own_gram)
            expert: Any = block.get_submodule(f"mlp.experts.{number}")
            gate, up = (own.float() @ part.weight.T for part in (expert.gate_proj, expert.up_proj))
            inner = (torch.nn.functional.silu(gate) * up).double()
            right = inner.T @ inner
            assert torch.allclose(grams.of(f"{name}down_proj"), right, rtol=1e-4, atol=1e-6)
            tokens += len(own)
    assert tokens == chosen.numel() > 0


@pytest.fixture(scope="module")
def unreached(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the first block's experts #2 and #3 never win."""
    folder = tmp_path_factory.mktemp("unreached")
    file = save_decoder(folder / "model", "Mixtral", num_experts_per_tok=1) / "model.safetensors"
    tensors = load_file(file)
    gate = tensors["model.layers.0.block_sparse_moe.gate.weight"]
    gate[1], gate[2:] = -gate[0], 0.0
    save_file(tensors, file, metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("method", METHODS)
def test_an_expert_without_tokens_stays_dense_and_is_listed(
    method: str, unreached: Path, tmp_path: Path
) -> None:
    facts = run(settings_of(unreached, method=method, refit=True), tmp_path)
    dense = [
        f"model.layers.0.mlp.experts.{number}.{part}_proj.weight"
        for number in (2, 3)
        for part in ("gate", "up", "down")
    ]
    layers = facts["blocks"][0]["layers"]
    assert [name for name in facts["left_dense"] if "layers.0." in name] == dense
    assert [name for name, layer in layers.items() if not layer["vectors"]] == dense
    assert (
        sum(layers[f"model.layers.0.mlp.experts.{n}.up_proj.weight"]["vectors"] for n in range(4))
        == 64
    )
    before = load_file(unreached / "model" / "model.safetensors")
    after = load_file(tmp_path / "model-00001-of-00003.safetensors")
    for name, layer in layers.items():
        tensor = after[stored_name("Mixtral", name)]
        assert tensor.isfinite().all()
        counts = (tensor != 0).sum(1)
        whole = name in dense
        assert (counts == tensor.shape[1] // (1 if whole else 2)).all(), name
        assert layer["kept"] == int(counts.sum())
        assert torch.equal(tensor, before[stored_name("Mixtral", name)]) == whole
    for certificate in facts["certificates"].values():
        assert check(tmp_path / certificate).outcome is Outcome.PROVED
    count = len(facts["left_dense"])
    assert f"| left dense | {count} matrices" in (tmp_path / "README.md").read_text()
