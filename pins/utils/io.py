"""Files: whole or not at all, named tensors without pickle, digests."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pins.errors import FileError

ORDER = "order"  # metadata key: names in flat order; the file itself sorts its tensors


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends without an error.

    A killed process or a full disk leaves what stood at `path` before, whole.

    Raises:
        FileError: the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror or error}") from error
    os.close(handle)
    temporary = Path(name)
    # mkstemp makes files for the owner alone; a result is for whoever the umask allows.
    umask = os.umask(0)
    os.umask(umask)
    try:
        yield temporary
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(text: str, path: Path) -> None:
    """Write `text` to `path`, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(value: object, path: Path) -> None:
    """Write `value` as indented JSON to `path`, whole or not at all."""
    write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", path)


def require_replaceable(path: Path, format_: str) -> None:
    """Refuse to write over anything but an earlier JSON file of the same format.

    Raises:
        FileError: something else stands at `path`.
    """
    if not path.exists():
        return
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        earlier = None
    if not isinstance(earlier, dict) or earlier.get("format") != format_:
        raise FileError(f"{path} exists and is no {format_}: give another path")


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write named tensors to a safetensors file, whole or not at all.

    The order of `tensors` is kept in the metadata, because the format sorts what it stores. What is
    the same gives the same bytes.
    """
    order = json.dumps(list(tensors))
    with atomic(path) as temporary:
        try:
            save_file(_apart(tensors), temporary, metadata={**metadata, ORDER: order})
            _sort_metadata(temporary)
        except SafetensorError as error:
            raise FileError(f"{path} cannot be written: {error}") from error


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU; copied where they share memory, which the format cannot say."""
    apart: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        if own.untyped_storage().nbytes() != own.nbytes or own.data_ptr() in taken:
            own = own.clone()
        taken.add(own.data_ptr())
        apart[name] = own
    return apart


def _sort_metadata(path: Path) -> None:
    """The library writes metadata in an order that differs from process to process."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) <= size:  # it is the same text in another order, filled up with blanks
            file.seek(8)
            file.write(text.ljust(size))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The named tensors of a safetensors file and its metadata.

    They come in the order written in the metadata; without one, sorted by name.

    Raises:
        FileError: no such file, or not a whole safetensors file.
    """
    if not path.is_file():
        raise FileError(f"{path} is not a file: give the path of a safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            names = sorted(file.keys())
            order = json.loads(metadata.get(ORDER, "null")) or names
            if sorted(order) != names:
                raise FileError(f"{path}: the order in its metadata does not name its tensors")
            return {name: file.get_tensor(name) for name in order}, metadata
    except FileError:
        raise
    except (SafetensorError, OSError, ValueError, TypeError, RecursionError) as error:
        raise FileError(f"{path} is not a whole safetensors file: {error}") from error


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from error


def flush(folder: Path) -> None:
    """Wait until the files of a folder, and their names, are on the disk itself."""
    for file in folder.iterdir():
        if file.is_file():
            _wait_for_disk(file)
    with contextlib.suppress(OSError):  # not every system and not every disk can with a folder
        _wait_for_disk(folder)


def _wait_for_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
