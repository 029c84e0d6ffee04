import pytest
import torch

from pins.importance.criteria import CRITERIA
from verification.experiments.loss_change import STEP_ALONE, Experiment, LossChange, loss_changes
from verification.experiments.model_snapshot import ModelSnapshot

FRACTIONS = (0.01, 0.5)


@pytest.fixture(scope="module")
def changes(experiment: Experiment, observed: ModelSnapshot) -> list[LossChange]:
    return list(loss_changes(experiment, observed, list(CRITERIA), FRACTIONS, experiment.losses()))


def test_every_criterion_prunes_the_same_number(changes: list[LossChange]) -> None:
    total = 2 * (4 * 16 * 16 + 2 * 16 * 32)
    assert len(changes) == 1 + len(CRITERIA) * len(FRACTIONS)
    for change in changes:
        assert change.pruned == round(change.fraction * total)


def test_pins_has_the_lowest_first_order_prediction(changes: list[LossChange]) -> None:
    for fraction in FRACTIONS:
        rows = {c.criterion: c.predicted for c in changes if c.fraction == fraction}
        assert rows["pins"] == min(rows.values())
        assert rows["magnitude"] > rows["pins"]


def test_the_step_alone_is_measured_as_predicted(changes: list[LossChange]) -> None:
    alone = changes[0]
    assert alone.criterion == STEP_ALONE
    # a small step along −g on a smooth loss: the first-order term is most of the change
    assert alone.measured == pytest.approx(alone.predicted, rel=0.2)
    assert alone.measured == pytest.approx(alone.measured_unseen)


def test_the_weights_come_back_even_after_an_error(
    experiment: Experiment, observed: ModelSnapshot
) -> None:
    before = {name: p.detach().clone() for name, p in experiment.parameters.items()}
    measuring = loss_changes(experiment, observed, ["pins"], (0.5,), experiment.losses())
    next(measuring)
    changed = [not torch.equal(before[n], p) for n, p in experiment.parameters.items()]
    assert any(changed)
    measuring.close()  # type: ignore[attr-defined]
    for name, parameter in experiment.parameters.items():
        assert torch.equal(before[name], parameter)
