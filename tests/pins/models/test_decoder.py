"""A decoder passed block by block computes what the whole model does, bit for bit."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pins.errors import ModelError
from pins.models.decoder import Decoder, State
from tests.pins.oneshot.tiny_decoders import PASSED, network, save_decoder, window

pytest.importorskip("transformers", reason="the models are those of transformers")


def losses_of(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        logits = model(input_ids=tokens).logits
    return torch.nn.functional.cross_entropy(logits[0, :-1], tokens[0, 1:], reduction="none")


def passed(decoder: Decoder, tokens: torch.Tensor) -> State:
    state = decoder.first(tokens)
    for number in range(len(decoder)):
        with decoder.loaded(number) as block:
            state = decoder.through(block, number, state)
    return state


def stored_of(decoder: Decoder, number: int) -> dict[str, torch.Tensor]:
    """The tensors of a block as the files have them, by their names there."""
    with decoder.loaded(number) as block:
        names = {f"{decoder.names[number]}.{own}": t for own, t in block.state_dict().items()}
        return {
            decoder.stored_name(name): decoder.as_stored(name, tensor, changed=False)
            for name, tensor in names.items()
        }


@pytest.mark.parametrize("kind", PASSED)
def test_losses_block_by_block_are_those_of_the_whole_model(kind: str, tmp_path: Path) -> None:
    decoder, model = Decoder.open(str(save_decoder(tmp_path, kind))), network(kind)
    for seed in (0, 1):  # the second time the blocks are read again
        tokens = window(seed=seed)
        assert torch.equal(decoder.losses(passed(decoder, tokens)), losses_of(model, tokens))
    assert decoder.nbytes == 4 * sum(each.numel() for each in model.parameters())


@pytest.mark.parametrize("kind", PASSED)
def test_only_one_block_is_in_memory(kind: str, tmp_path: Path) -> None:
    decoder = Decoder.open(str(save_decoder(tmp_path, kind)))

    def in_memory() -> set[int]:
        return {
            number
            for number, name in enumerate(decoder.names)
            for parameter in decoder.model.get_submodule(name).parameters()
            if not parameter.is_meta
        }

    assert in_memory() == set()
    for number in range(len(decoder)):
        with decoder.loaded(number) as block:
            assert in_memory() == {number}
            assert not any(each.is_meta for each in block.parameters())
        with pytest.raises(KeyError), decoder.loaded(number):
            raise KeyError
        assert in_memory() == set()
    inside = tuple(f"{name}." for name in decoder.names)
    outside = [p for n, p in decoder.model.named_parameters() if not n.startswith(inside)]
    assert outside
    assert not any(each.is_meta or each.requires_grad for each in outside)


def test_what_is_changed_in_a_block_is_lost_with_it(tmp_path: Path) -> None:
    decoder = Decoder.open(str(save_decoder(tmp_path)))
    with decoder.loaded(0) as block:
        for parameter in block.parameters():
            parameter.zero_()
    assert torch.equal(
        decoder.losses(passed(decoder, window())), losses_of(network("Llama"), window())
    )


def test_the_tensors_of_all_blocks_and_the_rest_are_those_of_the_files(tmp_path: Path) -> None:
    decoder = Decoder.open(str(save_decoder(tmp_path, "GPT2", shard="10KB")))
    files = sorted(tmp_path.glob("*.safetensors"))
    assert len(files) > 2
    stored = {name: tensor for file in files for name, tensor in load_file(file).items()}
    found: dict[str, torch.Tensor] = {}
    for number in range(len(decoder) + 1):
        part = stored_of(decoder, number) if number < len(decoder) else decoder.rest()
        assert found.keys().isdisjoint(part)
        found |= part
    assert found.keys() == stored.keys()
    assert all(torch.equal(tensor, stored[name]) for name, tensor in found.items())
    assert torch.equal(
        decoder.losses(passed(decoder, window())), losses_of(network("GPT2"), window())
    )


@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "GPT2", "OPT"])
def test_a_tied_output_matrix_stays_tied(kind: str, tmp_path: Path) -> None:
    decoder = Decoder.open(str(save_decoder(tmp_path, kind, tie_word_embeddings=True)))
    model: Any = decoder.model
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    whole = network(kind, tie_word_embeddings=True)
    assert torch.equal(decoder.losses(passed(decoder, window())), losses_of(whole, window()))


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_files_with_and_without_the_name_of_the_base_model_are_read(
    prefix: str, tmp_path: Path
) -> None:
    file = save_decoder(tmp_path, "GPT2") / "model.safetensors"
    tensors = load_file(file)
    renamed = {prefix + n.removeprefix("transformer."): t for n, t in tensors.items()}
    save_file(renamed, file, metadata={"format": "pt"})
    decoder = Decoder.open(str(tmp_path))
    assert set(stored_of(decoder, 0)) == {n for n in renamed if n.startswith(f"{prefix}h.0.")}
    assert torch.equal(
        decoder.losses(passed(decoder, window())), losses_of(network("GPT2"), window())
    )


def test_numbers_of_64_bits_are_written_as_they_were_read(tmp_path: Path) -> None:
    file = save_decoder(tmp_path) / "model.safetensors"
    tensors = {name: each.double() + 1e-12 for name, each in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    decoder = Decoder.open(str(tmp_path))
    for number in range(len(decoder)):
        for name, tensor in stored_of(decoder, number).items():
            assert torch.equal(tensor, tensors[name])
            assert not torch.equal(tensor.float().double(), tensor)


def test_weights_of_16_bits_are_raised_to_float32(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    network("Llama").bfloat16().save_pretrained(save_decoder(tmp_path))
    decoder = Decoder.open(str(tmp_path))
    assert decoder.dtype(f"{decoder.names[0]}.mlp.up_proj.weight") == torch.bfloat16
    with decoder.loaded(0) as block:
        assert {each.dtype for each in block.parameters()} == {torch.float32}
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert torch.equal(decoder.losses(passed(decoder, window())), losses_of(model, window()))


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("GraniteMoe", "from one by one, as where one has all experts"),
        ("GptOss", "the experts of GptOssForCausalLM are not of the kind of Mixtral's"),
        ("Bert", "a model of type 'bert' has no head for this task"),
        ("T5", "a model of type 't5' has no head for this task"),
        ("XLNet", "the blocks of XLNetLMHeadModel cannot be passed one after the other"),
    ],
)
def test_other_models_are_refused(kind: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=re.escape(why)):
        Decoder.open(str(save_decoder(tmp_path, kind)))


def test_a_block_that_looks_ahead_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.models.llama.modeling_llama import LlamaMLP

    save_decoder(tmp_path)
    monkeypatch.setattr(LlamaMLP, "forward", lambda _, x: x.sum(1, keepdim=True).expand(x.shape))
    with pytest.raises(ModelError, match="LlamaForCausalLM sees the tokens that it predicts"):
        Decoder.open(str(tmp_path))


@pytest.mark.parametrize("missing", ["model.embed_tokens.weight", "model.layers.1.mlp.up_proj"])
def test_a_missing_tensor_is_named(missing: str, tmp_path: Path) -> None:
    file = save_decoder(tmp_path) / "model.safetensors"
    left = {n: t for n, t in load_file(file).items() if not n.startswith(missing)}
    save_file(left, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=f"holds no '{missing}"):
        Decoder.open(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("intermediate_size", 32, "size mismatch for mlp.gate_proj.weight"),
        ("hidden_size", 32, "size mismatch for "),
        ("vocab_size", 40, "the token .* has the number .* vectors for 40"),
    ],
)
def test_a_configuration_of_other_sizes_is_refused(
    name: str, value: int, why: str, tmp_path: Path
) -> None:
    file = save_decoder(tmp_path) / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), name: value}))
    with pytest.raises(ModelError, match=why):
        Decoder.open(str(tmp_path))
