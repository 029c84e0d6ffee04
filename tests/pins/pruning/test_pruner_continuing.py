"""A pruning that goes on in a longer, a shorter or a second training never loses its sparsity."""

from collections.abc import Iterator
from fractions import Fraction

import pytest
import torch
from torch import nn

from pins.errors import CardinalityError, MaskError, ObservationError
from pins.pruning.authors import AuthorsPruner, Quirks
from pins.pruning.pruner import Pruner
from pins.pruning.schedules import CubicSchedule, OneShotSchedule, Schedule
from pins.selection.allocation import Allocation
from tests.pins.networks import losses, perceptron

EACH = Allocation("tensor")


class Training:
    """A network that learns and is pruned."""

    def __init__(
        self, schedule: Schedule, *, seed: int = 0, allocation: Allocation | None = None
    ) -> None:
        self.model: nn.Sequential = perceptron(seed=seed)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.05)
        self.pruner = Pruner(
            self.model, self.optimizer, "abs-pins", schedule, allocation=allocation
        )

    def run(self, steps: int, *, seed: int = 0) -> Iterator[int]:
        """Take the steps; the number of zeros after each."""
        for loss in losses(self.model, steps, seed=seed):
            torch.autograd.backward(loss)
            self.optimizer.step()
            self.pruner.step()
            self.optimizer.zero_grad()
            yield self.zeros

    @property
    def zeros(self) -> int:
        return sum(int((p == 0).sum()) for p in self.pruner.parameters.values())

    def resumed(self, schedule: Schedule) -> "Training":
        """The same state in a new process, with another schedule."""
        other = Training(schedule, seed=1, allocation=self.pruner.allocation)
        other.model.load_state_dict(self.model.state_dict())
        other.pruner.load_state_dict(self.pruner.state_dict())
        return other


def cubic(steps: int, final: float = 0.8) -> CubicSchedule:
    return CubicSchedule(steps=steps, final_sparsity=final, cooldown=2, interval=2)


@pytest.mark.parametrize("allocation", [None, EACH])
def test_a_longer_training_is_never_less_sparse(allocation: Allocation | None) -> None:
    training = Training(cubic(12), allocation=allocation)
    stored = list(training.run(7))[-1]
    assert stored > 50
    longer = cubic(60)
    assert longer.sparsity(8) < Fraction(stored, 80), "the schedule alone would let zeros grow back"
    resumed = training.resumed(longer)
    zeros = list(resumed.run(53))
    assert zeros == sorted(zeros)
    assert zeros[0] == stored
    assert zeros[-1] == training.resumed(cubic(12)).pruner.total * 0.8 == 64
    assert resumed.pruner.finished


@pytest.mark.parametrize("calendar", [True, False])
def test_the_authors_pruner_is_never_less_sparse_either(calendar: bool) -> None:
    quirks = Quirks.without("biases", "dense_between", *(() if calendar else ("calendar",)))

    def started(steps: int) -> Training:
        training = Training(cubic(steps))
        training.pruner.close()
        schedule = CubicSchedule(steps=steps, final_sparsity=0.8, cooldown=4, interval=2)
        training.pruner = AuthorsPruner(training.model, training.optimizer, schedule, quirks)
        return training

    training, longer = started(14), started(60)
    stored = list(training.run(9))[-1]
    assert stored > 50
    longer.model.load_state_dict(training.model.state_dict())
    longer.pruner.load_state_dict(training.pruner.state_dict())
    assert longer.pruner.schedule.sparsity(10) < Fraction(stored - 10, 80)
    zeros = list(longer.run(51))
    assert zeros == sorted(zeros)
    assert stored <= zeros[0] < zeros[-1]


def test_zeros_of_a_finished_pruning_stay_where_they_are() -> None:
    training = Training(cubic(12))
    list(training.run(12))
    assert training.pruner.finished
    masks = training.pruner.masks
    resumed = training.resumed(cubic(400))
    assert resumed.pruner.finished
    assert set(resumed.run(40)) == {64}
    assert all(torch.equal(mask, masks[name]) for name, mask in resumed.pruner.masks.items())
    again = resumed.resumed(cubic(4000))
    assert set(again.run(4)) == {64}


def test_a_longer_training_may_be_resumed_once_more() -> None:
    training = Training(cubic(12))
    stored = list(training.run(7))[-1]
    second = training.resumed(cubic(60))
    list(second.run(3))
    third = second.resumed(cubic(600))
    assert min(third.run(30)) >= stored


def test_a_shorter_training_decides_at_once_if_its_last_decision_is_past() -> None:
    training = Training(cubic(60))
    assert list(training.run(20))[-1] < 64
    resumed = training.resumed(cubic(12))
    assert not resumed.pruner.finished
    assert list(resumed.run(2)) == [64, 64]
    assert resumed.pruner.finished


def test_a_decision_that_was_not_taken_yet_may_be_later() -> None:
    training = Training(OneShotSchedule(0.8, at=5))
    assert set(training.run(3)) == {0}
    assert list(training.resumed(OneShotSchedule(0.8, at=9)).run(7)) == [0] * 5 + [64] * 2


def test_a_second_training_keeps_the_masks_of_the_first() -> None:
    training = Training(cubic(12))
    list(training.run(12))
    masks = training.pruner.masks
    training.pruner.close()
    for finished in (True, False):
        if not finished:
            training = Training(cubic(12))
            stored = list(training.run(7))[-1]
        second = Pruner(training.model, training.optimizer, "abs-pins", cubic(12))
        second.continue_from(training.pruner)
        assert second.steps == 0
        training.pruner = second
        zeros = list(training.run(12, seed=1))
        if finished:
            assert zeros == [64] * 12
            assert all(torch.equal(mask, masks[name]) for name, mask in second.masks.items())
        else:
            assert zeros == sorted(zeros)
            assert zeros[0] == stored
            assert zeros[-1] == 64
        assert second.finished


def test_without_it_a_second_pruner_starts_with_the_zeros_and_revives_them_if_asked() -> None:
    for revive in (False, True):
        training = Training(cubic(12))
        list(training.run(12))
        training.pruner = Pruner(
            training.model, training.optimizer, "abs-pins", cubic(12), revive_zeros=revive
        )
        zeros = list(training.run(12))
        assert zeros[-1] == 64
        assert (zeros[0] < 64) == revive


def test_a_weight_that_is_zero_by_chance_may_be_kept_again_in_the_same_training() -> None:
    training = Training(cubic(12))
    list(training.run(12))
    with torch.no_grad():
        mask = training.pruner.masks["0.weight"]
        training.model.get_parameter("0.weight")[tuple(mask.nonzero()[0])] = 0.0
    with pytest.raises(CardinalityError, match="starts with 15 weights that are not zero, and"):
        Pruner(training.model, training.optimizer, "abs-pins", cubic(12))
    second = Pruner(
        training.model,
        training.optimizer,
        "abs-pins",
        cubic(12),
        start=training.pruner.start.masks,
    )
    second.continue_from(training.pruner)
    assert second.start.zeros == 0


def test_masks_of_other_weights_are_not_gone_on_with() -> None:
    training = Training(cubic(12))
    weight = {"0.weight": training.model.get_parameter("0.weight")}
    other = Pruner(training.model, training.optimizer, "pins", cubic(12), parameters=weight)
    with pytest.raises(MaskError, match="must have the same names"):
        other.continue_from(training.pruner)


def test_a_closed_pruner_sees_no_step() -> None:
    training = Training(cubic(12))
    training.pruner.close()
    with pytest.raises(ObservationError, match="has taken no step since the last time"):
        list(training.run(1))
