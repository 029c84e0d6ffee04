"""Text and JSON of files that are not trusted, and what is said of one that cannot be read."""

import gzip
import os
from pathlib import Path
from typing import Any

import pytest

from pins.errors import FileError, SettingError
from pins.utils.text_files import fault, parse_json, read_object, read_text, reading, shown

NOTHING: dict[str, Any] = {"none": None, "three": 3}


def written(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer: run git lfs pull"),
        (gzip.compress(b"{}", mtime=0), "compressed by gzip: unpack it"),
        (b"PK\x03\x04", "a zip archive: unpack it"),
        ("{}".encode("utf-16"), "UTF-16: save it as UTF-8"),
    ],
)
def test_a_file_of_another_kind_is_called_by_its_name(
    tmp_path: Path, content: bytes, cause: str
) -> None:
    file = written(tmp_path / "f", content)
    assert fault(file) == f"is {cause}"
    with pytest.raises(FileError, match=rf"f is {cause}\Z"):
        read_object(file)


def test_what_is_no_file_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    assert fault(tmp_path) == "is a folder, not a file"
    assert fault(tmp_path / "link") == "is a link to 'nowhere', which does not exist"
    assert fault(tmp_path / "pipe") == "is not a regular file"  # reading it would wait for ever
    assert fault(tmp_path / "none") is None
    with pytest.raises(FileError, match="none cannot be read: No such file or directory"):
        read_text(tmp_path / "none")
    assert fault(written(tmp_path / "whole", b"{}")) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\nb\xe9", "f, line 2: byte 0xe9 is not UTF-8"),
        (b"a\n\nb\0", "f, line 3: a NUL, so this is no text"),
        (b"{", "f is no JSON file: Expecting property name"),
        (b"9" * 5000, r"f is no JSON file: Exceeds the limit \(4300 digits\)"),
        (b"[" * 100_000, "f is no JSON file: brackets are nested too deep"),
        (b"[1, 2]", r"f holds no JSON object, but \[1, 2\]"),
    ],
)
def test_an_object_that_is_none_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(FileError, match=message):
        read_object(written(tmp_path / "f", content))


def test_a_byte_order_mark_is_not_read(tmp_path: Path) -> None:
    assert read_object(written(tmp_path / "f", b'\xef\xbb\xbf{"\xc3\xa9": 1}')) == {"é": 1}


def test_json_that_python_cannot_read_is_a_value_error() -> None:
    for text in ("[" * 100_000, "9" * 5000, "nope"):
        with pytest.raises(ValueError, match=r"deep|digits|Expecting"):
            parse_json(text)
    assert parse_json('{"a": [1]}') == {"a": [1]}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\nb\x1b[31m", r"'a\nb\x1b[31m'"),
        ("x" * 99, "'" + "x" * 59 + "…"),
    ],
)
def test_values_of_files_are_shown_quoted_and_short(value: object, text: str) -> None:
    assert shown(value) == text


def test_values_that_python_does_not_print_are_shown() -> None:
    assert shown(16**5000) == "a very large int"
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    assert shown(deep) == "a very large list"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: NOTHING["x"], "it is wrong: there is no 'x'"),
        (lambda: [][0], "it is wrong: list index out of range"),
        (lambda: NOTHING["none"].x, "it is wrong: 'NoneType' object has no attribute 'x'"),
        (lambda: 1 / 0, "it is wrong: division by zero"),
        (lambda: float("a\x1b"), r"it is wrong: could not convert string to float: 'a\\x1b'"),
        (lambda: len(NOTHING["three"]), "it is wrong: object of type 'int' has no len"),
    ],
)
def test_a_wrong_value_is_an_error_of_its_file(wrong: Any, message: str) -> None:
    with pytest.raises(FileError, match=message), reading("it is wrong"):
        wrong()


def test_errors_of_pins_and_those_of_nobody_pass() -> None:
    for kind in (SettingError, KeyboardInterrupt, AssertionError):
        with pytest.raises(kind, match=r"\Amine\Z"), reading("it is wrong"):
            raise kind("mine")
