"""A pruning resumes with the settings that decided its masks, and with no others."""

import json
from fractions import Fraction
from typing import Any

import pytest
import torch

from pins.errors import CheckpointError
from pins.importance.smoothing import ExponentialAverage, Uncertainty, WindowMean
from pins.importance.trust_region.criterion import TrustRegion
from pins.pruning.authors import AuthorsPruner, Quirks
from pins.pruning.fingerprint import require_same
from pins.pruning.pruner import Pruner
from pins.pruning.schedules import CubicSchedule, LinearSchedule, OneShotSchedule
from pins.selection.allocation import Allocation
from tests.pins.networks import perceptron

SCHEDULE: dict[str, Any] = {"steps": 40, "final_sparsity": 0.8, "warmup": 2, "cooldown": 5}


def cubic(**changes: Any) -> CubicSchedule:
    return CubicSchedule(**{**SCHEDULE, **changes})


def pruner(criterion: Any = "obd", schedule: Any = None, **options: Any) -> Pruner:
    model = perceptron()
    optimizer = torch.optim.AdamW(model.parameters())
    options = {"smoothing": Uncertainty(), "loss": lambda: 1.0, **options}
    return Pruner(model, optimizer, criterion, schedule or cubic(), **options)


def region(**options: Any) -> Pruner:
    return pruner(TrustRegion(**options), smoothing=None)


def authors(*without: str) -> Pruner:
    model = perceptron()
    optimizer = torch.optim.AdamW(model.parameters())
    quirks = Quirks.without("biases", *without)
    return AuthorsPruner(model, optimizer, cubic(), quirks)


def resume(stored: Pruner, given: Pruner) -> None:
    """As from a file of JSON values."""
    settings = json.loads(json.dumps(stored.state_dict()["settings"]))
    given.load_state_dict({**stored.state_dict(), "settings": settings})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (pruner("abs-pins"), "criterion was 'obd' and is 'abs-pins' now: give the same to resume"),
        (region(), "criterion was 'obd' and is 'trust-region' now"),
        (pruner(schedule=cubic(final_sparsity=0.5)), "sparsity was 0.8 and is 0.5 now"),
        (pruner(schedule=cubic(final_sparsity=0.5, steps=400)), "sparsity was 0.8 and is 0.5 now"),
        (
            pruner(schedule=LinearSchedule(**SCHEDULE)),
            "schedule was 'CubicSchedule' and is 'LinearSchedule' now",
        ),
        (pruner(schedule=OneShotSchedule(0.8)), "and is 'OneShotSchedule'"),
        (pruner(schedule=cubic(interval=1)), "schedule's interval was 10 and is 1 now"),
        (pruner(schedule=cubic(interval=1, steps=99)), "schedule's interval was 10 and is 1 now"),
        (pruner(schedule=cubic(initial_sparsity=0.1)), "initial_sparsity was 0.0 and is 0.1 now"),
        (pruner(schedule=cubic(warmup=3)), "schedule's warmup was 2 and is 3 now"),
        (pruner(schedule=cubic(cooldown=6)), "schedule's cooldown was 5 and is 6 now"),
        (pruner(smoothing=WindowMean()), "smoothing was 'uncertainty' and is 'window' now"),
        (
            pruner(smoothing=Uncertainty(0.85, 0.9)),
            "smoothing's beta of the deviation was 0.95 and is 0.9 now",
        ),
        (
            pruner(smoothing=Uncertainty(window=True)),
            "smoothing's beta of the window was None and is 1.0 now",
        ),
        (
            pruner(allocation=Allocation("tensor")),
            "allocation's scope was 'global' and is 'tensor' now",
        ),
        (
            pruner(allocation=Allocation(layer_minimum=Fraction(1, 9))),
            "allocation's layer_minimum was 0 and is '1/9' now",
        ),
        (pruner(curvature=dict), "curvature was \"the optimiser's\" and is 'given' now"),
    ],
)
def test_a_setting_that_differs_is_named_with_both_values(given: Pruner, message: str) -> None:
    with pytest.raises(CheckpointError) as refused:
        resume(pruner(), given)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert given.steps == given.sparsity == 0


@pytest.mark.parametrize(
    ("stored", "given", "message"),
    [
        (region(), region(radius=0.25), "criterion's radius was 0.5 and is 0.25 now"),
        (region(), region(damping=1.0), "criterion's damping was 0.1 and is 1.0 now"),
        (
            pruner(smoothing=ExponentialAverage(0.5)),
            pruner(smoothing=ExponentialAverage(0.25)),
            "smoothing's beta of the average was 0.5 and is 0.25 now",
        ),
        (
            authors(),
            authors("loose_threshold"),
            "quirk loose_threshold was True and is False now",
        ),
    ],
)
def test_settings_of_a_criterion_are_compared(stored: Pruner, given: Pruner, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        resume(stored, given)


@pytest.mark.parametrize(
    "given",
    [
        pruner(),
        pruner(schedule=cubic(final_sparsity=Fraction(4, 5), warmup=2)),
        pruner(schedule=cubic(steps=400, warmup=25, cooldown=153)),
        pruner(schedule=cubic(steps=20, warmup=0)),
        pruner(allocation=Allocation(layer_minimum=0.0)),
    ],
)
def test_the_same_settings_and_another_number_of_steps_resume(given: Pruner) -> None:
    resume(pruner(), given)


def test_a_setting_of_one_of_them_alone_is_named() -> None:
    require_same({"criterion": "pins"}, {"criterion": "pins"})
    with pytest.raises(CheckpointError, match="shares was None and is 2 now"):
        require_same({"criterion": "pins"}, {"criterion": "pins", "shares": 2})
    with pytest.raises(CheckpointError, match="shares was 2 and is None now"):
        require_same({"criterion": "pins", "shares": 2}, {"criterion": "pins"})
