"""Where the weights of a model are: safetensors of its folder, each tensor in one of them."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pins import masks
from pins.errors import FileError, ModelError
from pins.models.pretrained import load_model, weights_digest
from pins.models.sparse_format import pack_folder
from pins.models.weight_files import INDEX, unread_files, weight_files
from tests.commands import Command
from tests.tiny_model import save_tiny_bert

ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def save(folder: Path, files: Mapping[str, Mapping[str, float]], index: Mapping[str, str]) -> Path:
    """Files by name with 1×1 tensors by name, and an index."""
    folder.mkdir(exist_ok=True)
    for file, tensors in files.items():
        save_file({n: torch.full((1, 1), v) for n, v in tensors.items()}, folder / file)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return folder


def test_the_files_of_the_index_are_those_that_are_read(tmp_path: Path) -> None:
    parts = {ONE: {"a": 1.0}, TWO: {"b": 1.0}, "model-00003-of-00002.safetensors": {"a": 5.0}}
    folder = save(tmp_path, parts, {"a": ONE, "b": TWO})
    save_file({"b": torch.ones(1, 1)}, folder / "masks.safetensors")
    assert weight_files(folder) == [folder / ONE, folder / TWO]
    assert weights_digest(folder).keys() == {ONE, TWO}
    assert unread_files(folder) == [folder / "model-00003-of-00002.safetensors"]


def test_a_file_that_is_not_read_is_listed(pins: Command, tmp_path: Path) -> None:
    stale = "model-00002-of-00002.safetensors"
    folder = save(tmp_path, {ONE: {"a": 1.0}, stale: {"a": 5.0}}, {"a": ONE})
    masks.save({"a": torch.ones(1, 1, dtype=torch.bool)}, folder / "masks.safetensors")
    code, _, err = pins("pack", folder)
    assert code == 0
    assert err == f"{folder / stale}: not read, since the index does not name it\n"


def test_a_link_to_the_file_is_read_as_in_the_cache_of_the_hub(tmp_path: Path) -> None:
    save(tmp_path / "blobs", {"blob": {"a": 1.0}}, {})
    folder = save(tmp_path / "snapshot", {}, {"a": ONE})
    (folder / ONE).symlink_to(tmp_path / "blobs" / "blob")
    assert weight_files(folder) == [folder / ONE]


def test_a_tensor_in_two_files_is_named_with_both(tmp_path: Path) -> None:
    # some readers take the last file, others the one that the index names
    folder = save(
        tmp_path, {ONE: {"a.weight": 1.0}, TWO: {"a.weight": 5.0}}, {"a.weight": TWO, "b": ONE}
    )
    with pytest.raises(FileError, match=f"tensor 'a.weight' is in '{ONE}' and in '{TWO}'"):
        pack_folder(folder, {})
    with pytest.raises(ModelError, match=f"tensor 'a.weight' is in '{ONE}' and in '{TWO}'"):
        load_model(str(folder), seed=0)


def test_a_missing_file_of_the_index_is_named(tmp_path: Path) -> None:
    folder = save(tmp_path, {ONE: {"a": 1.0}}, {"a": ONE, "b": TWO})
    with pytest.raises(FileError, match=f"holds no '{TWO}', which {INDEX} names"):
        weight_files(folder)


def test_one_file_beside_those_of_an_index_is_one_model_too_many(tmp_path: Path) -> None:
    folder = save(tmp_path, {"model.safetensors": {"a": 1.0}, ONE: {"a": 2.0}}, {"a": ONE})
    with pytest.raises(FileError, match=f"holds model.safetensors, and {ONE} which its index"):
        weight_files(folder)
    (folder / ONE).unlink()  # the index alone was left behind
    assert weight_files(folder) == [folder / "model.safetensors"]


@pytest.mark.parametrize(
    "name", ["x.bin", "../outside.safetensors", "/outside.safetensors", "sub/x.safetensors",
             "..\\outside.safetensors", "", ".safetensors/..", 3, None, ["x.safetensors"]]
)  # fmt: skip
def test_an_index_names_nothing_but_safetensors_of_its_folder(tmp_path: Path, name: object) -> None:
    inside = tmp_path / "model"
    save(tmp_path, {"outside.safetensors": {"a": 1.0}}, {})
    save(inside, {}, {"a": name})  # type: ignore[dict-item]
    torch.save({"a": torch.ones(1)}, inside / "x.bin")
    with pytest.raises(FileError, match=f"{INDEX} is no index of a model's files"):
        weight_files(inside)


@pytest.mark.parametrize(
    "index", ["{", "[]", "{}", '{"weight_map": {}}', '{"weight_map": 3}', "[" * 100_000,
              "9" * 5000],
    ids=range(7),
)  # fmt: skip
def test_a_damaged_index_is_one_line(tmp_path: Path, index: str) -> None:
    (tmp_path / INDEX).write_text(index)
    with pytest.raises(FileError, match=rf"\A.*{INDEX} (is|holds) no .*\Z"):
        weight_files(tmp_path)


def test_pickled_weights_alone_are_named_and_not_loaded(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(FileError, match=r"holds no model.safetensors, but 'pytorch_model.bin': "):
        weight_files(tmp_path)


def test_an_adapter_is_not_loaded_in_place_of_a_model(tmp_path: Path) -> None:
    folder = save_tiny_bert(tmp_path)
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "../other"}')
    with pytest.raises(ModelError, match=r"holds an adapter of PEFT .*: merge it"):
        load_model(str(folder), seed=0)
