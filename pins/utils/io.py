"""Files: atomic writes, named tensors without pickle, digests."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pins.errors import CheckpointError, FileError, first_line
from pins.utils.regular_files import require_regular
from pins.utils.text_files import fault, read_object
from pins.utils.unfinished import unfinished_folder

ORDER = "order"  # metadata key: names in flat order; the file itself sorts its tensors
DIGEST = "sha256"  # key in the state of a checkpoint: the digest of the rest of it

Value = TypeVar("Value")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn any OSError of the block into a FileError that names `path`."""
    try:
        yield
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror or error}") from error


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` if the block ends without an error.

    After a killed process or on a full disk the earlier file is still at `path`, whole; what the
    process left beside it, the next call for a file in the same folder removes.

    Raises:
        FileError: the folder cannot be written, or a pipe, a socket or a device is at `path`.
    """
    with writing(path):
        if path.exists():
            require_regular(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        # a folder, since libraries write to temporary files of their own beside the one given
        with unfinished_folder(path.parent) as folder:
            temporary = folder / path.name
            yield temporary
            permit(temporary)
            temporary.replace(path)


def permit(path: Path) -> None:
    """Give a file the permissions of a new one: libraries make files for the owner alone."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)


@contextmanager
def removed_on_failure(path: Path) -> Iterator[None]:
    """Remove the file that the block writes if a later part of the block fails."""
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def require_utf8(path: Path) -> None:
    """Refuse a path that is no text: tokenizers cannot be written to it.

    Raises:
        FileError: a name in it is not UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise FileError(f"the name of {path} is not UTF-8: give another folder") from None


def begin_folder(place: Path) -> Path:
    """Make an empty temporary folder beside `place`, for `commit_folder`.

    Raises:
        FileError: it cannot be made.
    """
    temporary = place.parent / f".unfinished-{place.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    with writing(place):
        temporary.mkdir(parents=True)
    return temporary


def commit_folder(temporary: Path, place: Path) -> None:
    """Replace the folder at `place` by `temporary`, once its files are on the disk.

    Raises:
        FileError: it cannot be written.
    """
    earlier = place.parent / f".earlier-{place.name}"
    with writing(place):
        flush(temporary)
        shutil.rmtree(earlier, ignore_errors=True)
        if place.exists():
            place.rename(earlier)
        temporary.rename(place)
        _wait_for_disk(place.parent)
    shutil.rmtree(earlier, ignore_errors=True)


def write_text(text: str, path: Path) -> None:
    r"""Write `text` to `path` in UTF-8, atomically.

    A byte of a path that is no UTF-8 is written as \udcXX, from which JSON restores it.
    """
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(value: object, path: Path) -> None:
    """Write `value` as indented JSON to `path`, atomically."""
    write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", path)


def require_replaceable(path: Path, format_: str) -> None:
    """Check that `path` does not exist, or is a JSON file of the same format.

    Raises:
        FileError: `path` is another file.
    """
    if not path.exists():
        return
    try:
        earlier = read_object(path).get("format")
    except FileError:
        earlier = None
    if earlier != format_:
        raise FileError(f"{path} exists and is no {format_}: give another path")


def write_state(state: Mapping[str, Any], file: Path) -> None:
    """Write the JSON object that describes a checkpoint, with its own SHA-256, atomically."""
    read_back = json.loads(json.dumps(state))  # in which a tuple is a list, and every key a text
    write_json({**read_back, DIGEST: _state_digest(read_back)}, file)


def _state_digest(state: Mapping[str, Any]) -> str:
    """The SHA-256 of a JSON object without its entry of this name, however it is formatted."""
    content = {name: value for name, value in state.items() if name != DIGEST}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_state(file: Path, format_: str, version: int) -> dict[str, Any]:
    """Read the JSON object that describes a checkpoint of this format and version.

    Raises:
        CheckpointError: it is missing, torn, of another format or version, or was changed after
            `write_state`.
    """
    try:
        state = read_object(file)
    except FileError as error:
        raise CheckpointError(f"{error}: the checkpoint is torn, or was not finished") from error
    if state.get("format") != format_:
        raise CheckpointError(f"{file} is no {format_}: give the folder of a checkpoint")
    if state.get("version") != version:
        raise CheckpointError(
            f"{file} has version {state.get('version')!r} of the format, this PINS reads {version}"
        )
    if state.get(DIGEST, found := _state_digest(state)) != found:
        raise CheckpointError(
            f"{file} has SHA-256 {found} without its entry {DIGEST!r}, which says "
            f"{state[DIGEST]!r}: it is torn or was changed; remove this checkpoint to start again"
        )
    return state


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write named tensors to a safetensors file, atomically.

    The metadata holds the order of `tensors`, because the format sorts them by name. Equal
    arguments give equal bytes.
    """
    order = json.dumps(list(tensors))
    with atomic(path) as temporary:
        try:
            save_file(_unshared(tensors), temporary, metadata={**metadata, ORDER: order})
            _sort_metadata(temporary)
        except SafetensorError as error:
            raise FileError(f"{path} cannot be written: {error}") from error


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU; copied if they share memory, which the format cannot express."""
    unshared: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        if own.untyped_storage().nbytes() != own.nbytes or own.data_ptr() in taken:
            own = own.clone()
        taken.add(own.data_ptr())
        unshared[name] = own
    return unshared


def _sort_metadata(path: Path) -> None:
    """Sort the metadata: the library writes them in an order that differs between processes."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) <= size:  # the same text in another order, padded with blanks
            file.seek(8)
            file.write(text.ljust(size))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the named tensors and the metadata of a safetensors file.

    The tensors are in the order that the metadata give; without one, sorted by name.

    Raises:
        FileError: no such file, or not a whole safetensors file.
    """
    with _open_tensors(path) as file:
        metadata = dict(file.metadata() or {})
        names = sorted(file.keys())
        order = json.loads(metadata.get(ORDER, "null")) or names
        if sorted(order) != names:
            raise FileError(f"{path}: the order in its metadata does not name its tensors")
        return {name: file.get_tensor(name) for name in order}, metadata


def tensor_names(path: Path) -> list[str]:
    """The names of the tensors of a safetensors file, from its header; errors as `load_tensors`."""
    with _open_tensors(path) as file:
        return sorted(file.keys())


@contextmanager
def _open_tensors(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise FileError(
            f"{path} {fault(path) or 'is not a file'}: give the path of a safetensors file"
        )
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except FileError:
        raise
    except (SafetensorError, OSError, ValueError, TypeError, RecursionError) as error:
        cause = fault(path) or f"is not a whole safetensors file: {first_line(error)}"
        raise FileError(f"{path} {cause}") from error


def require_format(path: Path, metadata: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """Check the format and the version in the metadata of a safetensors file.

    Raises:
        FileError: the file has another format or version.
    """
    if {key: metadata.get(key) for key in wanted} != wanted:
        raise FileError(
            f"{path} is not a {wanted['format']} file: its metadata says "
            f"{metadata.get('format')!r} version {metadata.get('version')!r}, not "
            f"{wanted['format']!r} version {wanted['version']!r}"
        )


def flatten(groups: Mapping[str, Mapping[str, Value]]) -> dict[str, Value]:
    """Values by "group/name"."""
    return {f"{group}/{name}": v for group, named in groups.items() for name, v in named.items()}


def unflatten(flat: Mapping[str, Value], group: str) -> dict[str, Value]:
    """The values of one group of `flatten`, by name."""
    start = f"{group}/"
    return {key.removeprefix(start): v for key, v in flat.items() if key.startswith(start)}


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    try:
        require_regular(path)
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from error


def flush(folder: Path) -> None:
    """Wait until the files of a folder, and their names, are on the disk itself."""
    for path in (*folder.iterdir(), folder):
        _wait_for_disk(path)


def _wait_for_disk(path: Path) -> None:
    # not every system and not every disk can do so for a folder
    with contextlib.suppress(OSError) if path.is_dir() else contextlib.nullcontext():
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
