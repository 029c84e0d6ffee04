"""The linear layers of a few blocks of a decoder, with what they read in the dense model."""

from functools import lru_cache
from pathlib import Path

from torch import nn

from benchmarks.harness.one_shot import calibration_windows
from pins.errors import SettingError
from pins.models.decoder import Decoder
from pins.oneshot.gram import Grams, linear_layers
from pins.oneshot.layer import Layer


@lru_cache(maxsize=1)
def captured(
    model: str, task: str, data: Path | None, calibration: int, length: int, blocks: tuple[int, ...]
) -> dict[int, dict[str, Layer]]:
    """The layers of some blocks by number and name, on the first draw of the calibration text.

    Raises:
        PinsError: model or text do not fit, or there is no such block.
    """
    decoder = Decoder.open(model)
    if max(blocks) >= len(decoder):
        raise SettingError(
            f"blocks are {blocks}, and {model} has {len(decoder)}: give numbers below that"
        )
    windows = calibration_windows(decoder, task, data, calibration, length)
    states = [decoder.first(tokens) for tokens in windows.tokens]
    found: dict[int, dict[str, Layer]] = {}
    for number in range(max(blocks) + 1):
        with decoder.loaded(number) as block:
            modules = linear_layers(block)
            grams = Grams(modules if number in blocks else {})
            for i, state in enumerate(states):
                with grams.watching():
                    states[i] = decoder.through(block, number, state)
            grams.add()
            if number in blocks:
                found[number] = {n: _layer(n, module, grams) for n, module in modules.items()}
    return found


def _layer(name: str, module: nn.Module, grams: Grams) -> Layer:
    stored: nn.Parameter = module.weight  # type: ignore[assignment]
    weight = stored.detach() if isinstance(module, nn.Linear) else stored.detach().T
    return Layer(name, weight.clone().contiguous(), grams.of(name), grams.vectors(name))
