"""Whatever tool stored a model, its tensors are read as they are, or one line says why not."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.utils.prune as torch_prune
from safetensors.torch import save_file
from torch import Tensor, nn

from pins import masks
from pins.errors import FileError
from pins.models import sparse_format
from pins.models.stored_model import StoredModel
from pins.models.weight_files import INDEX, WEIGHTS, write_index
from tests.pins.models.test_sparse_bitmask import entries, named
from tests.pins.oneshot.tiny_decoders import save_decoder

Tensors = dict[str, Tensor]


def dense_model() -> Tensors:
    torch.manual_seed(0)
    matrix = torch.randn(6, 13) * (torch.rand(6, 13) > 0.6)
    matrix[2] = matrix[5] = 0
    pairs = torch.randn(4, 16) * torch.tensor([1.0, 0, 0, 1]).repeat(4)
    return {"a.weight": matrix, "b.weight": pairs, "a.bias": torch.randn(6)}


def plain(folder: Path, tensors: Tensors) -> None:
    save_file(tensors, folder / WEIGHTS)


def sharded(folder: Path, tensors: Tensors) -> None:
    files = [folder / f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    for file, (name, tensor) in zip(files, tensors.items(), strict=True):
        save_file({name: tensor}, file)
    write_index(files)


def bitmask(folder: Path, tensors: Tensors) -> None:
    packed = named("a", entries(tensors["a.weight"])) | named("b", entries(tensors["b.weight"]))
    save_file(packed | {"a.bias": tensors["a.bias"]}, folder / WEIGHTS)


def bitmask_24(folder: Path, tensors: Tensors) -> None:
    packed = named("b", entries(tensors["b.weight"], pairs=True))
    save_file(packed | {n: t for n, t in tensors.items() if n[0] == "a"}, folder / WEIGHTS)


def unremoved(folder: Path, tensors: Tensors) -> None:
    layers = nn.ModuleDict({n: nn.Linear(*tensors[f"{n}.weight"].shape[::-1]) for n in "ab"})
    for name, layer in layers.items():
        weight = tensors[f"{name}.weight"]
        layer.weight.data = torch.where(weight == 0, 7.0, weight)  # what the mask hides
        torch_prune.custom_from_mask(layer, "weight", weight != 0)  # type: ignore[no-untyped-call]
    stored = layers.state_dict()
    del stored["b.bias"]
    save_file({**stored, "a.bias": tensors["a.bias"]}, folder / WEIGHTS)


def packed_by_pins(folder: Path, tensors: Tensors) -> None:
    matrices = {name: tensor for name, tensor in tensors.items() if tensor.dim() > 1}
    sparse_format.save(tensors, masks.nonzero_masks(matrices), folder / sparse_format.PACKED)


FORMS: Mapping[Callable[[Path, Tensors], None], set[str]] = {
    plain: {"dense"},
    sharded: {"dense"},
    bitmask: {"sparse-bitmask", "dense"},
    bitmask_24: {"sparse-24-bitmask", "dense"},
    unremoved: {"torch.nn.utils.prune", "dense"},
    packed_by_pins: {"pins-packed", "dense"},
}


@pytest.mark.parametrize("write", FORMS)
def test_a_model_is_read_as_it_is(tmp_path: Path, write: Callable[..., None]) -> None:
    tensors = dense_model()
    write(tmp_path, tensors)
    found = StoredModel.open(str(tmp_path))
    assert found.tensors.keys() == tensors.keys()
    assert {stored.form for stored in found.tensors.values()} == FORMS[write]
    for name, tensor in tensors.items():
        stored = found.tensors[name]
        assert stored.shape == tensor.shape
        assert not stored.quantized
        values, mask = stored.read()
        assert values is not None
        assert torch.equal(values, tensor)
        assert mask is None or torch.equal(mask, tensor != 0)
        own = stored.form in ("torch.nn.utils.prune", "pins-packed")
        assert (mask is not None) == own


@pytest.mark.parametrize("bits", [True, False])
def test_masks_have_no_values(tmp_path: Path, bits: bool) -> None:
    made = masks.nonzero_masks({n: t for n, t in dense_model().items() if t.dim() > 1})
    file = tmp_path / "masks.safetensors"
    if bits:
        masks.save(made, file)
    else:
        save_file(made, file)
    found = StoredModel.open(str(file))
    assert {stored.form for stored in found.tensors.values()} == {"pins-mask"}
    for name, mask in made.items():
        values, own = found.tensors[name].read()
        assert values is None
        assert own is not None
        assert torch.equal(own, mask)


@pytest.mark.parametrize("shape", [(1,), (6,), (6, 1), (6, 2)])
@pytest.mark.parametrize("zero", [False, True])
def test_quantised_weights_are_their_numbers_times_their_scales(
    tmp_path: Path, shape: tuple[int, ...], zero: bool
) -> None:
    torch.manual_seed(1)
    numbers = torch.randint(-127, 128, (6, 8), dtype=torch.int8)
    scale = 2.0 ** torch.randint(-3, 3, shape)
    stored: Tensors = {"a.weight": numbers, "a.weight_scale": scale}
    point = torch.randint(-3, 4, shape, dtype=torch.int8)
    if zero:
        stored["a.weight_zero_point"] = point
    save_file(stored, tmp_path / "m.safetensors")
    found = StoredModel.open(str(tmp_path / "m.safetensors"))
    assert [*found.tensors] == ["a.weight"]
    assert found.tensors["a.weight"].quantized
    values, _ = found.tensors["a.weight"].read()
    assert values is not None
    groups = shape[1] if len(shape) > 1 else 1
    each = [s.float().reshape(-1, groups, 1).expand(6, -1, 8 // groups) for s in (scale, point)]
    shift = each[1].reshape(6, 8) if zero else 0
    assert torch.equal(values, (numbers.float() - shift) * each[0].reshape(6, 8))


def test_marlin_24_is_read_from_a_folder(tmp_path: Path) -> None:
    meta = torch.full((1, 128), 0x4444, dtype=torch.int16)  # the first two of each four inputs
    packed = torch.full((1, 128), 0x19191919, dtype=torch.int32)
    parts = {"weight_packed": packed, "meta": meta, "scale_packed": torch.full((1, 64), 0.5).half()}
    save_file(named("a", parts), tmp_path / WEIGHTS)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    found = StoredModel.open(str(tmp_path))
    assert found.config == {"model_type": "llama"}
    stored = found.tensors["a.weight"]
    assert (stored.shape, stored.form, stored.quantized) == ((64, 32), "marlin-24", True)
    values, _ = stored.read()
    assert values is not None
    kept = torch.tensor([True, True, False, False]).repeat(8).expand(64, -1)
    assert torch.equal(values != 0, kept)
    assert {*values[kept].tolist()} == {0.5, -3.5}


def test_a_decoder_of_transformers_is_read(tmp_path: Path) -> None:
    found = StoredModel.open(str(save_decoder(tmp_path, shard="20KB")))
    assert len(found.files) > 1
    assert found.config["model_type"] == "llama"
    assert "model.layers.0.self_attn.q_proj.weight" in found.tensors


def broken(change: Callable[[Tensors], Any]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        tensors = dense_model()
        stored = named("a", entries(tensors["a.weight"])) | {"b.weight": tensors["b.weight"]}
        change(stored)
        save_file(stored, folder / WEIGHTS)

    return write


def one_bit_more(stored: Tensors) -> None:
    stored["a.bitmask"][2, 0] |= 1


def no_mask(folder: Path) -> None:
    stored = {"a.weight_orig": torch.ones(2, 2), "a.weight_mask": torch.full((2, 2), 0.5)}
    save_file(stored, folder / WEIGHTS)


def no_shard(folder: Path) -> None:
    sharded(folder, dense_model())
    (folder / "model-00002-of-00003.safetensors").unlink()


def read_all(folder: Path) -> None:
    for stored in StoredModel.open(str(folder)).tensors.values():
        stored.read()


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (broken(one_bit_more), "'a.weight' is damaged: the bitmask keeps 19 weights, there are 18"),
        (broken(lambda s: s.pop("a.compressed")), "'a.weight' is damaged: its compressed is miss"),
        (broken(lambda s: s.update({"a.weight": torch.ones(1)})), "'a.weight' is stored twice"),
        (broken(lambda s: s.pop("a.shape")), "holds no 'a.shape'"),
        (no_mask, "'a.weight_mask' is damaged: it is no mask of zeros and ones"),
        (no_shard, "holds no 'model-00002-of-00003.safetensors', which model.safetensors.index"),
        (lambda folder: (folder / INDEX).write_text("{}"), "is no index"),
        (lambda folder: torch.save({}, folder / "pytorch_model.bin"), "pickled weights are not"),
    ],
)
def test_what_is_damaged_is_one_line(
    tmp_path: Path, write: Callable[[Path], None], message: str
) -> None:
    write(tmp_path)
    with pytest.raises(FileError, match=message):
        read_all(tmp_path)
