"""What a pruned model costs: weights counted, bytes and milliseconds measured, nothing estimated.

Zeros save nothing by themselves. A file of dense tensors is as large as before, and a dense matrix
product takes as long; the report says what is saved, by what, and what is not.
"""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from torch import Tensor, nn

from pins.errors import FileError, MaskError
from pins.masks import Count, count_each
from pins.runs.latency import Latency, masked_parameters

DEFLATE_LEVEL = 6  # zlib's and zipfile's default
_CHUNK = 1 << 20  # bytes read at a time


@dataclass(frozen=True)
class Layer:
    """The weights of one masked tensor: all, those its mask keeps, those that are not zero."""

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
    """How many weights there are.

    Attributes:
        parameters: of the whole model, shared tensors counted once.
        layers: the masked tensors.
    """

    parameters: int
    layers: tuple[Layer, ...]

    @property
    def prunable(self) -> int:
        """n, the weights that have a mask."""
        return sum(layer.total for layer in self.layers)

    @property
    def kept(self) -> int:
        """k, those that the masks keep."""
        return sum(layer.kept for layer in self.layers)

    @property
    def collapsed(self) -> tuple[str, ...]:
        """Layers of which every weight is zero: nothing of their input passes."""
        return tuple(layer.name for layer in self.layers if layer.total and not layer.nonzero)


@dataclass(frozen=True)
class Disk:
    """Bytes of the weights on disk, as they are and as a stream of deflate (zip, level 6)."""

    dense: int
    packed: int
    dense_zipped: int
    packed_zipped: int


@dataclass(frozen=True)
class Costs:
    """The report; what was not measured is None."""

    weights: Weights
    disk: Disk | None = None
    latency: Latency | None = None

    def as_json(self) -> dict[str, Any]:
        """JSON values, with the ratios and sentences that follow from them."""
        weights = {
            "parameters": self.weights.parameters,
            "prunable": self.weights.prunable,
            "kept": self.weights.kept,
            "collapsed": list(self.weights.collapsed),
            "layers": [
                {**asdict(layer), "sparsity": layer.sparsity} for layer in self.weights.layers
            ],
        }
        latency = self.latency
        measured = None
        if latency is not None:
            measured = {
                **asdict(latency),
                "batch": {name: list(shape) for name, shape in latency.batch.items()},
                "verdict": latency.verdict(latency.pruned),
                "csr_verdict": None if latency.csr is None else latency.verdict(latency.csr),
            }
        disk = None if self.disk is None else asdict(self.disk)
        return {"weights": weights, "disk": disk, "latency": measured}


def count_weights(model: nn.Module, masks: Mapping[str, Tensor]) -> Weights:
    """Count the weights of a pruned model, and see that what its masks prune is zero.

    Args:
        model: pruned.
        masks: by parameter name, True = keep.

    Raises:
        MaskError: the masks are not those of parameters of the model, or were not applied to it.
    """
    parameters = masked_parameters(model, masks)
    layers = []
    for name, count in count_each(masks).items():
        weights = parameters[name].detach()
        nonzero = int(weights.count_nonzero())
        mask = masks[name].to(weights.device)
        if wrong := nonzero - int((weights.bool() & mask).count_nonzero()):
            raise MaskError(
                f"{wrong} weights of {name!r} are not zero where the mask prunes: the sparsity of "
                "the mask is not that of the model; apply the masks first"
            )
        layers.append(Layer(name, count.total, count.kept, nonzero))
    return Weights(sum(parameter.numel() for parameter in model.parameters()), tuple(layers))


def measure_disk(dense: Iterable[Path], packed: Path) -> Disk:
    """Measure the bytes of a model's files, a chunk in memory at a time.

    Args:
        dense: the files with the weights, see `pins.models.sparse_format.weight_files`.
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
    """Bytes of a file, and of its deflate stream."""
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
    """part / whole in percent to two places; 0 and 100 only where it is nothing or all."""
    nearest = (20_000 * part + whole) // (2 * whole) if whole else 0
    hundredths = nearest if part in (0, whole) else min(max(nearest, 1), 9_999)
    return f"{hundredths // 100}.{hundredths % 100:02} %"


def rows(costs: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What was measured, the number, and what it means, from `Costs.as_json`, a line each."""
    weights, disk, latency = costs["weights"], costs.get("disk"), costs.get("latency")
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
    if disk is not None:
        for name, key in (("dense file", "dense"), ("packed file", "packed")):
            size, zipped = disk[key], disk[f"{key}_zipped"]
            remark = f"{zipped:,} zipped"
            if key == "packed":
                remark += f"; dense / packed = {disk['dense'] / size:.2f}"
            found.append((f"{name}, bytes", f"{size:,}", remark))
    if latency is not None:
        found += _latency_rows(latency)
    return found


def _latency_rows(latency: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    shapes = ", ".join(
        f"{name} {' × '.join(map(str, shape))}" for name, shape in latency["batch"].items()
    )
    where = (
        f"{latency['device']}, threads: {latency['threads']}, {latency['dtype']}, {shapes}; "
        f"median of {latency['runs']} runs"
    )
    found = [
        ("latency dense, ms", f"{latency['dense']['median']:.2f}", where),
        ("latency pruned, ms", f"{latency['pruned']['median']:.2f}", latency["verdict"]),
    ]
    if latency["csr"] is not None:
        found.append(
            ("latency as CSR, ms", f"{latency['csr']['median']:.2f}", latency["csr_verdict"])
        )
    elif latency["no_csr"]:
        found.append(("latency as CSR", "–", latency["no_csr"]))
    return found


def table(costs: Costs) -> Table:
    """The report as a table of three columns."""
    table = Table(title="Costs", box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    for line in rows(costs.as_json()):
        table.add_row(*line)
    return table


def layer_table(weights: Weights) -> Table:
    """One line a masked tensor: name, weights, kept, sparsity."""
    table = Table(box=None, pad_edge=False)
    table.add_column("layer", overflow="fold")
    for heading in ("weights", "kept", "sparsity"):
        table.add_column(heading, justify="right")
    for layer in weights.layers:
        sparsity = percent(layer.total - layer.kept, layer.total)
        table.add_row(layer.name, f"{layer.total:,}", f"{layer.kept:,}", sparsity)
    return table
