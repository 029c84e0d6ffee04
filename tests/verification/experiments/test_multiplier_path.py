"""The path from optimal brain damage to PINS: its ends, and what grows along it."""

from itertools import pairwise

import pytest
import torch

from pins.importance.taylor_models import FirstOrderModel
from pins.importance.trust_region.criterion import OF_FEW_ROWS, TrustRegion
from pins.selection.constraints import keep_count
from pins.selection.select import select
from verification.experiments.loss_change import Experiment, loss_changes
from verification.experiments.model_snapshot import ModelSnapshot
from verification.experiments.multiplier_path import FRACTION, PathPoint, multiplier_path


@pytest.fixture(scope="module")
def points(experiment: Experiment, observed: ModelSnapshot) -> list[PathPoint]:
    return list(multiplier_path(experiment, observed, experiment.losses()))


def test_it_goes_from_brain_damage_to_pins(
    experiment: Experiment, observed: ModelSnapshot, points: list[PathPoint]
) -> None:
    assert points[0].multiplier == 0
    assert points[-1].multiplier is None
    total = sum(weight.numel() for weight in observed.before.values())
    model = FirstOrderModel(observed.gradient, observed.before, observed.after)
    offset = OF_FEW_ROWS * sum(float(h.sum()) for h in (observed.curvature or {}).values()) / total
    damage = {
        name: 0.5 * (seen.curvature + offset) * seen.after.square()
        for name, seen in observed.observations.items()
    }
    keep = keep_count(FRACTION, total)
    for point, scores in ((points[0], damage), (points[-1], observed.importance("pins"))):
        expected = model.predicted_change(select(scores, keep))
        assert point.predicted == pytest.approx(expected, rel=1e-9)
    start = experiment.losses()
    (_, pins) = loss_changes(experiment, observed, ["pins"], [FRACTION], start)
    assert points[-1].measured == pins.measured
    assert points[-1].measured_unseen == pins.measured_unseen


def test_the_predicted_reduction_grows_with_the_multiplier(points: list[PathPoint]) -> None:
    inner = [point.multiplier for point in points[1:-1]]
    assert all(a is not None and b is not None and a < b for a, b in pairwise(inner))
    assert all(b.predicted <= a.predicted + 1e-12 for a, b in pairwise(points))
    assert points[-1].predicted < points[0].predicted


def test_the_predicted_reduction_is_at_most_the_share_of_the_loss(
    experiment: Experiment, points: list[PathPoint]
) -> None:
    loss = experiment.losses().rows
    for point in points[1:-1]:
        assert point.share is not None
        assert points[0].predicted - point.predicted <= point.share * loss * (1 + 1e-6)


def test_the_weights_come_back(experiment: Experiment, observed: ModelSnapshot) -> None:
    before = {name: weight.detach().clone() for name, weight in experiment.parameters.items()}
    assert list(multiplier_path(experiment, observed, experiment.losses()))
    for name, weight in experiment.parameters.items():
        assert torch.equal(weight, before[name])


def test_the_default_radius_is_half_of_the_loss() -> None:
    # the figure marks half of the loss, where a trust region starts from
    assert TrustRegion().radius == 0.5
