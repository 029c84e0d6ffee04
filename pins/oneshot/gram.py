"""The Gram matrices of a block's linear layers: G = XᵀX, summed over calibration windows."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pins.distributed.collectives import gather_json
from pins.distributed.process_group import SINGLE_PROCESS, Group
from pins.errors import CalibrationError
from pins.models.parameters import is_linear, routers
from pins.utils.text_files import shown

SLOTS = 8  # sums of windows that are added in a fixed order; so many ranks can share the windows
ROOM = 1 << 23  # numbers that a rank sends at a time: 64 MB


class Grams:
    """Sums XᵀX of the inputs of linear layers, while these run.

    Products of a window are in float32 (of float16 and bfloat16 after they were raised), sums are
    in float64. Layers that read the same tensor, as query, key and value do, share one matrix.

    Window w is of slot w mod `SLOTS`. The windows of a slot are summed in their order, on one rank,
    then the slots in theirs, on every rank: so the sums have the same bits for any number of ranks,
    one included. They depend on the order of the windows, the device and the number of threads. A
    rank receives `SLOTS` sums of each matrix, however many windows there are.

        for own in shares(range(len(windows)), group):
            for number in own:
                with grams.watching():
                    block(windows[number])
            grams.add()

    Attributes:
        rounding: the greatest relative difference, by Frobenius norm, between the first window's
            product in float32 and in float64, on rank 0.
    """

    def __init__(self, layers: Mapping[str, nn.Module], group: Group = SINGLE_PROCESS) -> None:
        self._layers, self._group = layers, group
        self._sums: dict[str, Tensor] = {}
        self._vectors: dict[str, int] = dict.fromkeys(layers, 0)
        self._same: dict[str, str] = {}  # the layer whose matrix a layer shares
        # of this slot on this rank: the first layer that read the same, how much, and XᵀX
        self._seen: dict[str, tuple[str, int]] = {}
        self._slot: dict[str, Tensor] = {}
        self._first = group.rank == 0
        self.rounding = 0.0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Inside, note what the layers read of one window; it counts from the next `add` on."""
        read: dict[int, tuple[str, Tensor, Tensor]] = {}

        def note(name: str, given: Tensor) -> None:
            if id(given) not in read:  # which is kept, so that no id returns
                # a copy, since the block may write to it later
                rows = given.detach().reshape(-1, given.shape[-1]).to(torch.float32, copy=True)
                read[id(given)] = name, given, rows
            first, _, rows = read[id(given)]
            known, vectors = self._seen.get(name, (first, 0))
            if known != first:
                raise AssertionError("layers that shared an input read different ones")
            self._seen[name] = first, vectors + len(rows)

        hooks = [
            layer.register_forward_pre_hook(lambda _, given, name=name: note(name, given[0]))
            for name, layer in self._layers.items()
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
        for name, _, rows in read.values():
            product = rows.T @ rows
            if self._first:
                wide = rows.double()
                exact = wide.T @ wide
                wrong = float((product - exact).norm() / exact.norm().clamp(1e-300))
                self.rounding = max(self.rounding, wrong)
            self._slot.setdefault(name, self._nothing(name)).add_(product)
        self._first = False

    def add(self) -> None:
        """Add the slot of each rank, in the order of the ranks; every rank calls it as often.

        Raises:
            CalibrationError: on every rank, if a layer read NaN or infinity on one.
        """
        for seen in gather_json(self._group, self._seen):
            for name, (first, vectors) in seen.items():
                if self._same.setdefault(name, first) != first:
                    raise AssertionError("layers that shared an input read different ones")
                self._vectors[name] += vectors
        for name in self._layers:
            if self._same.get(name) == name:
                self._add(name)
        self._seen, self._slot = {}, {}

    def _add(self, name: str) -> None:
        total, own = self._sums.setdefault(name, self._nothing(name)), self._slot.get(name)
        step = max(ROOM // len(total), 1)
        for start in range(0, len(total), step):
            part = total[start : start + step]
            sent = part.new_empty(0) if own is None else own[start : start + step].reshape(-1)
            for found in self._group.gathered(sent):
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


def shares(windows: Sequence[int], group: Group) -> list[list[int]]:
    """The windows of this rank: one list for each of the slots that it sums, as on every rank.

    A rank that has no more slots has empty lists.
    """
    turns = -(-SLOTS // group.size)
    slots = [turn * group.size + group.rank for turn in range(turns)]
    return [[w for w in windows if w % SLOTS == slot] for slot in slots]


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
