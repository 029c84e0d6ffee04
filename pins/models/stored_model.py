"""A model as any tool stored it: its tensors by name, each of them read when it is asked for.

    dense                               NAME
    torch.nn.utils.prune                NAME_orig and NAME_mask, until `prune.remove`
    sparse-bitmask, sparse-24-bitmask   the entries of `pins.models.sparse_bitmask`
    marlin-24                           those of `pins.models.marlin_24`
    quantised                           NAME in 8 bits and NAME_scale, NAME_zero_point
    pins-packed, pins-mask              a file of PINS; a mask has no values

Only safetensors are read: a folder with the weights of a model, or one file.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from pins import masks
from pins.errors import FileError
from pins.models import marlin_24, sparse_bitmask, sparse_format
from pins.models.pretrained import locate
from pins.models.weight_files import INDEX, WEIGHTS, weight_files
from pins.utils.io import require_format, tensor_names
from pins.utils.text_files import parse_json, read_object, reading, shown

Values = tuple[Tensor | None, Tensor | None]
"""A dense tensor, and the mask that is stored beside it; None: there is none."""

CONFIG = "config.json"
SCALE, ZERO_POINT = "_scale", "_zero_point"
DENSE, MASK = "dense", masks.FORMAT["format"]
UNREMOVED, ORIGINAL, KEPT = "torch.nn.utils.prune", "_orig", "_mask"
QUANTIZED, FLOATS = "quantised", ("F", "BF")


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a model's files.

    Attributes:
        shape: of the dense tensor.
        form: how it is stored.
        quantized: what is read are numbers of few bits times their scales.
        read: its values and its mask.
        floating: it holds floats, or a mask for them; else it is a buffer of integers.
    """

    shape: tuple[int, ...]
    form: str
    quantized: bool
    read: Callable[[], Values]
    floating: bool = True


@dataclass(frozen=True)
class StoredModel:
    """The tensors of a model by the names that they have in training.

    Attributes:
        place: the folder or the file.
        files: with its tensors.
        config: of its folder; empty without one.
        tensors: by name, in the order of the files.
    """

    place: Path
    files: tuple[Path, ...]
    config: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor]

    @classmethod
    def open(cls, model: str) -> "StoredModel":
        """The model of a folder, a safetensors file, or a name that PINS loads models by.

        Raises:
            FileError: there are no weights, a file is missing or damaged, or entries contradict
                each other.
            ModelError: there is no such model.
        """
        place = Path(model)
        if place.is_file():
            return cls(place, (place,), {}, _Entries([place]).tensors())
        folder = place if place.is_dir() else locate(model)
        packed = folder / sparse_format.PACKED
        alone = packed.is_file() and not any((folder / n).exists() for n in (WEIGHTS, INDEX))
        files = [packed] if alone else weight_files(folder)
        config = read_object(folder / CONFIG) if (folder / CONFIG).is_file() else {}
        return cls(folder, tuple(files), config, _Entries(files).tensors())


class _Entries:
    """The entries of files, and the tensors that they make."""

    def __init__(self, files: list[Path]) -> None:
        self._place = files[0] if len(files) == 1 else files[0].parent
        self._files: dict[str, Path] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._dtypes: dict[str, str] = {}
        for path in files:
            names = tensor_names(path)  # which checks the file
            with safe_open(path, framework="pt") as file:
                self._metadata = dict(file.metadata() or {})
                for name in names:
                    stored = file.get_slice(name)
                    self._files[name], self._shapes[name] = path, tuple(stored.get_shape())
                    self._dtypes[name] = str(stored.get_dtype())
        self._only_bools = {*self._dtypes.values()} == {"BOOL"}

    def tensors(self) -> dict[str, StoredTensor]:
        """What the entries make.

        Raises:
            FileError: they contradict each other.
        """
        kind = self._metadata.get("format")
        with reading(f"{self._place} is damaged"):
            if kind == MASK or self._only_bools:
                return self._masks()
            masked = None
            if kind == sparse_format.FORMAT["format"]:
                require_format(self._place, self._metadata, sparse_format.FORMAT)
                masked = parse_json(self._metadata["masked"])
            return self._of_others(masked)

    def _masks(self) -> dict[str, StoredTensor]:
        if self._only_bools:
            return {
                name: StoredTensor(shape, MASK, False, partial(self._plain_mask, name))
                for name, shape in self._shapes.items()
            }
        require_format(self._place, self._metadata, masks.FORMAT)
        shapes = parse_json(self._metadata["shapes"])
        return {
            name: StoredTensor(tuple(shape), MASK, False, partial(self._mask, name, shape))
            for name, shape in shapes.items()
        }

    def _of_others(self, masked: list[str] | None) -> dict[str, StoredTensor]:
        """The tensors of files that may hold several forms; `masked`: those that PINS packed."""
        found: dict[str, StoredTensor] = {}
        taken: set[str] = set()

        def add(name: str, entries: list[str], stored: StoredTensor) -> None:
            if name in found or name in self._files.keys() - entries:
                raise ValueError(f"{shown(name)} is stored twice, in two forms")
            found[name] = stored
            taken.update(entries)

        names = sparse_bitmask.packed_names(self._files)
        if masked is not None:
            names = {name.removesuffix(sparse_bitmask.WEIGHT): name for name in masked}
        for prefix, name in names.items():
            own = [f"{prefix}.{part}" for part in sparse_format.PARTS]
            shape = tuple(self._required(f"{prefix}.shape").flatten().tolist())
            form = "sparse-bitmask" if own[-1] in self._files else "sparse-24-bitmask"
            if masked is not None:
                form = sparse_format.FORMAT["format"]
            read = partial(self._bitmask, name, own, masked is not None)
            add(name, own, StoredTensor(shape, form, self._scales(name) is not None, read))
        for name in [each.removesuffix(ORIGINAL) for each in self._files]:
            own = [name + ORIGINAL, name + KEPT]
            if self._files.keys() >= {*own}:
                read = partial(self._pruned, *own)
                add(name, own, StoredTensor(self._shapes[own[0]], UNREMOVED, False, read))
        for prefix, own in marlin_24.packed_entries(self._files).items():
            shape = marlin_24.shape_of(*(self._shapes[entry] for entry in own))
            read = partial(self._marlin, own)
            add(f"{prefix}.weight", own, StoredTensor(shape, marlin_24.FORM, True, read))
        for name in [each for each in self._files if each not in taken]:
            if (scales := self._scales(name)) is not None:
                read = partial(self._dequantized, name)
                entries = [name, *scales]
                add(name, entries, StoredTensor(self._shapes[name], QUANTIZED, True, read))
        taken |= {entry for name in found for entry in self._scales(name) or ()}
        for name in [each for each in self._files if each not in taken]:
            floating = self._dtypes[name].startswith(FLOATS)
            read = partial(self._dense, name)
            found[name] = StoredTensor(self._shapes[name], DENSE, False, read, floating)
        return found

    # ---- what is read ----------------------------------------------------------------------------

    def _plain_mask(self, name: str) -> Values:
        return None, self._required(name)

    def _mask(self, name: str, shape: list[int]) -> Values:
        with self._of(name):
            return None, masks.from_bits(self._required(name), shape)

    def _dense(self, name: str) -> Values:
        return self._required(name), None

    def _bitmask(self, name: str, entries: list[str], own: bool) -> Values:
        with self._of(name):
            parts = [self._entry(entry) for entry in entries]
            if own:  # of PINS: its bits are the mask
                return sparse_format.unpack_one(*map(self._required, entries))
            return self._scaled(name, sparse_bitmask.dense(*parts)), None

    def _pruned(self, original: str, mask: str) -> Values:
        values, kept = self._required(original), self._required(mask)
        with self._of(mask):
            if values.shape != kept.shape or not ((kept == 0) | (kept == 1)).all():
                raise ValueError("it is no mask of zeros and ones in the shape of the weights")
        return values * (kept != 0), kept != 0

    def _marlin(self, entries: list[str]) -> Values:
        with self._of(entries[0]):
            return marlin_24.dense(*map(self._required, entries)), None

    def _dequantized(self, name: str) -> Values:
        with self._of(name):
            return self._scaled(name, self._required(name)), None

    def _scaled(self, name: str, values: Tensor) -> Tensor:
        """(values − zero point) · scale; values themselves where there are no scales."""
        entries = self._scales(name)
        if entries is None:
            return values
        scale, *zero = (self._required(entry).float() for entry in entries)
        parts = [each.reshape(*each.shape, *[1] * (2 - each.dim())) for each in (scale, *zero)]
        # a scale for all weights, for each row, or for groups of each row
        width = values.shape[-1] // max(parts[0].shape[-1], 1)
        scale, *zero = (
            each if each.shape[-1] == 1 else each.repeat_interleave(width, -1) for each in parts
        )
        return (values.float() - zero[0] if zero else values.float()) * scale

    def _scales(self, name: str) -> list[str] | None:
        if name + SCALE not in self._files:
            return None
        return [entry for entry in (name + SCALE, name + ZERO_POINT) if entry in self._files]

    # ---- entries ---------------------------------------------------------------------------------

    def _of(self, name: str) -> Any:
        return reading(f"{self._place}: {shown(name)} is damaged")

    def _entry(self, entry: str) -> Tensor | None:
        return self._required(entry) if entry in self._files else None

    def _required(self, entry: str) -> Tensor:
        if entry not in self._files:
            raise FileError(f"{self._place} holds no {shown(entry)}, which belongs to its entries")
        with safe_open(self._files[entry], framework="pt") as file:
            tensor: Tensor = file.get_tensor(entry)
            return tensor
