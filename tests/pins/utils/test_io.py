"""Files are written whole or not at all, and read only when whole."""

import hashlib
import json
import os
import stat
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from pins.errors import FileError
from pins.utils.io import (
    atomic,
    begin_folder,
    commit_folder,
    flatten,
    load_tensors,
    save_tensors,
    sha256,
    unflatten,
    write_json,
    write_text,
)
from tests.full_disk import files_of_at_most
from verification.strategies import score_mappings


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file that is to be replaced."""
    path = tmp_path / "file"
    path.write_text("old")
    return path


def only_old_is_left(old: Path) -> bool:
    return old.read_text() == "old" and list(old.parent.iterdir()) == [old]


def test_a_write_replaces_what_stood_there(old: Path) -> None:
    write_text("new θ", old)
    assert old.read_text(encoding="utf-8") == "new θ"
    assert list(old.parent.iterdir()) == [old]


def test_missing_folders_are_made(tmp_path: Path) -> None:
    write_text("text", tmp_path / "a" / "b" / "file")
    assert (tmp_path / "a" / "b" / "file").read_text() == "text"


def test_until_the_block_ends_the_old_file_stands(old: Path) -> None:
    with atomic(old) as temporary:
        temporary.write_text("new")
        assert old.read_text() == "old"
    assert old.read_text() == "new"


def test_an_error_in_the_block_passes_and_leaves_the_old_file(old: Path) -> None:
    def interrupted_write() -> None:
        with atomic(old) as temporary:
            temporary.write_text("half")
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        interrupted_write()
    assert only_old_is_left(old)


def test_a_path_that_is_no_text_is_written_and_read_back(old: Path) -> None:
    odd = os.fsdecode(b"a\xff\\\xe2\x82\xac")  # with a byte of no UTF-8, a backslash, a euro sign
    write_json({"path": odd}, old)
    assert old.read_bytes() == b'{\n "path": "a\\udcff\\\\\xe2\x82\xac"\n}\n'
    assert os.fsencode(json.loads(old.read_text(encoding="utf-8"))["path"]) == os.fsencode(odd)


def test_a_disk_that_is_full_leaves_the_old_file(old: Path) -> None:
    with (
        files_of_at_most(1 << 16),
        pytest.raises(FileError, match="file cannot be written: File too large"),
    ):
        write_text("x" * (1 << 20), old)
    assert only_old_is_left(old)


def test_tensors_on_a_disk_that_is_full_leave_the_old_file(old: Path) -> None:
    with (
        files_of_at_most(1 << 16),
        pytest.raises(FileError, match=r"file cannot be written: .*File too large"),
    ):
        save_tensors({"w": torch.zeros(1 << 18)}, old, {})
    assert only_old_is_left(old)


def test_a_message_says_once_which_file_cannot_be_written(old: Path) -> None:
    with files_of_at_most(1 << 16), pytest.raises(FileError) as caught:
        save_tensors({"w": torch.zeros(1 << 18)}, old, {})
    assert str(caught.value).count("cannot be written") == 1


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    with pytest.raises(FileError, match="folder cannot be written: Is a directory"):
        write_text("text", tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert (tmp_path / "folder" / "inside").is_dir()


def test_a_file_is_no_folder_to_write_into(old: Path) -> None:
    with pytest.raises(FileError, match=r"below cannot be written: (Not a directory|File exists)"):
        write_text("text", old / "below")
    assert only_old_is_left(old)


def test_a_file_is_for_whom_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text("text", tmp_path / "file")
        assert os.umask(0o027) == 0o027  # left as it was
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_json_is_indented_unicode_and_ends_its_last_line(tmp_path: Path) -> None:
    write_json({"b": [1, 2.5], "a": "θ"}, tmp_path / "file")
    text = (tmp_path / "file").read_text(encoding="utf-8")
    assert json.loads(text) == {"b": [1, 2.5], "a": "θ"}
    assert "θ" in text
    assert text.endswith("}\n")
    assert "\n " in text


@given(tensors=score_mappings(zero_size=True))
def test_tensors_come_back_bit_for_bit_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, torch.Tensor]
) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip.safetensors"
    save_tensors(tensors, path, {"key": "value"})
    loaded, metadata = load_tensors(path)
    assert metadata["key"] == "value"
    assert list(loaded) == list(tensors)
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert loaded[name].shape == tensor.shape
        assert torch.equal(loaded[name], tensor)
        assert torch.equal(loaded[name].signbit(), tensor.signbit())


def test_strides_graphs_and_no_tensor_at_all_are_saved(tmp_path: Path) -> None:
    columns = torch.arange(6.0).reshape(2, 3).t().requires_grad_()
    save_tensors({"w": columns}, tmp_path / "file", {})
    assert torch.equal(load_tensors(tmp_path / "file")[0]["w"], columns)
    save_tensors({}, tmp_path / "file", {})
    assert load_tensors(tmp_path / "file")[0] == {}


def test_tensors_that_share_memory_are_saved(tmp_path: Path) -> None:
    tensor = torch.arange(4.0)
    save_tensors({"a": tensor, "b": tensor}, tmp_path / "file", {})
    loaded, _ = load_tensors(tmp_path / "file")
    assert torch.equal(loaded["a"], tensor)
    assert torch.equal(loaded["b"], tensor)


def test_without_an_order_tensors_come_sorted_by_name(tmp_path: Path) -> None:
    save_file({"b": torch.zeros(1), "a": torch.ones(1)}, tmp_path / "file")
    assert list(load_tensors(tmp_path / "file")[0]) == ["a", "b"]


@pytest.mark.parametrize("order", ['["a"]', '["a", "b", "b"]', '["a", "c"]'])
def test_an_order_of_other_names_is_refused(tmp_path: Path, order: str) -> None:
    save_file(
        {"a": torch.zeros(1), "b": torch.ones(1)}, tmp_path / "file", metadata={"order": order}
    )
    with pytest.raises(FileError, match="the order in its metadata does not name its tensors"):
        load_tensors(tmp_path / "file")


@pytest.mark.parametrize("order", ["", "{", "3", "[[1], 2]", "[" * 100_000])
def test_an_order_that_is_no_list_of_names_is_refused(tmp_path: Path, order: str) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "file", metadata={"order": order})
    with pytest.raises(FileError, match="is not a whole safetensors file"):
        load_tensors(tmp_path / "file")


@given(st.data())
def test_a_file_cut_short_anywhere_is_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.safetensors"
    save_tensors({"a": torch.arange(5.0), "b": torch.ones(3)}, path, {})
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(FileError, match="is not a whole safetensors file"):
        load_tensors(path)


@pytest.mark.parametrize(("name", "cause"), [("missing", "is not a file"), (".", "is a folder")])
def test_only_a_file_is_read(tmp_path: Path, name: str, cause: str) -> None:
    with pytest.raises(FileError, match=f"{cause}.*: give the path of a safetensors file"):
        load_tensors(tmp_path / name)


def test_sha256_is_the_digest_of_the_bytes(old: Path) -> None:
    assert sha256(old) == hashlib.sha256(b"old").hexdigest()


def test_what_cannot_be_read_has_no_digest(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="missing cannot be read: No such file"):
        sha256(tmp_path / "missing")


def test_the_same_tensors_and_metadata_are_the_same_bytes(tmp_path: Path) -> None:
    tensors = {"b": torch.arange(6.0), "a": torch.ones(2, 3, dtype=torch.bool)}
    metadata = {f"key {number}": 'né "quoted"\n\t\x01' * number for number in range(9)}
    path = tmp_path / "file"
    written = []
    for _ in range(4):
        save_tensors(tensors, path, metadata)
        written.append(path.read_bytes())
    assert written == written[:1] * 4
    found, said = load_tensors(path)
    assert list(found) == ["b", "a"]
    assert {name: said[name] for name in metadata} == metadata
    save_tensors(tensors, path, {**metadata, "key 0": "other"})
    assert path.read_bytes() != written[0]
    # what the library alone writes comes in any order
    alone = set()
    for _ in range(8):
        save_file(tensors, path, metadata)
        alone.add(path.read_bytes())
    assert len(alone) > 1


def test_tensors_that_share_memory_are_each_saved_whole(tmp_path: Path) -> None:
    whole = torch.arange(12.0)
    tensors = {
        "whole": whole,
        "again": whole,
        "part": whole[3:7],
        "columns": whole.reshape(3, 4).t(),
        "spread": whole[:1].expand(5),
        "empty": torch.empty(0),
        "another": torch.empty(0),
        "parameter": torch.nn.Parameter(whole),
    }
    save_tensors(tensors, tmp_path / "file", {})
    found, _ = load_tensors(tmp_path / "file")
    assert list(found) == list(tensors)
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    assert torch.equal(whole, torch.arange(12.0))


def test_a_folder_replaces_the_earlier_one_when_it_is_whole(tmp_path: Path) -> None:
    place = tmp_path / "folder"
    for text in ("first", "second"):
        temporary = begin_folder(place)
        (temporary / "half").write_text("half")
        assert list(begin_folder(place).iterdir()) == []  # what an earlier attempt left is gone
        (temporary / "file").write_text(text)
        assert not place.exists() or (place / "file").read_text() == "first"
        commit_folder(temporary, place)
        assert (place / "file").read_text() == text
        assert list(tmp_path.iterdir()) == [place]
    (tmp_path / "a file").write_text("")
    with pytest.raises(FileError, match="folder cannot be written"):
        begin_folder(tmp_path / "a file" / "folder")


def test_groups_of_names_come_back() -> None:
    groups = {"a": {"x": 1, "y/z": 2}, "a.b": {"x": 3}, "none": {}}
    flat = flatten(groups)
    assert flat == {"a/x": 1, "a/y/z": 2, "a.b/x": 3}
    assert {group: unflatten(flat, group) for group in groups} == groups
