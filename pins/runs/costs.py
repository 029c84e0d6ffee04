"""The costs of a pruned model: numbers of weights, bytes on disk, milliseconds of a forward pass.

All are counted or measured, none is estimated. Zeros alone save nothing: a file of dense tensors
keeps its size and a dense matrix product its duration.
"""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pins.errors import FileError, MaskError
from pins.masks import Count, count_each
from pins.runs.latency import Latency, masked_parameters

DEFLATE_LEVEL = 6  # the default of zlib and zipfile
_CHUNK = 1 << 20  # bytes read at a time


@dataclass(frozen=True)
class Layer:
    """The numbers of weights of one masked tensor: all, kept by its mask, not zero."""

    name: str
    total: int
    kept: int
    nonzero: int

    @property
    def sparsity(self) -> float:
        """1 − kept ratio."""
        return Count(self.kept, self.total).sparsity


@dataclass(frozen=True)
class Weights:
    """The numbers of weights of a model.

    Attributes:
        parameters: of the whole model, shared tensors counted once.
        layers: the masked tensors.
    """

    parameters: int
    layers: tuple[Layer, ...]

    @property
    def prunable(self) -> int:
        """n, the number of weights that have a mask."""
        return sum(layer.total for layer in self.layers)

    @property
    def kept(self) -> int:
        """k, the number of weights that the masks keep."""
        return sum(layer.kept for layer in self.layers)

    @property
    def collapsed(self) -> tuple[str, ...]:
        """Layers whose weights are all zero: they pass nothing of their input on."""
        return tuple(layer.name for layer in self.layers if layer.total and not layer.nonzero)


@dataclass(frozen=True)
class Disk:
    """Bytes of the weights on disk, as files and as deflate streams (zip, level 6)."""

    dense: int
    packed: int
    dense_zipped: int
    packed_zipped: int


@dataclass(frozen=True)
class Costs:
    """Everything that was counted and measured."""

    weights: Weights
    disk: Disk
    latency: Latency

    def as_json(self) -> dict[str, Any]:
        """JSON values, with the ratios and sentences derived from them."""
        weights, latency = self.weights, self.latency
        return {
            "weights": {
                "parameters": weights.parameters,
                "prunable": weights.prunable,
                "kept": weights.kept,
                "collapsed": list(weights.collapsed),
                "layers": [
                    {**asdict(layer), "sparsity": layer.sparsity} for layer in weights.layers
                ],
            },
            "disk": asdict(self.disk),
            "latency": {
                **asdict(latency),
                "batch": {name: list(shape) for name, shape in latency.batch.items()},
                "verdict": latency.verdict(latency.pruned),
                "csr_verdict": None if latency.csr is None else latency.verdict(latency.csr),
            },
        }


def count_weights(model: nn.Module, masks: Mapping[str, Tensor]) -> Weights:
    """Count the weights of a pruned model, and check that each pruned weight is zero.

    Args:
        model: pruned.
        masks: by parameter name, True = keep.

    Raises:
        MaskError: a mask fits no parameter of the model, or was not applied.
    """
    parameters = masked_parameters(model, masks)
    layers = []
    for name, count in count_each(masks).items():
        weights = parameters[name].detach()
        nonzero = int(weights.count_nonzero())
        mask = masks[name].to(weights.device)
        if wrong := nonzero - int((weights.bool() & mask).count_nonzero()):
            raise MaskError(
                f"{wrong} weights of {name!r} are not zero where the mask prunes: the mask and the "
                "model differ in sparsity; apply the masks first"
            )
        layers.append(Layer(name, count.total, count.kept, nonzero))
    return Weights(sum(parameter.numel() for parameter in model.parameters()), tuple(layers))


def measure_disk(dense: Iterable[Path], packed: Path) -> Disk:
    """Measure the bytes of a model's files, reading one chunk at a time.

    Args:
        dense: the files with the weights, see `pins.models.weight_files.weight_files`.
        packed: the packed file.

    Raises:
        FileError: a file cannot be read.
    """
    sizes = [_sizes(file) for file in dense]
    packed_size, packed_zipped = _sizes(packed)
    return Disk(
        dense=sum(size for size, _ in sizes),
        packed=packed_size,
        dense_zipped=sum(zipped for _, zipped in sizes),
        packed_zipped=packed_zipped,
    )


def _sizes(path: Path) -> tuple[int, int]:
    """The bytes of a file, and of its deflate stream."""
    deflate = zlib.compressobj(DEFLATE_LEVEL, wbits=-zlib.MAX_WBITS)
    size = zipped = 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                size += len(chunk)
                zipped += len(deflate.compress(chunk))
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from error
    return size, zipped + len(deflate.flush())


def percent(part: int, whole: int) -> str:
    """part / whole in percent, to two places; 0 and 100 only if part is 0 or whole."""
    nearest = (20_000 * part + whole) // (2 * whole) if whole else 0
    hundredths = nearest if part in (0, whole) else min(max(nearest, 1), 9_999)
    return f"{hundredths // 100}.{hundredths % 100:02} %"


def rows(costs: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The rows of the report from `Costs.as_json`: quantity, number, remark."""
    weights, disk, latency = costs["weights"], costs["disk"], costs["latency"]
    parameters, prunable, kept = weights["parameters"], weights["prunable"], weights["kept"]
    pruned = prunable - kept
    found = [
        ("parameters", f"{parameters:,}", ""),
        ("prunable", f"{prunable:,}", f"{percent(prunable, parameters)} of all"),
        ("kept", f"{kept:,}", f"{percent(kept, prunable)} of the prunable"),
        (
            "pruned",
            f"{pruned:,}",
            f"sparsity {percent(pruned, prunable)} of the prunable, "
            f"{percent(pruned, parameters)} of all",
        ),
    ]
    if collapsed := weights["collapsed"]:
        found.append(("layers all zero", str(len(collapsed)), ", ".join(collapsed)))
    ratio = disk["dense"] / disk["packed"]
    shapes = ", ".join(
        f"{name} {' × '.join(map(str, shape))}" for name, shape in latency["batch"].items()
    )
    where = (
        f"{latency['device']}, threads: {latency['threads']}, {latency['dtype']}, {shapes}; "
        f"median of {latency['runs']} runs"
    )
    found += [
        ("dense file, bytes", f"{disk['dense']:,}", f"{disk['dense_zipped']:,} zipped"),
        (
            "packed file, bytes",
            f"{disk['packed']:,}",
            f"{disk['packed_zipped']:,} zipped; dense / packed = {ratio:.2f}",
        ),
        ("latency dense, ms", f"{latency['dense']['median']:.2f}", where),
        ("latency pruned, ms", f"{latency['pruned']['median']:.2f}", latency["verdict"]),
    ]
    if (csr := latency["csr"]) is None:
        found.append(("latency as CSR", "–", latency["no_csr"]))
    else:
        found.append(("latency as CSR, ms", f"{csr['median']:.2f}", latency["csr_verdict"]))
    return found
