"""The loss change that Taylor's expansion at the dense weights predicts for a pruned model."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmarks.harness.one_shot import calibration_windows
from pins.importance.criterion import Reads
from pins.models.decoder import Decoder
from pins.oneshot.gradients import Gradients, gradients
from pins.oneshot.gram import linear_layers
from pins.oneshot.run import OneShot


@lru_cache(maxsize=1)
def derivatives(
    model: str, task: str, data: Path | None, calibration: int, length: int
) -> Gradients:
    """L, g and h of the first draw of the calibration text, at the dense weights of all layers."""
    decoder = Decoder.open(model)
    windows = calibration_windows(decoder, task, data, calibration, length).tokens
    wanted = {
        f"{block}.{name}.weight"
        for block in decoder.names
        for name in linear_layers(decoder.model.get_submodule(block))
    }
    with decoder.whole() as network:
        parameters = {name: each for name, each in network.named_parameters() if name in wanted}
        return gradients(network, parameters, windows, frozenset({Reads.GRADIENT, Reads.CURVATURE}))


def predicted(run: OneShot, known: Gradients) -> dict[str, float]:
    """Σ gΔ and Σ gΔ + ½hΔ², Δ = pruned − dense weights, in float64, of a run that is done."""
    first = second = 0.0
    for number, name in enumerate(run.decoder.names):
        with run.decoder.loaded(number) as block:
            weights: dict[str, Any] = {
                f"{name}.{own}.weight": each.weight for own, each in linear_layers(block).items()
            }
            changes = {full: -weight.double() for full, weight in weights.items()}
            run.folder.restore(number, block)
            for full, weight in weights.items():
                change = changes[full].add_(weight)
                first += float((change * known.gradient[full]).sum())
                second += float((change.square_() * known.fisher[full]).sum()) / 2
    return {"first_order": first, "second_order": first + second}
