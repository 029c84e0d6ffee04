"""Each rule of the table matches what it is for, weight by weight; what it is not for is listed."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from pins import masks
from tests.verification.audit.models import (
    Tensors,
    gpt2,
    llama,
    opened,
    save_model,
    tensors_of,
)
from verification.audit.matching import Matching, match

Q, K, V = (f"model.layers.{{}}.self_attn.{each}_proj.weight" for each in "qkv")


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    return save_model(tmp_path / "dense", llama())


def matched(dense: Path, sparse: Path) -> Matching:
    """The matching of two models with equal weights: each pair has the same ones."""
    found = match(opened(dense), opened(sparse))
    for pair in found.pairs:
        one, two = pair.dense.read()[0], pair.sparse.read()[0]
        assert one is not None
        assert two is not None
        assert torch.equal(one, two), pair.name
    return found


def changed(source: Path, folder: Path, change: dict[str, str]) -> Path:
    """The model under other names: what a name contains, and what instead."""

    def renamed(name: str) -> str:
        for old, new in change.items():
            name = name.replace(old, new)
        return name

    return save_model(folder, {renamed(n): t for n, t in tensors_of(source).items()})


def whole(found: Matching) -> bool:
    return found.coverage == 1 and not (found.only_dense or found.only_sparse or found.misfits)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"model.layers": "layers", "model.embed": "embed", "model.norm": "norm"},
        {"model.": "_orig_mod.model."},
        {"model.layers": "base_model.model.model.layers"},
        {"_proj.weight": "_proj.base_layer.weight"},
    ],
)
def test_prefixes_and_wrappers_do_not_matter(
    dense: Path, tmp_path: Path, change: dict[str, str]
) -> None:
    other = changed(dense, tmp_path, change)
    assert whole(matched(dense, other))
    assert whole(matched(other, dense))


def fused(tensors: Tensors) -> Tensors:
    found = dict(tensors)
    for layer in ("0", "1"):
        parts: list[Tensor] = [found.pop(each.format(layer)) for each in (Q, K, V)]
        found[f"model.layers.{layer}.self_attn.qkv_proj.weight"] = torch.cat(parts)
        mlp = f"model.layers.{layer}.mlp."
        parts = [found.pop(f"{mlp}{each}_proj.weight") for each in ("gate", "up")]
        found[f"{mlp}gate_up_proj.weight"] = torch.cat(parts)
    return found


def test_fused_and_split_projections_match_both_ways(dense: Path, tmp_path: Path) -> None:
    other = save_model(tmp_path, fused(tensors_of(dense)))
    for found in (matched(dense, other), matched(other, dense)):
        assert whole(found)
        names = {pair.name for pair in found.pairs}
        assert {each.format("1") for each in (Q, K, V)} <= names  # under the names of the parts
        assert not any("qkv" in name for name in names)


def test_a_tied_output_matrix_is_the_embedding(dense: Path, tmp_path: Path) -> None:
    tensors = tensors_of(dense)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    untied = save_model(tmp_path / "untied", tensors)
    del tensors["lm_head.weight"]
    tied = save_model(tmp_path / "tied", tensors)
    for found in (matched(untied, tied), matched(tied, untied)):
        assert whole(found)
        assert "lm_head.weight" in {pair.name for pair in found.pairs}
    assert whole(matched(tied, tied))


def test_conv1d_is_read_with_its_outputs_as_rows(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "gpt2", gpt2(), model_type="gpt2")
    found = matched(folder, folder)
    assert whole(found)
    shapes = {pair.name: pair.sparse.shape for pair in found.pairs}
    assert shapes["transformer.h.0.attn.c_attn.weight"] == (48, 16)
    linear = {n: t.T if ".c_" in n and t.dim() > 1 else t for n, t in gpt2().items()}
    other = save_model(tmp_path / "linear", linear, model_type="gpt2")
    assert whole(matched(folder, other))  # the square c_proj follows the others
    split: Tensors = {}
    for name, tensor in linear.items():
        parts = tensor.chunk(3) if "c_attn" in name else [tensor]
        words = ("q_proj", "k_proj", "v_proj") if "c_attn" in name else ("c_attn",)
        split |= {name.replace("c_attn", w): p for w, p in zip(words, parts, strict=True)}
    assert whole(matched(folder, save_model(tmp_path / "split", split)))


def test_experts_of_mixtral_have_two_names(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "new", llama(experts=3))
    change = {".gate_proj.": ".w1.", ".down_proj.": ".w2.", ".up_proj.": ".w3."}
    other = changed(folder, tmp_path / "old", {".mlp.": ".block_sparse_moe.", **change})
    assert whole(matched(folder, other))
    assert whole(matched(other, folder))


def test_what_has_no_partner_is_listed_and_lowers_the_coverage(dense: Path, tmp_path: Path) -> None:
    tensors = tensors_of(dense)
    total = sum(tensor.numel() for tensor in tensors.values())
    gone = tensors.pop("model.layers.1.mlp.up_proj.weight")
    tensors["extra.weight"] = torch.ones(3, 3)
    found = matched(dense, save_model(tmp_path, tensors))
    assert found.only_dense == ("model.layers.1.mlp.up_proj.weight",)
    assert found.only_sparse == ("extra.weight",)
    assert found.coverage == (total - gone.numel()) / total


def test_of_masks_only_what_they_mask_counts(dense: Path, tmp_path: Path) -> None:
    made = {n: t > 0 for n, t in tensors_of(dense).items() if "q_proj" in n}
    masks.save(made, tmp_path / "m.safetensors")
    found = match(opened(dense), opened(tmp_path / "m.safetensors"))
    assert found.coverage == 1
    assert {pair.name for pair in found.pairs} == made.keys()


def test_another_vocabulary_is_told_from_another_model(dense: Path, tmp_path: Path) -> None:
    tensors = tensors_of(dense)
    tensors["model.embed_tokens.weight"] = torch.ones(80, 16)
    found = match(opened(dense), opened(save_model(tmp_path / "a", tensors)))
    other = found.other_vocabulary
    assert other is not None
    assert (other.dense.shape, other.sparse.shape) == ((72, 16), (80, 16))
    tensors["model.embed_tokens.weight"] = torch.ones(72, 8)
    found = match(opened(dense), opened(save_model(tmp_path / "b", tensors)))
    assert found.other_vocabulary is None
    assert [pair.name for pair in found.misfits] == ["model.embed_tokens.weight"]


def test_buffers_of_integers_have_no_part(dense: Path, tmp_path: Path) -> None:
    tensors = tensors_of(dense) | {"position_ids": torch.arange(9)}
    assert whole(matched(dense, save_model(tmp_path, tensors)))
