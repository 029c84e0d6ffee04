"""What `pins oneshot` wrote: packed and unpacked, read by others, fine-tuned with its mask."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from pins import masks as mask_files
from pins.models.parameters import prunable_parameters
from tests.commands import Command
from tests.pins.models.bitmask_reader import model_compressor
from tests.pins.oneshot.tiny_decoders import network, save_decoder, save_text, tokenizer
from verification.experiments.run_reader import RunData

pytest.importorskip("transformers", reason="the models are those of transformers")

KINDS = {"Llama": ("--sparsity", "0.6"), "GPT2": ("--pattern", "2:4", "--refit")}
RATE = ("--learning-rate", "1e-2", "--max-length", "16", "--evaluate-every", "12")
RECOVER = ("--keep-zeros", "--steps", "12", *RATE)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("inputs")
    for kind in KINDS:
        save_decoder(place / kind, kind)
    network("Llama").bfloat16().save_pretrained(place / "Llama")
    save_text(place / "text.txt")
    return place


def oneshot(inputs: Path, kind: str, out: Path, *others: str) -> list[str | Path]:
    return [
        "oneshot", "--model", inputs / kind, "--task", "text", "--data", inputs / "text.txt",
        "--out", out, "--device", "cpu", "--length", "16", "--calibration", "4", *KINDS[kind],
        *others,
    ]  # fmt: skip


def weights(folder: Path) -> dict[str, Tensor]:
    return {n: t for file in folder.glob("model*.safetensors") for n, t in load_file(file).items()}


def files(folder: Path) -> dict[str, Any]:
    """What makes a folder a model: bytes by name, the configuration as JSON."""
    found: dict[str, Any] = {file.name: file.read_bytes() for file in folder.glob("model*")}
    return found | {"config.json": json.loads((folder / "config.json").read_text())}


@pytest.mark.parametrize("kind", KINDS)
def test_packed_and_unpacked_it_is_the_dense_result_byte_for_byte(
    kind: str, pins: Command, inputs: Path, tmp_path: Path
) -> None:
    packed = tmp_path / "packed"
    assert pins(*oneshot(inputs, kind, tmp_path / "dense"))[0] == 0
    assert pins(*oneshot(inputs, kind, packed, "--format", "sparse-bitmask"))[0] == 0
    masks = mask_files.load(packed / "masks.safetensors")
    found = weights(packed)
    assert not masks.keys() & found.keys()
    for name, mask in masks.items():
        kept = found[f"{name.removesuffix('.weight')}.compressed"]
        assert len(kept) == mask.count_nonzero()
    sparsity = json.loads((packed / "config.json").read_text())["quantization_config"]
    assert sparsity["sparsity_config"]["targets"] == [n.removesuffix(".weight") for n in masks]
    assert "sparse-bitmask" in (packed / "README.md").read_text()

    assert pins("unpack", packed, "--out", tmp_path / "out")[0] == 0
    assert files(tmp_path / "out") == files(tmp_path / "dense")

    # resumed after its first block, which is read back from the packed file
    for name in ("run.json", "blocks/01.json", "model.safetensors.index.json"):
        (packed / name).unlink()
    before = files(packed)
    again = oneshot(inputs, kind, packed, "--format", "sparse-bitmask", "--resume")
    assert pins(*again)[0] == 0
    assert {name: files(packed)[name] for name in before} == before
    code, _, err = pins(*oneshot(inputs, kind, packed, "--resume"))
    assert (code, err.count("\n")) == (2, 1)
    assert "whose format is 'sparse-bitmask', not 'dense'" in err


def test_compressed_tensors_fills_a_model_with_it(
    pins: Command, inputs: Path, tmp_path: Path
) -> None:
    for kind in KINDS:
        out = tmp_path / kind
        assert pins(*oneshot(inputs, kind, out, "--format", "sparse-bitmask"))[0] == 0
        assert pins("unpack", out, "--out", out / "dense")[0] == 0
        model = network(kind)
        model_compressor(json.loads((out / "config.json").read_text())).decompress(str(out), model)
        found, dense = model.state_dict(), weights(out / "dense")
        assert all(torch.equal(found[name], tensor) for name, tensor in dense.items())
        assert not any(
            found[name][~mask].any()
            for name, mask in mask_files.load(out / "masks.safetensors").items()
        )


def test_commands_that_need_the_dense_model_say_what_to_run(
    pins: Command, inputs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert pins(*oneshot(inputs, "Llama", out, "--format", "sparse-bitmask"))[0] == 0
    text = ("--task", "text", "--data", inputs / "text.txt", "--out", tmp_path / "next")
    others = [(command, "--model", out, *text) for command in ("prune", "oneshot")]
    for given in [("pack", out), *others]:
        code, _, err = pins(*given)
        assert (code, err.count("\n")) == (2, 1)
        assert f"run pins unpack {out} --out DIR, and give that folder" in err


@torch.no_grad()
def loss(folder: Path, text: str) -> float:
    """The mean loss of a model on windows of 16 tokens of a text."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = torch.tensor(tokenizer()(text)["input_ids"])
    windows = ids[: len(ids) // 16 * 16].view(-1, 16)
    return float(model(input_ids=windows, labels=windows).loss)


def test_accuracy_is_recovered_with_the_mask_fixed(
    pins: Command, inputs: Path, tmp_path: Path
) -> None:
    pruned, recovered = tmp_path / "pruned", tmp_path / "recovered"
    assert pins(*oneshot(inputs, "Llama", pruned))[0] == 0
    prune = ["prune", "--model", pruned, "--task", "text", "--data", inputs / "text.txt"]
    prune += ["--device", "cpu"]
    taught = (*RECOVER, "--teacher", inputs / "Llama", "--out", recovered)
    code, _, err = pins(*prune, *taught)
    assert (code, err) == (0, "")

    masks = mask_files.load(pruned / "masks.safetensors")
    before, after = weights(pruned), weights(recovered)
    for name, mask in masks.items():
        assert not after[name][~mask].any(), name
        assert (after[name][before[name] != 0] != before[name][before[name] != 0]).any(), name
    text = "".join((inputs / "text.txt").read_text().splitlines(keepends=True)[:50])
    assert loss(recovered, text) < loss(pruned, text) - 0.02

    zeros = sum(int((before[name] == 0).sum()) for name in masks)
    facts = json.loads((recovered / "run.json").read_text())
    assert facts["start"]["zeros"] == zeros
    assert facts["costs"]["weights"]["kept"] == facts["start"]["total"] - zeros
    assert [each["pruned"] for each in facts["decisions"]] == [0]
    assert facts["scores"]["dense"]["loss"]
    assert facts["settings"]["schedule"] == "one-shot"
    assert "The mask of the base model was asked for." in (recovered / "README.md").read_text()
    assert pins("check", recovered / "certificate.json")[0] == 0
    read = RunData(recovered)
    assert read.schedule.sparsity(read.steps) == read.start
    assert "holds a run that is done" in pins(*prune, *taught, "--resume")[1]

    # the control: fine-tuning alone brings zeros back
    free = ("--sparsity", "0", "--revive-zeros", "--no-self-regularization", "--steps", "2", *RATE)
    assert pins(*prune, *free, "--out", tmp_path / "free")[0] == 0
    dense = weights(tmp_path / "free")
    assert any(dense[name][~mask].any() for name, mask in masks.items())


def test_a_model_without_zeros_has_none_to_keep(
    pins: Command, inputs: Path, tmp_path: Path
) -> None:
    text = ("--task", "text", "--data", inputs / "text.txt", "--device", "cpu")
    given = ("--model", inputs / "GPT2", *text, *RECOVER, "--out", tmp_path / "out")
    code, _, err = pins("prune", *given)
    assert (code, err.count("\n")) == (2, 1)
    total = sum(w.numel() for w in prunable_parameters(network("GPT2")).parameters.values())
    assert f"keep_zeros found no zero among {total:,} prunable weights" in err
