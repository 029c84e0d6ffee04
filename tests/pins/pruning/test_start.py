"""A pruning that starts with a sparse model: its zeros stay, and the schedule starts at them."""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pins.errors import CardinalityError, CheckpointError, MaskError
from pins.importance.criteria import CRITERIA
from pins.importance.smoothing import SMOOTHINGS, find_smoothing
from pins.models.parameters import prunable_parameters
from pins.pruning.authors import AuthorsPruner, Quirks
from pins.pruning.checkpoint import load_training, save_training
from pins.pruning.pruner import Pruner
from pins.pruning.schedules import CubicSchedule, GradualSchedule, OneShotSchedule, sparsity_from
from pins.pruning.start import Start
from pins.selection.allocation import Allocation
from pins.selection.constraints import Cardinality, keep_count
from pins.selection.optimality import optimality
from pins.selection.select import Decision, decide, select
from pins.selection.tree import View
from tests.pins.networks import loss_on_rows, losses, perceptron
from tests.pins.pruning.test_keep_zeros import sparse
from verification.strategies import cubic_schedules

STEPS = 20
SCHEDULE = CubicSchedule(STEPS, final_sparsity=0.8, warmup=2, cooldown=3, interval=4)


def pruner_of(model: nn.Module, criterion: str = "abs-pins", **options: Any) -> Pruner:
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    loss = loss_on_rows(model) if criterion == "trust-region" else None
    return Pruner(model, optimizer, criterion, **{"schedule": SCHEDULE, "loss": loss, **options})


def train(pruner: Pruner, model: nn.Module, first: int = 0, last: int = STEPS) -> Iterator[Any]:
    """The decision of each step, or None."""
    for number, loss in enumerate(losses(model, last)):
        if number >= first:
            torch.autograd.backward(loss)
            pruner._optimizer.step()
            yield pruner.step()
            pruner._optimizer.zero_grad()


def zeros_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach() == 0 for name, weight in weights_of(model).items()}


def weights_of(model: nn.Module) -> Mapping[str, nn.Parameter]:
    return prunable_parameters(model).parameters


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize(
    ("criterion", "smoothing"),
    # a trust region reads averages of its own
    [(c, s) for c in CRITERIA for s in SMOOTHINGS if c != "trust-region" or s == "none"],
)
def test_zeros_stay_and_every_decision_is_the_best_of_the_others(
    criterion: str, smoothing: str
) -> None:
    model = sparse()
    with torch.no_grad():  # −0.0 is zero
        model.get_parameter("0.weight")[0, 0] = -0.0
    zeros = zeros_of(model)
    start = sum(int(zero.sum()) for zero in zeros.values())

    def decided(step: int, importance: Mapping[str, Tensor], decision: Decision) -> None:
        free = {name: scores[~zeros[name]] for name, scores in importance.items()}
        best = select(free, decision.proof.keep)
        for name, mask in decision.masks.items():
            assert not (mask & zeros[name]).any()
            assert torch.equal(mask[~zeros[name]], best[name])
        kept.append(decision.proof.keep)
        assert kept[-1] == keep_count(sparsity_from(SCHEDULE, Fraction(start, 80), step), 80)

    kept: list[int] = []
    pruner = pruner_of(model, criterion, smoothing=find_smoothing(smoothing)(), on_decision=decided)
    assert pruner.start.zeros == start
    assert pruner.sparsity == start / 80
    for decision in train(pruner, model):
        assert decision is None or decision.proof.holds
        for name, parameter in weights_of(model).items():
            assert not parameter.detach()[zeros[name]].any()
            assert not parameter.detach()[zeros[name]].signbit().any()
    assert 80 - start >= kept[0] > kept[-1] == 16
    assert kept == sorted(kept, reverse=True)


def test_if_asked_for_zeros_are_revived_and_the_schedule_starts_at_0() -> None:
    model = sparse()
    zeros = zeros_of(model)
    pruner = pruner_of(model, revive_zeros=True)
    assert (pruner.sparsity, pruner.start.zeros) == (0.0, 0)
    decision = next(found for found in train(pruner, model) if found is not None)
    assert decision.proof.keep == keep_count(SCHEDULE.sparsity(6), 80)
    assert any((mask & zeros[name]).any() for name, mask in pruner.masks.items())


def test_a_dense_model_is_pruned_as_if_zeros_were_revived() -> None:
    both = [perceptron(), perceptron()]
    for model, revive in zip(both, (True, False), strict=True):
        list(train(pruner_of(model, revive_zeros=revive), model))
    assert same_weights(*both)


@given(cubic_schedules(), st.fractions(0, 1), st.integers(0, 70))
def test_the_ramp_is_that_of_a_schedule_with_this_initial_sparsity(
    schedule: CubicSchedule, start: Fraction, step: int
) -> None:
    found = sparsity_from(schedule, start, step)
    first, final = schedule.sparsity(0), schedule.sparsity(schedule.last)
    if first < start <= final:
        values = {**vars(schedule), "initial_sparsity": start}
        assert found == CubicSchedule(**values).sparsity(step)
        assert sparsity_from(schedule, start, 0) == start
        assert sparsity_from(schedule, start, schedule.last) == final
        assert found >= schedule.sparsity(step)
    elif start <= first:
        assert found == schedule.sparsity(step)


def test_one_decision_starts_at_the_zeros_too() -> None:
    schedule = OneShotSchedule(0.8, at=3)
    assert [sparsity_from(schedule, Fraction(1, 2), step) for step in (0, 2)] == [
        Fraction(1, 2)
    ] * 2
    assert sparsity_from(schedule, Fraction(1, 2), 3) == Fraction(4, 5)


def test_a_target_below_the_zeros_is_refused_unless_they_are_revived() -> None:
    model = sparse()
    zeros = pruner_of(model).start.zeros
    below = CubicSchedule(STEPS, final_sparsity=0.1)
    message = f"starts with {80 - zeros} weights that are not zero, and the schedule ends with 72: "
    with pytest.raises(CardinalityError, match=f"{message}give a sparsity of at least 0"):
        pruner_of(model, schedule=below)
    assert pruner_of(model, schedule=below, revive_zeros=True).start.zeros == 0
    same = pruner_of(model, schedule=CubicSchedule(STEPS, final_sparsity=Fraction(zeros, 80)))
    decisions = [found for found in train(same, model) if found is not None]
    assert {found.proof.keep for found in decisions} == {80 - zeros}
    assert sum(int(zero.sum()) for zero in zeros_of(model).values()) == zeros


def test_the_sparsity_that_the_message_asks_for_is_enough() -> None:
    weight = nn.Parameter(torch.tensor([1.0] * 2 + [0.0] * 1))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    options: dict[str, Any] = {"parameters": {"w": weight}}
    with pytest.raises(CardinalityError, match=r"at least 0\.333334, or revive_zeros"):
        Pruner(nn.Module(), optimizer, "magnitude", OneShotSchedule(0.0), **options)
    assert Pruner(nn.Module(), optimizer, "magnitude", OneShotSchedule(0.333334), **options)


@pytest.mark.parametrize("stop", [1, 7, 14, 18])
def test_a_resumed_training_has_the_same_bits_and_the_same_zeros(stop: int, tmp_path: Any) -> None:
    whole, cut = sparse(), sparse()
    zeros = zeros_of(whole)
    list(train(pruner_of(whole), whole))
    stored = pruner_of(cut)
    list(train(stored, cut, last=stop))
    save_training(tmp_path / "checkpoint", cut, stored._optimizer, stored)
    model = perceptron(seed=7)  # dense: the zeros come from the checkpoint
    resumed = pruner_of(model)
    load_training(tmp_path / "checkpoint", model, resumed._optimizer, resumed)
    assert resumed.start.zeros == stored.start.zeros > 0
    list(train(resumed, model, first=stop))
    assert same_weights(whole, model)
    assert all(
        parameter[zeros[name]].count_nonzero() == 0 for name, parameter in weights_of(model).items()
    )


def test_without_its_masks_of_the_start_a_state_does_not_keep_the_zeros() -> None:
    model = sparse()
    pruner = pruner_of(model)
    list(train(pruner, model, last=3))
    other = perceptron()
    other.load_state_dict(model.state_dict())
    resumed = pruner_of(other)
    resumed.load_state_dict({**pruner.state_dict(), "start": {}})
    assert resumed.start.zeros == 0


def test_another_choice_or_masks_of_other_weights_are_refused() -> None:
    state = pruner_of(sparse()).state_dict()
    with pytest.raises(CheckpointError, match="revive_zeros was False and is True now: giv"):
        pruner_of(sparse(), revive_zeros=True).load_state_dict(state)
    wrong = {**state, "start": {"0.weight": torch.ones(2, dtype=torch.bool)}}
    with pytest.raises(MaskError, match=r"the mask of '0.weight' is torch.bool of shape \(2,\)"):
        pruner_of(sparse()).load_state_dict(wrong)


def with_zero_rows(rows: int) -> nn.Sequential:
    """6 weights of the first tensor are zero for each row; none of the 32 others."""
    model = perceptron()
    with torch.no_grad():
        model.get_parameter("0.weight")[:rows] = 0.0
    return model


def test_each_tensor_keeps_its_share_as_soon_as_it_has_fewer_free_weights() -> None:
    model, shares = with_zero_rows(6), Allocation("tensor")
    pruner = pruner_of(model, allocation=shares)
    kept = [
        {name: int(mask.sum()) for name, mask in decision.masks.items()}
        for decision in train(pruner, model)
        if decision is not None
    ]
    assert [each["0.weight"] for each in kept] == [12, 11, 10, 10]  # its share is 16 at first
    assert [each["2.weight"] for each in kept] == [11, 8, 6, 6]
    half = CubicSchedule(STEPS, final_sparsity=0.5)
    with pytest.raises(
        CardinalityError, match=r"'0.weight' is to keep exactly 24 .* allow 0 to 12:"
    ):
        pruner_of(with_zero_rows(6), schedule=half, allocation=shares)


def test_a_row_with_fewer_free_weights_than_its_share_keeps_all_of_them() -> None:
    model = with_zero_rows(3)
    with torch.no_grad():
        model.get_parameter("0.weight")[3, 1:] = 0.0
    pruner = pruner_of(model, allocation=Allocation("row"), schedule=OneShotSchedule(0.5))
    list(train(pruner, model, last=3))
    assert pruner.masks["0.weight"].sum(1).tolist() == [0, 0, 0, 1, 3, 3, 3, 3]


def test_a_minimum_above_what_a_tensor_starts_with_is_refused() -> None:
    model = perceptron()
    with torch.no_grad():
        model.get_parameter("0.weight")[:7] = 0.0  # 6 of 48 are left
    with pytest.raises(
        CardinalityError, match=r"'0.weight' is to keep 8 to 48 .* allow 0 to 6: no"
    ):
        pruner_of(model, allocation=Allocation(layer_minimum=0.15))
    pruner = pruner_of(model, allocation=Allocation(layer_minimum=0.1))
    list(train(pruner, model))
    assert int(pruner.masks["0.weight"].sum()) >= 5
    assert sum(int(mask.sum()) for mask in pruner.masks.values()) == 16


def test_a_tensor_of_zeros_is_an_initial_value_in_a_dense_model() -> None:
    model = perceptron()
    with torch.no_grad():
        model.get_parameter("2.weight").zero_()
        model.get_parameter("0.weight")[0, 0] = 0.0  # one by chance, as float16 has them
    pruner = pruner_of(model)
    assert pruner.start.zeros == 1
    list(train(pruner, model))
    assert model.get_parameter("2.weight").any()
    assert model.get_parameter("0.weight")[0, 0] == 0


def test_a_tensor_of_zeros_was_pruned_in_a_sparse_model_and_a_warning_says_so() -> None:
    model = sparse()
    with torch.no_grad():
        model.get_parameter("2.weight").zero_()
    with pytest.warns(UserWarning, match=r"^1 tensors .* zero everywhere and stay so, 2.weight fi"):
        pruner = pruner_of(model)
    list(train(pruner, model))
    assert not model.get_parameter("2.weight").any()


@pytest.mark.parametrize("quirks", [(), ("loose_threshold",), ("loose_threshold", "dense_between")])
def test_the_released_code_knows_no_zeros_unless_that_quirk_is_left_out(
    quirks: tuple[str, ...],
) -> None:
    model = sparse()
    zeros = zeros_of(model)

    def started(*without: str) -> AuthorsPruner:
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
        return AuthorsPruner(model, optimizer, SCHEDULE, Quirks.without("biases", *without))

    assert started().start.zeros == 0
    pruner = started("dense_start", *quirks)
    for decision in train(pruner, model):
        assert decision is None or decision.proof.holds
        for name, parameter in weights_of(model).items():
            assert not parameter.detach()[zeros[name]].any()
    assert 16 <= sum(int(mask.sum()) for mask in pruner.masks.values()) <= 18


def test_a_decision_that_leaves_the_start_is_a_defect() -> None:
    parameters = weights_of(sparse())
    start, views = Start.of(parameters), {n: View.of(p.shape) for n, p in parameters.items()}
    tree = start.inside(Cardinality(30).tree(views))
    scores = {name: torch.zeros(parameter.shape) for name, parameter in parameters.items()}
    inside = decide(scores, tree).masks
    assert optimality(scores, inside, tree=tree).holds
    swapped = {name: mask.clone() for name, mask in inside.items()}
    first = swapped["0.weight"].reshape(-1)
    first[
        [int(first.nonzero()[0]), int((start.masks["0.weight"].reshape(-1) == 0).nonzero()[0])]
    ] = torch.tensor([False, True])
    fault = "'0.weight' keeps a weight that is frozen otherwise"
    assert optimality(scores, swapped, tree=tree).fault == fault


def test_a_gradual_schedule_decides_at_the_same_steps() -> None:
    model = sparse()
    pruner = pruner_of(model)
    assert isinstance(pruner.schedule, GradualSchedule)
    decided = [n for n, found in enumerate(train(pruner, model), start=1) if found is not None]
    assert decided == [step for step in range(1, STEPS + 1) if SCHEDULE.decides(step)]
