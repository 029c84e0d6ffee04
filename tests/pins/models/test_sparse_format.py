"""The packed form gives back every bit, is what compressed-tensors reads, and refuses damage."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pins import masks as masks_module
from pins.errors import FileError, MaskError
from pins.models.parameters import prunable_parameters
from pins.models.sparse_format import (
    FORMAT,
    PACKED,
    Tensors,
    load,
    pack,
    pack_folder,
    packed_bytes,
    save,
    unpack_folder,
)
from pins.models.weight_files import weight_files
from pins.utils.io import load_tensors
from tests.pins.networks import tiny
from verification.strategies import shapes

INTEGERS = {
    torch.float32: torch.int32,
    torch.float64: torch.int64,
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
    torch.float8_e4m3fn: torch.int8,
}
NAMES = ("z.weight", "dense.weight", "weight", "a.b", "bert.0.weight", "a.b.bias")


@st.composite
def sparse_models(draw: st.DrawFn) -> tuple[Tensors, Tensors]:
    """(tensors, masks): any bits (NaNs with payloads, −0.0, infinities), +0.0 where pruned."""
    tensors, masks = {}, {}
    for name in draw(st.permutations(NAMES))[: draw(st.integers(0, len(NAMES)))]:
        dtype = draw(st.sampled_from(list(INTEGERS)))
        limits = torch.iinfo(INTEGERS[dtype])
        shape = draw(shapes(max_size=40, max_dims=4))
        size = math.prod(shape)
        special = st.sampled_from([0, limits.min, limits.max, -1])  # ±0.0 and NaNs
        pattern = st.one_of(special, st.integers(limits.min, limits.max))
        drawn = draw(st.lists(pattern, min_size=size, max_size=size))
        bits = torch.tensor(drawn, dtype=INTEGERS[dtype]).reshape(shape)
        if draw(st.booleans()):
            kept = draw(st.lists(st.booleans(), min_size=size, max_size=size))
            masks[name] = torch.tensor(kept, dtype=torch.bool).reshape(shape)
            bits = torch.where(masks[name], bits, torch.zeros_like(bits))
        tensors[name] = bits.view(dtype)
    order = draw(st.permutations(list(masks)))
    return tensors, {name: masks[name] for name in order}


def same(first: Tensors, second: Tensors) -> bool:
    """The same names in the same order, dtypes, shapes and bits."""
    return list(first) == list(second) and all(
        tensor.dtype == second[name].dtype
        and tensor.shape == second[name].shape
        and torch.equal(bits(tensor), bits(second[name]))
        for name, tensor in first.items()
    )


def bits(tensor: Tensor) -> Tensor:
    return tensor.view(INTEGERS.get(tensor.dtype, tensor.dtype))


@given(model=sparse_models())
def test_tensors_and_masks_come_back_bit_for_bit_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, model: tuple[Tensors, Tensors]
) -> None:
    path = tmp_path_factory.getbasetemp() / PACKED
    save(*model, path)
    tensors, masks = load(str(path))
    assert same(tensors, model[0])
    assert same(masks, model[1])


@given(model=sparse_models())
def test_packed_tensors_take_the_bytes_that_the_layout_says(model: tuple[Tensors, Tensors]) -> None:
    tensors, masks = model
    packed = pack(tensors, masks)
    expected = 0
    for name, tensor in tensors.items():
        if name in masks:
            shape = tensor.shape or (1,)
            rows, columns = math.prod(shape[:-1]), shape[-1]
            kept = int(masks[name].sum())
            own = kept * tensor.element_size()
            own += rows * math.ceil(columns / 8) + 8 * rows + 8 * tensor.dim()
            assert packed_bytes(tensor.shape, kept, tensor.element_size()) == own
            expected += own
        else:
            expected += tensor.nbytes
    assert sum(part.nbytes for part in packed.values()) == expected


def worked_example() -> tuple[Tensors, Tensors]:
    """Row 0 keeps columns 0, 2, 3 and 8; row 1 nothing; row 2 column 1, which is zero."""
    weight = torch.tensor([[1.0, 0, -0.0, 2, 0, 0, 0, 0, 3], [0] * 9, [0] * 9])
    mask = torch.tensor([[1, 0, 1, 1, 0, 0, 0, 0, 1], [0] * 9, [0, 1, *[0] * 7]]).bool()
    return {"query.weight": weight, "query.bias": torch.ones(2)}, {"query.weight": mask}


def test_the_layout_by_hand() -> None:
    packed = pack(*worked_example())
    assert list(packed) == [
        *(f"query.{part}" for part in ("shape", "compressed", "bitmask", "row_offsets")),
        "query.bias",
    ]
    assert packed["query.shape"].tolist() == [3, 9]
    assert packed["query.compressed"].tolist() == [1, 0, 2, 3, 0]
    assert packed["query.compressed"].signbit().tolist() == [False, True, False, False, False]
    # column j is bit j mod 8 of byte j // 8, least significant first: 0b1101, 0b1
    assert packed["query.bitmask"].tolist() == [[0b1101, 0b1], [0, 0], [0b10, 0]]
    assert packed["query.row_offsets"].tolist() == [0, 4, 4]
    dtypes = [packed[f"query.{p}"].dtype for p in ("shape", "compressed", "bitmask", "row_offsets")]
    assert dtypes == [torch.int64, torch.float32, torch.uint8, torch.int64]


def test_more_dimensions_are_rows_of_the_last() -> None:
    mask = torch.tensor([[[1, 0], [0, 0]], [[1, 1], [0, 1]]]).bool()
    packed = pack({"w": mask.half()}, {"w": mask})
    assert packed["w.shape"].tolist() == [2, 2, 2]
    assert packed["w.bitmask"].tolist() == [[1], [0], [3], [2]]
    assert packed["w.row_offsets"].tolist() == [0, 1, 1, 3]


def test_strides_and_graphs_do_not_matter() -> None:
    weight = nn.Parameter(torch.tensor([[1.0, 0.0], [2.0, 3.0]]).t())
    mask = torch.tensor([[True, True], [False, True]])
    assert pack({"w": weight}, {"w": mask})["w.compressed"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_pruned_zero_loses_its_sign_and_a_kept_one_has_it(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    mask = torch.tensor([True, False, True])
    save({"w": torch.tensor([1.0, -0.0, -0.0], dtype=dtype)}, {"w": mask}, tmp_path / PACKED)
    tensors, masks = load(tmp_path / PACKED)
    assert tensors["w"].tolist() == [1.0, 0.0, 0.0]
    assert tensors["w"].signbit().tolist() == [False, False, True]
    assert torch.equal(masks["w"], mask)


@pytest.mark.parametrize("value", [1e-45, float("nan"), -2.5])
def test_a_pruned_weight_that_is_not_zero_is_named(tmp_path: Path, value: float) -> None:
    mask = torch.tensor([[True, True], [True, False]])
    message = (
        rf"'w' is {str(torch.tensor(value).item()).replace('.', '[.]')} at \(1, 1\), where its "
        r"mask prunes, and not 0.0 in 1 such places: apply the mask"
    )
    tensors = {"w": torch.tensor([[1.0, 1.0], [1.0, value]])}
    with pytest.raises(MaskError, match=message):
        save(tensors, {"w": mask}, tmp_path / PACKED)
    assert not (tmp_path / PACKED).exists()
    masks_module.apply({"w": mask}, tensors)
    save(tensors, {"w": mask}, tmp_path / PACKED)


def test_masks_of_other_tensors_are_refused() -> None:
    tensors = {"w": torch.ones(2), "n": torch.ones(2, dtype=torch.int64)}
    every = torch.ones(2, dtype=torch.bool)
    with pytest.raises(MaskError, match="'v' has a mask but no tensor"):
        pack(tensors, {"v": every})
    with pytest.raises(MaskError, match=r"the mask of 'w' is torch.bool of shape \(1,\)"):
        pack(tensors, {"w": every[:1]})
    with pytest.raises(
        MaskError, match=r"the mask of 'w' is torch.float32 .*: masks are torch.bool"
    ):
        pack(tensors, {"w": every.float()})
    with pytest.raises(MaskError, match=r"'n' is torch.int64: masks are of floating-point weights"):
        pack(tensors, {"n": every})


@pytest.mark.parametrize(
    ("names", "masked"),
    [
        (["a.weight", "a"], ["a.weight", "a"]),
        (["a.weight", "a.shape"], ["a.weight"]),
        (["a.shape", "a.weight"], ["a.weight"]),
    ],
)
def test_two_entries_of_one_name_are_refused(names: list[str], masked: list[str]) -> None:
    every = torch.ones(1, dtype=torch.bool)
    message = r"packing 'a(.\w+)?' takes the name 'a\.\w+', which is taken"
    with pytest.raises(MaskError, match=message):
        pack({name: torch.ones(1) for name in names}, dict.fromkeys(masked, every))


# what is read ---------------------------------------------------------------------------------


@given(data=st.data())
def test_a_packed_file_cut_short_anywhere_is_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / PACKED
    save(*worked_example(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(FileError, match="is not a whole safetensors file"):
        load(path)


@given(data=st.data())
def test_a_flipped_bit_anywhere_is_refused_or_seen(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / PACKED
    model = worked_example()
    save(*model, path)
    content = bytearray(path.read_bytes())
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << (bit % 8)
    path.write_bytes(content)
    try:
        tensors, masks = load(path)
    except FileError:
        return
    assert not (same(tensors, model[0]) and same(masks, model[1]))


def test_every_flipped_bit_of_the_mask_and_its_offsets_is_refused(tmp_path: Path) -> None:
    path = tmp_path / PACKED
    for part in ("query.bitmask", "query.row_offsets"):
        for bit in range(8 * pack(*worked_example())[part].nbytes):
            packed = pack(*worked_example())
            flat = packed[part].view(torch.uint8).reshape(-1)
            flat[bit // 8] ^= 1 << (bit % 8)
            written(path, packed)
            with pytest.raises(FileError, match=r"is a damaged packed file: 'query\.weight': "):
                load(path)


def written(path: Path, packed: Tensors, masked: Any = ("query.weight",)) -> Path:
    """A packed file of these parts."""
    text = masked if isinstance(masked, str) else json.dumps(masked)
    save_file(packed, path, metadata={**FORMAT, "masked": text})
    return path


def changed(**parts: Tensor) -> Tensors:
    return pack(*worked_example()) | {f"query.{part}": value for part, value in parts.items()}


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("shape", torch.tensor([3, 8]), r"bitmask is torch.uint8 \(3, 2\), .* asks for"),
        ("shape", torch.tensor([27]), r"bitmask is torch.uint8 \(3, 2\), the shape \[27\] asks"),
        ("shape", torch.tensor([-3, -9]), r"\[-3, -9\] of torch.int64 is not a shape"),
        ("shape", torch.tensor([3.0, 9.0]), "of torch.float32 is not a shape"),
        ("shape", torch.tensor([[3, 9]]), "is not a shape"),
        ("shape", torch.tensor([2**62, 2**62]), "bitmask is"),
        ("bitmask", torch.tensor([[13, 3], [0, 0], [2, 0]], dtype=torch.uint8), "a padding bit"),
        ("bitmask", torch.tensor([[13, 1], [0, 0], [0, 0]], dtype=torch.uint8), "keeps 4 weights"),
        ("bitmask", torch.tensor([[13, 1], [2, 0], [0, 0]], dtype=torch.uint8), "row_offsets"),
        ("bitmask", torch.tensor([[13, 1], [0, 0], [2, 0]]), "bitmask is torch.int64"),
        ("compressed", torch.zeros(4), "keeps 5 weights, there are 4 values"),
        ("compressed", torch.zeros(5, 1), r"compressed is torch.float32 \(5, 1\)"),
        ("compressed", torch.zeros(5, dtype=torch.int64), "compressed is torch.int64"),
        ("row_offsets", torch.tensor([0, 4, 5]), "row_offsets are not those of the bitmask"),
        ("row_offsets", torch.tensor([0, 4]), r"row_offsets is torch.int64 \(2,\)"),
        ("row_offsets", torch.tensor([0, 4, 4], dtype=torch.int32), "row_offsets is torch.int32"),
    ],
    ids=range(16),
)
def test_parts_that_contradict_each_other_are_refused(
    tmp_path: Path, part: str, value: Tensor, message: str
) -> None:
    path = written(tmp_path / PACKED, changed(**{part: value}))
    with pytest.raises(FileError, match=rf"damaged packed file: 'query\.weight': .*({message})"):
        load(path)


@pytest.mark.parametrize(
    ("masked", "message"),
    [
        (["query.weight", "query.weight"], "two masked tensors have the same parts"),
        (["query.weight", "query"], "two masked tensors have the same parts"),
        (["key.weight"], r"'key\.weight' is masked and 'key\.bitmask' is missing"),
        ("{", "damaged"),
        ("[" * 100_000, "damaged"),
        ({"query.weight": 1}, "are no names"),
        ([3], "are no names"),
        (None, "are no names"),
    ],
    ids=range(8),
)
def test_names_that_are_not_those_of_its_parts_are_refused(
    tmp_path: Path, masked: Any, message: str
) -> None:
    path = written(tmp_path / PACKED, pack(*worked_example()), masked)
    with pytest.raises(FileError, match=message if message == "damaged" else f"damaged.*{message}"):
        load(path)


def test_a_tensor_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    packed = pack(*worked_example()) | {"query.weight": torch.zeros(3, 9)}
    with pytest.raises(FileError, match=r"'query\.weight' is stored twice, packed and dense"):
        load(written(tmp_path / PACKED, packed))


def test_names_missing_from_the_metadata_are_missed(tmp_path: Path) -> None:
    save_file(pack(*worked_example()), tmp_path / PACKED, metadata=FORMAT)
    with pytest.raises(FileError, match="is a damaged packed file: there is no 'masked'"):
        load(tmp_path / PACKED)


def test_without_masks_a_folder_is_packed_by_its_zeros(tmp_path: Path) -> None:
    tensors = {
        "pruned.weight": torch.tensor([[0.0, 1.0, -0.0], [2.0, 0.0, 3.0]]),
        "dense.weight": torch.ones(2, 3),
        "bias": torch.zeros(3),
        "positions": torch.zeros(1, 3, dtype=torch.int64),
    }
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    found, masks = load(pack_folder(tmp_path))
    assert masks.keys() == {"pruned.weight"}
    assert masks["pruned.weight"].tolist() == [[False, True, False], [True, False, True]]
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("metadata", [{"format": "pt"}, {**FORMAT, "version": "2"}])
def test_other_files_are_refused(tmp_path: Path, metadata: dict[str, str]) -> None:
    save_file({"w": torch.ones(1)}, tmp_path / PACKED, metadata=metadata)
    with pytest.raises(FileError, match="is not a pins-packed file: its metadata says"):
        load(tmp_path / PACKED)


# folders ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pruned BERT, its head tied to its embeddings; not to be changed."""
    folder = tmp_path_factory.mktemp("saved")
    model: Any = tiny("Bert", "ForMaskedLM")
    parameters = prunable_parameters(model).parameters
    generator = torch.Generator().manual_seed(0)
    masks = {
        name: torch.rand(parameter.shape, generator=generator) > 0.8
        for name, parameter in parameters.items()
    }
    masks_module.apply(masks, parameters)
    model.save_pretrained(folder)
    masks_module.save(masks, folder / "masks.safetensors")
    (folder / "run.json").write_text("{}")
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    for file in saved.iterdir():
        (tmp_path / "model" / file.name).parent.mkdir(exist_ok=True)
        (tmp_path / "model" / file.name).write_bytes(file.read_bytes())
    return tmp_path / "model"


def masks_of(folder: Path) -> Tensors:
    return masks_module.load(folder / "masks.safetensors")


def test_a_folder_comes_back_byte_for_byte_and_transformers_loads_it(
    folder: Path, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    packed = pack_folder(folder, masks_of(folder))
    assert packed == folder / PACKED
    before = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").unlink()
    out = unpack_folder(folder, tmp_path / "out")
    assert out.read_bytes() == before
    assert load_tensors(out)[1] == {"format": "pt"}
    assert {file.name for file in out.parent.iterdir()} == {
        file.name for file in folder.iterdir() if file.name != PACKED
    } | {"model.safetensors"}
    model = transformers.AutoModelForMaskedLM.from_pretrained(out.parent)
    for name, mask in masks_of(folder).items():
        assert not model.get_parameter(name)[~mask].any()
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight


def test_tied_tensors_stand_once_in_it(folder: Path) -> None:
    pack_folder(folder, masks_of(folder))
    names = load_file(folder / "model.safetensors").keys()
    assert sum("decoder.weight" in name or "word_embeddings" in name for name in names) == 1
    assert load(folder / PACKED)[0].keys() == names


def test_a_folder_of_several_files_comes_back_in_one(folder: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    whole = load_file(folder / "model.safetensors")
    model = transformers.AutoModelForMaskedLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="2KB")
    assert len(weight_files(folder)) > 1
    pack_folder(folder, masks_of(folder))
    out = unpack_folder(folder, tmp_path / "out")
    assert same(dict(sorted(load_file(out).items())), dict(sorted(whole.items())))
    assert [file.name for file in weight_files(out.parent)] == ["model.safetensors"]
    assert not list(out.parent.glob("model-*")) + list(out.parent.glob("*.index.json"))
    transformers.AutoModelForMaskedLM.from_pretrained(out.parent)


def test_a_folder_can_be_unpacked_in_place(folder: Path) -> None:
    pack_folder(folder, masks_of(folder))
    before = (folder / "model.safetensors").read_bytes()
    with pytest.raises(FileError, match=r"model\.safetensors exists: give another folder"):
        unpack_folder(folder, folder)
    (folder / "model.safetensors").unlink()
    unpack_folder(folder, folder)
    assert (folder / "model.safetensors").read_bytes() == before


def test_weights_are_not_written_over(folder: Path, tmp_path: Path) -> None:
    pack_folder(folder, masks_of(folder))
    for name in ("model.safetensors", "model.safetensors.index.json"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text("old")
        with pytest.raises(FileError, match="exists: give another folder to unpack into"):
            unpack_folder(folder, tmp_path / name)
        assert [file.name for file in (tmp_path / name).iterdir()] == [name]


def test_a_torn_packed_file_leaves_no_weights(folder: Path, tmp_path: Path) -> None:
    packed = pack_folder(folder, masks_of(folder))
    packed.write_bytes(packed.read_bytes()[:-1])
    with pytest.raises(FileError, match="is not a whole safetensors file"):
        unpack_folder(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_masks_that_are_not_those_of_the_file_are_refused(folder: Path) -> None:
    masks = masks_of(folder)
    name = next(iter(masks))
    with pytest.raises(MaskError, match=r"'module\.x' has a mask but no tensor"):
        pack_folder(folder, {"module.x": masks[name]})
    with pytest.raises(MaskError, match=rf"'{name}' is .* where its mask prunes"):
        pack_folder(folder, masks | {name: ~masks[name]})
    assert not (folder / PACKED).exists()


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"holds no model\.safetensors: give the folder of a model"):
        pack_folder(tmp_path, {})
    with pytest.raises(FileError, match=r"packed\.safetensors is not a file"):
        unpack_folder(tmp_path, tmp_path / "out")
