"""Gradual pruning to N:M, to blocks and by row: every decision keeps what its pattern says."""

from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pins.errors import CardinalityError, CheckpointError
from pins.importance.smoothing import Uncertainty
from pins.pruning.pruner import Pruner
from pins.pruning.schedules import CubicSchedule, LinearSchedule
from pins.selection.allocation import Allocation
from pins.selection.constraints import keep_count
from pins.selection.select import Decision
from pins.selection.transposable.constraint import TransposableNofM
from tests.pins.networks import tiny

STEPS = 8
EXACT = Allocation(pattern="2:4", exactly=True)


def layers() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 8))


def prune(
    model: nn.Module,
    allocation: Allocation,
    sparsity: float | Fraction | None = None,
    criterion: str = "abs-pins",
    **given: Any,
) -> tuple[Pruner, list[Decision]]:
    """Eight steps with a decision after every second one."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    final = allocation.sparsity if sparsity is None else sparsity
    assert final is not None
    schedule = LinearSchedule(steps=STEPS, final_sparsity=final, interval=2)
    rows = torch.randn(16, 16, generator=torch.Generator().manual_seed(1))
    decisions: list[Decision] = []

    def loss() -> Tensor:
        return nn.functional.mse_loss(model(rows), rows[:, :8])

    pruner = Pruner(
        model,
        optimizer,
        criterion,
        schedule,
        allocation=allocation,
        loss=lambda: float(loss().detach()),
        on_decision=lambda *given: decisions.append(given[2]),
        **given,
    )
    for _ in range(STEPS):
        torch.autograd.backward(loss())
        optimizer.step()
        pruner.step()
        optimizer.zero_grad()
    return pruner, decisions


def groups(mask: Tensor, m: int = 4) -> set[int]:
    """How many weights of m consecutive inputs are kept, in any group."""
    return set(mask.reshape(-1, m).sum(1).tolist())


@pytest.mark.parametrize(
    ("criterion", "smoothing"),
    [("abs-pins", None), ("abs-pins", Uncertainty()), ("trust-region", None)],
    ids=["plain", "averaged", "trust-region"],
)
def test_n_falls_to_the_pattern_in_every_group(
    criterion: str, smoothing: Uncertainty | None
) -> None:
    pruner, decisions = prune(layers(), EXACT, criterion=criterion, smoothing=smoothing)
    kept = [[groups(mask) for mask in each.masks.values()] for each in decisions]
    # sparsities 1/8, 1/4, 3/8, 1/2
    assert kept == [[{4}] * 2, [{3}] * 2, [{3}] * 2, [{2}] * 2]
    assert [each.proof.keep for each in decisions] == [576, 432, 432, 288]
    assert all(each.binding == () for each in decisions)
    assert str(pruner.pattern) == "2:4"
    assert pruner.sparsity == 0.5


def test_the_ratio_of_a_pattern_is_exact() -> None:
    model = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 8))
    # 16 inputs: 3 does not divide them, so the first layer stays dense
    thirds = Allocation(pattern="1:3", exactly=True, skip_indivisible=True)
    pruner, _ = prune(model, thirds)
    first, second = pruner.masks.values()
    assert first.all()
    assert groups(second, 3) == {1}
    assert pruner.schedule.sparsity(STEPS) == Fraction(2, 3)


def test_a_tensor_that_m_does_not_divide_is_named_before_the_first_step() -> None:
    with pytest.raises(CardinalityError, match=r"'0.weight' has rows of 16 weights, which 3 does"):
        prune(layers(), Allocation(pattern="1:3", exactly=True))


def test_at_most_n_of_m_under_one_number_for_all() -> None:
    pruner, decisions = prune(layers(), Allocation(pattern="2:4"), 0.6)
    masks = pruner.masks.values()
    assert decisions[-1].proof.keep == keep_count(0.6, 576) == sum(int(m.sum()) for m in masks)
    assert set().union(*map(groups, masks)) == {0, 1, 2}
    free, _ = prune(layers(), Allocation(), 0.6)
    assert max(set().union(*map(groups, free.masks.values()))) > 2, "the pattern made a difference"


def test_rows_keep_their_own_nearest_number() -> None:
    pruner, decisions = prune(layers(), Allocation(scope="row"), 0.8)
    first, second = pruner.masks.values()
    assert set(first.sum(1).tolist()) == {keep_count(0.8, 16)} == {3}
    assert set(second.sum(1).tolist()) == {keep_count(0.8, 24)} == {5}
    assert decisions[-1].proof.keep == 24 * 3 + 8 * 5 == 112
    assert keep_count(0.8, 576) == 115, "the sum of the rows is another number"


@pytest.mark.parametrize("criterion", ["abs-pins", "trust-region"])
def test_blocks_are_kept_whole_at_every_decision(criterion: str) -> None:
    pruner, decisions = prune(layers(), Allocation(block="1x4"), 0.75, criterion)
    for decision in decisions:
        for mask in decision.masks.values():
            assert groups(mask) <= {0, 4}
    assert sum(int(mask.sum()) for mask in pruner.masks.values()) == 576 // 4


def test_transposable_patterns_hold_along_inputs_and_outputs() -> None:
    exact = Allocation(pattern="transposable-4:8", exactly=True)
    pruner, decisions = prune(layers(), exact)
    for decision, kept in zip(decisions, (7, 6, 5, 4), strict=True):
        for mask in decision.masks.values():
            assert groups(mask, 8) == groups(mask.T, 8) == {kept}
    assert pruner.sparsity == 0.5
    assert isinstance(pruner.tree(STEPS), TransposableNofM)


def sparse(kept: int) -> nn.Module:
    """Each four inputs of the first layer have so many weights that are not zero."""
    model = layers()
    with torch.no_grad():
        model.get_parameter("0.weight").view(-1, 4)[:, kept:] = 0
    return model


@pytest.mark.parametrize("zeros", [1, 3])
def test_the_zeros_of_the_start_stay_in_every_group(zeros: int) -> None:
    pruner, decisions = prune(sparse(4 - zeros), EXACT)
    for decision in decisions:
        assert not decision.masks["0.weight"].view(-1, 4)[:, 4 - zeros :].any()
    first, second = pruner.masks.values()
    assert groups(first) == {min(2, 4 - zeros)}
    assert groups(second) == {2}


@pytest.mark.parametrize(
    ("allocation", "message"),
    [
        (Allocation(block="1x4"), "192 weights are zero at the start, which blocks cannot leave"),
        (
            Allocation(pattern="transposable-4:8", exactly=True),
            "which a transposable pattern cannot leave out: give revive_zeros",
        ),
    ],
)
def test_zeros_that_no_pattern_leaves_out_are_refused(allocation: Allocation, message: str) -> None:
    with pytest.raises(CardinalityError, match=message):
        prune(sparse(2), allocation, allocation.sparsity or 0.75)
    pruner, _ = prune(sparse(2), allocation, allocation.sparsity or 0.75, revive_zeros=True)
    assert pruner.finished


def test_a_schedule_that_does_not_end_with_the_pattern_is_refused() -> None:
    with pytest.raises(CardinalityError, match=r"exactly 2:4 is a sparsity of 1/2, and 0\.8 is"):
        prune(layers(), EXACT, 0.8)
    with pytest.raises(CardinalityError, match=r"give a sparsity of at least 0\.5"):
        prune(layers(), Allocation(pattern="2:4"), 0.3)


def test_a_trust_region_needs_a_tree() -> None:
    exact = Allocation(pattern="transposable-4:8", exactly=True)
    with pytest.raises(CardinalityError, match="is no tree of bounds, as a trust region needs"):
        prune(layers(), exact, criterion="trust-region")


def test_a_training_goes_on_with_its_own_pattern_alone() -> None:
    halfway, _ = prune(layers(), EXACT)
    state = halfway.state_dict()
    other, _ = prune(layers(), EXACT)
    other.load_state_dict(state)
    assert str(other.pattern) == "2:4"
    another, _ = prune(layers(), Allocation(pattern="4:8", exactly=True))
    with pytest.raises(CheckpointError, match="allocation's pattern was '2:4' and is '4:8' now"):
        another.load_state_dict(state)


def one_shot(model: Any) -> Pruner:
    """One decision, by magnitude."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = CubicSchedule(steps=1, final_sparsity=Fraction(1, 2))
    pruner = Pruner(model, optimizer, "magnitude", schedule, allocation=EXACT)
    pruner.step()
    return pruner


def test_groups_of_gpt2_run_along_the_inputs_of_its_transposed_weights() -> None:
    pytest.importorskip("transformers")
    masks = one_shot(tiny("GPT2", "LMHeadModel", n_embd=8, n_head=2, n_layer=1)).masks
    fused = masks["transformer.h.0.attn.c_attn.weight"]
    assert fused.shape == (8, 24)  # (inputs, outputs of query, key and value together)
    for mask in masks.values():
        assert groups(mask.T) == {2}
    assert any(groups(mask) != {2} for mask in masks.values()), "along the outputs it is not so"


def test_each_expert_has_the_pattern() -> None:
    pytest.importorskip("transformers")
    model = tiny("Mixtral", "ForCausalLM", num_local_experts=4, num_key_value_heads=2)
    stacked = [mask for mask in one_shot(model).masks.values() if mask.dim() == 3]
    assert stacked
    for mask in stacked:
        assert [groups(expert) for expert in mask] == [{2}] * 4
