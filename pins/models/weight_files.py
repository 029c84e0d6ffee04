"""The weights of a saved model: one safetensors file, or the files that its index names.

    model.safetensors                 the weights
    model.safetensors.index.json      {"weight_map": {tensor: file}}, where there are several files

Nothing else is read: no pickle, no file outside the folder, no file that the index does not name.
A file may be a link, as in the cache of the hub's client.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pins.errors import FileError
from pins.utils.io import tensor_names, write_json
from pins.utils.text_files import read_object, reading, shown

WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
SHARDS = "model-*.safetensors"  # as transformers names several files
PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt")
BITMASK = ".bitmask"  # ends the name of the mask of a packed tensor


def weight_files(folder: Path) -> list[Path]:
    """The files with the weights of a model; each tensor is in one of them.

    Raises:
        FileError: there is none or one is missing, the index is damaged or names another kind of
            file, or a tensor is in two files: readers disagree about which of them counts.
    """
    index = folder / INDEX
    files = _indexed(index) if index.is_file() else []
    if (folder / WEIGHTS).is_file():
        # a model that was saved over a larger one leaves the index of files that are gone
        others = [file.name for file in files if file.name != WEIGHTS and file.is_file()]
        if others:
            raise FileError(
                f"{folder} holds {WEIGHTS}, and {others[0]} which its index names: keep the "
                "weights of one model"
            )
        return [folder / WEIGHTS]
    if not files:
        pickles = [file.name for pattern in PICKLES for file in sorted(folder.glob(pattern))]
        instead = f", but {shown(pickles[0])}" if pickles else ""
        raise FileError(
            f"{folder} holds no {WEIGHTS}{instead}: give the folder of a model saved as "
            "safetensors (pickled weights are not loaded)"
        )
    for file in files:
        if not file.is_file():
            raise FileError(f"{folder} holds no {file.name!r}, which {INDEX} names")
    _require_one_place(files)
    return files


def unread_files(folder: Path) -> list[Path]:
    """Files that are named as weights of a model are, and are not among its `weight_files`."""
    files = weight_files(folder)
    return [file for file in sorted(folder.glob(SHARDS)) if file not in files]


def bitmasks(files: Sequence[Path]) -> list[str]:
    """The names of the masks of packed tensors in files."""
    return [name for file in files for name in tensor_names(file) if name.endswith(BITMASK)]


def require_dense(folder: Path, files: Sequence[Path]) -> None:
    """Check that no tensor of a model is packed.

    Raises:
        FileError: one is.
    """
    if packed := bitmasks(files):
        raise FileError(
            f"{folder} holds packed weights, as {shown(packed[0])} says: run pins unpack {folder} "
            "--out DIR, and give that folder"
        )


def write_index(files: Sequence[Path]) -> None:
    """Write the index that makes safetensors files of one folder a model."""
    places = {name: file.name for file in files for name in tensor_names(file)}
    total = sum(file.stat().st_size for file in files)
    index = {"metadata": {"total_size": total}, "weight_map": places}
    write_json(index, files[0].parent / INDEX)


def _indexed(index: Path) -> list[Path]:
    """The files that an index names: safetensors in its own folder, by plain names."""
    with reading(f"{index} is no index of a model's files"):
        weight_map: Any = read_object(index)["weight_map"]
        names = sorted(set(weight_map.values()))
        if not names:
            raise ValueError("it names no file")
        for name in names:
            if Path(name).name != name or "\\" in name or not name.endswith(".safetensors"):
                raise ValueError(f"{shown(name)} is not the name of a safetensors file beside it")
        return [index.parent / name for name in names]


def _require_one_place(files: Sequence[Path]) -> None:
    place: dict[str, str] = {}
    for file in files:
        for name in tensor_names(file):
            if (other := place.setdefault(name, file.name)) != file.name:
                raise FileError(
                    f"{file.parent}: tensor {shown(name)} is in {other!r} and in {file.name!r}, "
                    "and one of the two is stale: remove that file, or save the model again"
                )
