"""Files in the layout of compressed-tensors: those of others are read, and theirs reads ours."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from pins.errors import FileError, ModelError
from pins.models.pretrained import locate
from pins.models.sparse_bitmask import described, load, unpack_folder
from pins.models.sparse_format import pack, pack_folder
from pins.models.weight_files import INDEX
from pins.utils.io import load_tensors, save_tensors
from tests.commands import Command
from tests.pins.models.bitmask_reader import model_compressor

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.int8)


def entries(dense: Tensor, pairs: bool = False) -> dict[str, Tensor]:
    """What other programs store of a tensor: its numbers that are not zero, bit by bit."""
    numbers = dense.float()
    rows = numbers.reshape(-1, dense.shape[-1]).tolist()
    bits = torch.zeros(len(rows), -(-dense.shape[-1] // 8), dtype=torch.uint8)
    offsets, count = [], 0
    for r, row in enumerate(rows):
        offsets.append(count)
        for c, value in enumerate(row):
            if value:
                bits[r, c // 8] += 1 << c % 8
                count += 1
    raw = dense.view(torch.int8) if dense.element_size() == 1 else dense
    values = raw[numbers != 0].view(dense.dtype)
    found = {
        "shape": torch.tensor(dense.shape),
        "compressed": values.view(len(rows), -1) if pairs else values,
        "bitmask": bits if dense.dim() > 1 else bits[0],
    }
    # a vector has one number in place of one for each row
    return (
        found if pairs else found | {"row_offsets": torch.tensor(offsets).reshape(dense.shape[:-1])}
    )


def named(name: str, parts: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{name}.{part}": value for part, value in parts.items()}


def written(path: Path, *tensors: dict[str, Tensor]) -> Path:
    save_file({name: value for each in tensors for name, value in each.items()}, path)
    return path


@st.composite
def matrices(draw: st.DrawFn) -> Tensor:
    """Matrices and vectors with zeros: whole rows of them, and numbers of either sign."""
    dims = draw(st.lists(st.integers(1, 20), min_size=1, max_size=2))
    size = dims[0] * dims[-1] if len(dims) == 2 else dims[0]
    drawn = draw(st.lists(st.sampled_from([0, 0, 0, 1, -2, 3]), min_size=size, max_size=size))
    return torch.tensor(drawn).reshape(dims).to(draw(st.sampled_from(DTYPES)))


@given(
    dense=matrices(),
    shaped=st.sampled_from(["int64", "int32", "column"]),
    whole=st.booleans(),
    offsets=st.booleans(),
)
def test_what_others_packed_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    dense: Tensor,
    shaped: str,
    whole: bool,
    offsets: bool,
) -> None:
    parts = entries(dense)
    if shaped != "int64":
        shape = parts["shape"]
        parts["shape"] = shape.int() if shaped == "int32" else shape[:, None]
    if not offsets:
        del parts["row_offsets"]
    path = tmp_path_factory.getbasetemp() / "model.safetensors"
    found = load(written(path, named("a.weight" if whole else "a", parts), {"b": torch.ones(2)}))
    assert found.keys() == {"a.weight", "b"}
    assert found["a.weight"].dtype == dense.dtype
    assert torch.equal(found["a.weight"].view(torch.uint8), dense.view(torch.uint8))


def test_two_of_each_four_are_read_row_by_row(tmp_path: Path) -> None:
    dense = torch.randn(4, 16).abs() * torch.tensor([1.0, 0, 0, 1]).repeat(4)
    parts = entries(dense, pairs=True)
    assert parts["compressed"].shape == (4, 8)
    found = load(written(tmp_path / "m", named("a", parts | {"shape": parts["shape"][:, None]})))
    assert torch.equal(found["a.weight"], dense)


def test_a_file_in_which_every_tensor_is_packed_keeps_their_names(tmp_path: Path) -> None:
    # as the versions up to 0.8 wrote them
    dense = {"a.weight": torch.eye(3, 13), "a.bias": torch.tensor([0.0, 2]), "n.g": torch.ones(1)}
    path = written(tmp_path / "m", *(named(n, entries(t)) for n, t in dense.items()))
    found = load(path)
    assert found.keys() == dense.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in dense.items())


def test_of_others_zeros_have_lost_their_mask_and_sign_and_of_ours_they_have_not(
    tmp_path: Path,
) -> None:
    dense = torch.tensor([[1.0, -0.0, 0.0]])
    theirs = load(written(tmp_path / "theirs", named("a", entries(dense))))
    assert not theirs["a.weight"].signbit().any()
    ours = load(written(tmp_path / "ours", pack({"a.weight": dense}, {"a.weight": dense == dense})))
    assert ours["a.weight"].signbit().tolist() == [[False, True, False]]


def folder_of(place: Path, *files: dict[str, Tensor], **config: Any) -> Path:
    """A folder with packed tensors in one file or several, and another file."""
    place.mkdir(exist_ok=True)
    names = [f"model-{i}-of-{len(files)}.safetensors" for i in range(1, len(files) + 1)]
    names = names if len(files) > 1 else ["model.safetensors"]
    for name, tensors in zip(names, files, strict=True):
        save_file(tensors, place / name)
    if len(files) > 1:
        index = {n: name for name, tensors in zip(names, files, strict=True) for n in tensors}
        (place / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": index}))
    (place / "config.json").write_text(json.dumps({"model_type": "own", **config}))
    (place / "tokenizer.json").write_text("{}")
    return place


DENSE = {"a.weight": torch.eye(6, 13).bfloat16(), "b.weight": torch.zeros(3, 9)}
PACKED = [named(name.removesuffix(".weight"), entries(tensor)) for name, tensor in DENSE.items()]


@pytest.mark.parametrize("several", [False, True])
def test_a_folder_is_unpacked(pins: Command, several: bool, tmp_path: Path) -> None:
    files = PACKED if several else [PACKED[0] | PACKED[1]]
    folder = folder_of(tmp_path / "in", *files, **described({}, DENSE))
    code, said, err = pins("unpack", folder, "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    assert said == f"{tmp_path / 'out' / (INDEX if several else 'model.safetensors')}\n"
    places = {file.name for file in (tmp_path / "out").iterdir()}
    assert places == {file.name for file in folder.iterdir()}
    found = {
        n: t for f in (tmp_path / "out").glob("m*.safetensors") for n, t in load_file(f).items()
    }
    assert found.keys() == DENSE.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in DENSE.items())
    assert json.loads((tmp_path / "out" / "config.json").read_text()) == {"model_type": "own"}
    with pytest.raises(FileError, match="exists: give another folder"):
        unpack_folder(folder, tmp_path / "out")


@pytest.mark.parametrize("key", ["quantization_config", "compression_config"])
def test_weights_that_are_quantised_too_stay_so(key: str, tmp_path: Path) -> None:
    rest = {"quant_method": "compressed-tensors", "config_groups": {"group_0": {}}}
    asked = {key: {**rest, "sparsity_config": {"format": "sparse-bitmask"}}}
    unpack_folder(folder_of(tmp_path / "in", PACKED[0], **asked), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())[key] == rest


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("bitmask", torch.ones(3, 2, dtype=torch.uint8), "keeps 6 weights, there are 0 values"),
        ("bitmask", torch.full((3, 2), 128, dtype=torch.uint8), "a padding bit is set"),
        ("bitmask", torch.tensor(0, dtype=torch.uint8), "bitmask is torch.uint8"),
        ("shape", torch.tensor([3.0, 9.0]), "of torch.float32 is not a shape"),
        ("shape", torch.tensor([3, -9]), "is not a shape"),
        ("shape", None, "its shape is missing"),
        ("compressed", None, "its compressed is missing"),
        ("compressed", torch.zeros(0, dtype=torch.int64), "compressed is torch.int64"),
        ("row_offsets", torch.tensor([0, 1, 1]), "row_offsets are not those of the bitmask"),
    ],
    ids=range(9),
)
def test_damage_is_one_line_with_the_tensor_and_leaves_nothing(
    pins: Command, part: str, value: Tensor | None, message: str, several: bool, tmp_path: Path
) -> None:
    broken = {name: each for name, each in PACKED[1].items() if name != f"b.{part}"}
    broken |= {} if value is None else {f"b.{part}": value}
    folder = folder_of(tmp_path / "in", *([PACKED[0], broken] if several else [broken]))
    code, said, err = pins("unpack", folder, "--out", tmp_path / "out")
    assert (code, said, err.count("\n")) == (2, "", 1)
    assert "is a damaged packed file: 'b.weight': " in err
    assert message in err
    assert not (tmp_path / "out").exists()


def test_a_tensor_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "m", PACKED[1], {"b.weight": torch.zeros(3, 9)})
    with pytest.raises(FileError, match=r"'b\.weight' is stored twice, packed and dense"):
        load(path)


def test_a_dense_folder_is_not_unpacked(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="its weights are not packed"):
        unpack_folder(folder_of(tmp_path / "in", DENSE), tmp_path / "out")


def test_whoever_needs_the_dense_model_says_what_to_run(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", *PACKED)
    message = rf"holds packed weights, as 'a\.bitmask' says: run pins unpack {folder} --out DIR"
    with pytest.raises(ModelError, match=message):
        locate(str(folder))
    with pytest.raises(FileError, match=message):
        pack_folder(folder)


def sparse_model() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(tensors, masks): 13 columns, empty rows, a kept zero, a kept −0.0, nothing kept, a bias."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(6, 13, generator=generator) > 0.6
    mask[2], mask[5], mask[0, :2] = False, False, True
    weight = torch.randn(6, 13, generator=generator).where(mask, torch.tensor(0.0))
    weight[0, 0], weight[0, 1] = 0.0, -0.0
    tensors = {
        "x.a.weight": weight,
        "x.b.weight": weight.bfloat16(),
        "x.c.weight": torch.zeros(3, 8),
        "x.a.bias": torch.ones(6),
    }
    return tensors, {"x.a.weight": mask, "x.b.weight": mask, "x.c.weight": torch.zeros(3, 8) > 0}


def test_compressed_tensors_reads_what_we_write_bit_for_bit(tmp_path: Path) -> None:
    tensors, masks = sparse_model()
    reader = model_compressor(described({}, masks)).sparsity_compressor
    save_tensors(pack(tensors, masks), tmp_path / "model.safetensors", {"format": "pt"})
    found = dict(reader.decompress(str(tmp_path)))
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name].view(torch.uint8), tensor.view(torch.uint8)), name
    own = load(tmp_path / "model.safetensors")
    assert all(torch.equal(own[n].view(torch.uint8), found[n].view(torch.uint8)) for n in found)


@pytest.mark.parametrize("format_", ["sparse-bitmask", "sparse-24-bitmask"])
def test_what_compressed_tensors_writes_is_read(format_: str, tmp_path: Path) -> None:
    config = {"quantization_config": {"sparsity_config": {"format": format_}}}
    writer = model_compressor(config).sparsity_compressor
    dense = {
        "x.a.weight": torch.randn(6, 16) * torch.tensor([1.0, 0, 0, 1]).repeat(4) + 0.0,
        "x.b.weight": torch.eye(3, 8).bfloat16(),
        "x.a.bias": torch.ones(6),
    }
    packed = writer.compress(dense, {"x.a", "x.b"})
    assert "x.b.bitmask" in packed
    save_file(packed, tmp_path / "model.safetensors")
    found = load(tmp_path / "model.safetensors")
    assert found.keys() == dense.keys()
    for name, tensor in dense.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name
    assert load_tensors(tmp_path / "model.safetensors")[0].keys() == packed.keys()
