"""Text and JSON in files: what they hold, or one error that names the file and the cause.

What is in a file is not trusted: it may be torn, of another kind, or made to do harm.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pins.errors import FileError, PinsError, first_line

SHOWN = 60  # characters of a value in a message
# how a file begins that is of another kind than its name says
KINDS = (
    (b"version https://git-lfs.github.com/", "a Git LFS pointer: run git lfs pull"),
    (b"\x1f\x8b", "compressed by gzip: unpack it"),
    (b"PK\x03\x04", "a zip archive: unpack it"),
    (b"\xff\xfe", "UTF-16: save it as UTF-8"),
    (b"\xfe\xff", "UTF-16: save it as UTF-8"),
)
BEGINNING = max(len(start) for start, _ in KINDS)


def shown(value: object) -> str:
    """`repr(value)`, shortened; also for values that Python does not print."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of 5,000 digits, a list in a list in a list …
        text = f"a very large {type(value).__name__}"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def other_kind(beginning: bytes) -> str | None:
    """What a file is that begins so, if that is another kind than text or safetensors."""
    return next((kind for start, kind in KINDS if beginning.startswith(start)), None)


def fault(path: Path) -> str | None:
    """What is odd about the file at `path`: no file, or one of another kind.

    None if nothing is, and if nothing is there: the system's own message says that.
    """
    try:
        if path.is_file():
            with path.open("rb") as file:
                kind = other_kind(file.read(BEGINNING))
            return kind and f"is {kind}"
        if path.is_symlink() and not path.exists():
            return f"is a link to {str(path.readlink())!r}, which does not exist"
        if path.is_dir():
            return "is a folder, not a file"
        return "is not a regular file" if path.exists() else None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        return f"cannot be read: {getattr(error, 'strerror', None) or error}"


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, without its byte-order mark.

    Raises:
        FileError: there is no such file, it is of another kind, not UTF-8, or holds a NUL.
    """
    if cause := fault(path):
        raise FileError(f"{path} {cause}")
    raw = b""
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise FileError(
            f"{path}, line {line}: byte 0x{raw[error.start]:02x} is not UTF-8"
        ) from error
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from error
    if (at := text.find("\0")) >= 0:
        raise FileError(f"{path}, line {text.count(chr(10), 0, at) + 1}: a NUL, so this is no text")
    return text


def parse_json(text: str | bytes) -> Any:
    """The JSON value in a text.

    Raises:
        ValueError: it is not JSON, or nested too deep, or has an integer of too many digits.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("brackets are nested too deep") from error


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        FileError: the file cannot be read, is not JSON, or holds another value.
    """
    text = read_text(path)
    try:
        value = parse_json(text)
    except ValueError as error:
        raise FileError(f"{path} is no JSON file: {first_line(error)}") from error
    if not isinstance(value, dict):
        raise FileError(f"{path} holds no JSON object, but {shown(value)}")
    return value


@contextmanager
def reading(problem: str) -> Iterator[None]:
    """In a block that takes values of a file apart: a wrong one raises FileError("{problem}: …").

    Wrong is what is missing, of another type, or out of range.
    """
    try:
        yield
    except PinsError:
        raise
    except (
        ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError,
    ) as error:  # fmt: skip
        missing = "there is no " if type(error) is KeyError else ""
        raise FileError(f"{problem}: {missing}{first_line(error)}") from error
