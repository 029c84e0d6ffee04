"""The Gram matrices of a block's linear layers: G = XᵀX, summed over calibration windows."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pins.distributed.collectives import gather_json
from pins.distributed.process_group import SINGLE_PROCESS, Group
from pins.errors import CalibrationError
from pins.models.parameters import is_linear, routers
from pins.utils.text_files import shown

ROOM = 1 << 24  # numbers that a rank sends at a time: 64 MB


class Grams:
    """Sums XᵀX of the inputs of linear layers, while these run.

    Products of a window are in float32 (of float16 and bfloat16 after they were raised), their sum
    over the windows is in float64. Layers that read the same tensor, as query, key and value do,
    share one matrix.

    Of several ranks each runs one window at a time, and the products are added window by window in
    the order of the ranks. So if rank r takes windows r, r + size, …, the sums have the same bits
    for any number of ranks, one included; they depend on the order of the windows, the device and
    the number of threads. Each rank receives each product once.

    Attributes:
        rounding: the greatest relative difference, by Frobenius norm, between the first window's
            product in float32 and in float64, on rank 0.
    """

    def __init__(self, layers: Mapping[str, nn.Module], group: Group = SINGLE_PROCESS) -> None:
        self._layers, self._group = layers, group
        self._sums: dict[str, Tensor] = {}
        self._vectors: dict[str, int] = dict.fromkeys(layers, 0)
        self._same: dict[str, str] = {}  # the layer whose matrix a layer shares
        # of this window: by id what was read, and by layer the first one that read it, and how much
        self._read: dict[int, tuple[str, Tensor]] = {}
        self._seen: dict[str, tuple[str, int]] = {}
        self._rows: dict[str, Tensor] = {}
        self._first = group.rank == 0
        self.rounding = 0.0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Inside, note what the layers read of one window, or of none; at the end, add it up.

        Every rank enters and leaves as often.

        Raises:
            CalibrationError: on every rank, if a layer reads NaN or infinity on one.
        """
        self._read, self._seen, self._rows = {}, {}, {}
        hooks = [
            layer.register_forward_pre_hook(lambda _, read, name=name: self._note(name, read[0]))
            for name, layer in self._layers.items()
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            self._read = {}
        self._add()

    def _note(self, name: str, read: Tensor) -> None:
        first, _ = self._read.setdefault(id(read), (name, read))  # kept, so that no id returns
        rows = read.detach().reshape(-1, read.shape[-1])
        self._seen[name] = first, len(rows)
        if first == name:
            self._rows[name] = rows.to(torch.float32, copy=True)  # the block may write to it later

    def _add(self) -> None:
        read = set()
        for seen in gather_json(self._group, self._seen):
            for name, (first, vectors) in seen.items():
                if self._same.setdefault(name, first) != first:
                    raise AssertionError("layers that shared an input read different ones")
                self._vectors[name] += vectors
                read.add(first)
        for name in self._layers:
            if name in read:
                self._add_to(name)
        self._first, self._rows = False, {}

    def _add_to(self, name: str) -> None:
        """Add this window's product of each rank to the sum of a layer, in their order."""
        width, rows = inputs_of(self._layers[name]), self._rows.get(name)
        own = None if rows is None else rows.T @ rows
        if self._first and rows is not None and own is not None:
            wide = rows.double()
            exact = wide.T @ wide
            wrong = float((own - exact).norm() / exact.norm().clamp(1e-300))
            self.rounding = max(self.rounding, wrong)
        total = self._sums.setdefault(name, self._nothing(name))
        step = max(ROOM // max(width, 1), 1)
        for start in range(0, width, step):
            part = total[start : start + step]
            sent = part.new_empty(0, dtype=torch.float32)
            for found in self._group.gathered(
                sent if own is None else own[start : start + step].reshape(-1)
            ):
                if len(found):
                    part += found.view(part.shape)
        if not bool(total.diagonal().isfinite().all()):
            raise CalibrationError(
                f"{shown(name)} reads NaN or infinity from the calibration text: the model is "
                "damaged, or its numbers are too large for its precision"
            )

    def of(self, name: str) -> Tensor:
        """G of a layer, float64; 0 if it read nothing."""
        return self._sums[self._same[name]] if name in self._same else self._nothing(name)

    def _nothing(self, name: str) -> Tensor:
        width, weight = inputs_of(self._layers[name]), self._layers[name].weight
        assert isinstance(weight, Tensor)
        return torch.zeros(width, width, dtype=torch.float64, device=weight.device)

    def vectors(self, name: str) -> int:
        """The number of vectors that a layer read."""
        return self._vectors[name]


def linear_layers(block: nn.Module) -> dict[str, nn.Module]:
    """The linear layers of a block by name, without routers and those without weights."""
    left_out = routers(block)
    found: dict[str, Any] = {n: each for n, each in block.named_modules() if is_linear(each)}
    return {
        name: each
        for name, each in found.items()
        if each.weight.numel() and id(each.weight) not in left_out
    }


def inputs_of(layer: nn.Module) -> int:
    """The number of inputs of a linear layer."""
    weight: Any = layer.weight
    return int(weight.shape[1] if isinstance(layer, nn.Linear) else weight.shape[0])
