"""A block in memory after it has read the calibration windows: its layers with their G."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from pins.distributed.process_group import Group
from pins.models.decoder import Decoder, State
from pins.oneshot.gram import Grams, linear_layers
from pins.oneshot.layer import Layer


class ReadBlock:
    """The linear layers of a block, each with what it reads of the calibration windows.

    A layer is a matrix (outputs, inputs) here; GPT-2's Conv1D stores the transpose.

    Attributes:
        name: of the block.
        rounding: as that of `Grams`.
    """

    def __init__(
        self,
        decoder: Decoder,
        number: int,
        block: nn.Module,
        states: Sequence[State],
        slots: Sequence[Sequence[int]],
        group: Group,
    ) -> None:
        """Pass the windows.

        Args:
            decoder: the model.
            number: of the block.
            block: with its weights in memory.
            states: what it reads of the windows of this rank.
            slots: these windows, as `shares` gives them.
            group: the ranks that share the windows.

        Raises:
            CalibrationError: a layer reads NaN or infinity.
        """
        self._modules, self._group = layers_of(decoder, number), group
        self._grams = Grams(self._modules, group)
        own = iter(states)
        for slot in slots:
            for _ in slot:
                with self._grams.watching():
                    decoder.through(block, number, next(own))
            self._grams.add()
        self.name, self.rounding = decoder.names[number], self._grams.rounding

    def layers(self, decided: Mapping[str, Tensor] | None = None) -> Iterator[Layer]:
        """The layers in the order of the block, each with its mask of `decided`, as stored."""
        grams = self._grams
        for name, module in self._modules.items():
            weight: Any = module.weight
            mask = (decided or {}).get(name)
            yield Layer(
                name,
                self.turned(name, weight.detach()).clone(),
                grams.of(name),
                grams.vectors(name),
                self._group,
                None if mask is None else self.turned(name, mask),
            )

    def turned(self, name: str, tensor: Tensor) -> Tensor:
        """A tensor of a layer as it is stored, of (outputs, inputs), and the other way round."""
        linear = isinstance(self._modules[name], nn.Linear)
        return (tensor if linear else tensor.T).contiguous()

    def write(self, name: str, weight: Tensor) -> None:
        """Give a layer other weights, (outputs, inputs)."""
        module: Any = self._modules[name]
        module.weight.copy_(self.turned(name, weight))


def layers_of(decoder: Decoder, number: int) -> dict[str, nn.Module]:
    """The linear layers of a block, by the names of their weights."""
    name = decoder.names[number]
    layers = linear_layers(decoder.model.get_submodule(name))
    return {f"{name}.{own}.weight": layer for own, layer in layers.items()}
