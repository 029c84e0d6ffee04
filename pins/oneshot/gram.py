"""The Gram matrices of a block's linear layers: G = XᵀX, summed over calibration windows."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pins.errors import CalibrationError
from pins.models.parameters import is_linear, routers
from pins.utils.text_files import shown


class Grams:
    """Sums XᵀX of the inputs of linear layers, while these run.

    Products of a window are in float32 (of float16 and bfloat16 after they were raised), their sum
    over the windows is in float64. Layers that read the same tensor, as query, key and value do,
    share one matrix.

    Attributes:
        rounding: the greatest relative difference, by Frobenius norm, between the first window's
            product in float32 and in float64.
    """

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        self._layers = layers
        self._sums: dict[str, Tensor] = {}
        self._vectors: dict[str, int] = dict.fromkeys(layers, 0)
        self._same: dict[str, str] = {}  # the layer whose matrix a layer shares
        self._read: dict[int, tuple[str, Tensor]] = {}  # by id, what was read in this window
        self.rounding = 0.0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Inside, what the layers read is added up; one window at a time.

        Raises:
            CalibrationError: a layer reads NaN or infinity.
        """
        self._read = {}
        hooks = [
            layer.register_forward_pre_hook(lambda _, read, name=name: self._add(name, read[0]))
            for name, layer in self._layers.items()
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            self._read = {}

    def _add(self, name: str, read: Tensor) -> None:
        rows = read.detach().reshape(-1, read.shape[-1]).float()
        self._vectors[name] += len(rows)
        first, _ = self._read.setdefault(id(read), (name, read))  # kept, so that no id returns
        if self._same.setdefault(name, first) != name:
            if self._same[name] != first:
                raise AssertionError("layers that shared an input read different ones")
            return
        product = rows.T @ rows
        if not bool(product.diagonal().isfinite().all()):
            raise CalibrationError(
                f"{shown(name)} reads NaN or infinity from the calibration text: the model is "
                "damaged, or its numbers are too large for its precision"
            )
        if name not in self._sums:
            wide = rows.double()
            exact = wide.T @ wide
            self.rounding = max(
                self.rounding, float((product - exact).norm() / exact.norm().clamp(1e-300))
            )
            self._sums[name] = exact
        else:
            self._sums[name] += product

    def of(self, name: str) -> Tensor:
        """G of a layer, float64; 0 if it read nothing."""
        if name not in self._same:
            width = inputs_of(self._layers[name])
            return torch.zeros(width, width, dtype=torch.float64)
        return self._sums[self._same[name]]

    def vectors(self, name: str) -> int:
        """The number of vectors that a layer read."""
        return self._vectors[name]


def linear_layers(block: nn.Module) -> dict[str, nn.Module]:
    """The linear layers of a block by name, without routers."""
    left_out = routers(block)
    return {
        name: module
        for name, module in block.named_modules()
        if is_linear(module) and id(module.weight) not in left_out
    }


def inputs_of(layer: nn.Module) -> int:
    """The number of inputs of a linear layer."""
    weight: Any = layer.weight
    return int(weight.shape[1] if isinstance(layer, nn.Linear) else weight.shape[0])
