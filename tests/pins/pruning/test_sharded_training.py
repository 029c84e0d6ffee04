"""Training a sharded model: exactly k at each decision, zeros stay, checkpoints for any ranks."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict_loader import load as load_together
from torch.distributed.checkpoint.state_dict_saver import save as save_together
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.optim import Optimizer

from pins import masks as masks_on_disk
from pins.distributed.sharding import is_sharded, local, whole
from pins.errors import (
    CheckpointError,
    ImportanceError,
    MaskError,
    ObservationError,
    ParameterError,
)
from pins.importance.smoothing import Uncertainty
from pins.masks import count
from pins.models.parameters import prunable_parameters
from pins.models.self_distillation import SelfRegularizer
from pins.models.task_loss import step_loss
from pins.pruning.checkpoint import load_training, save_training
from pins.pruning.keep_zeros import keep_zeros
from pins.pruning.pruner import Pruner
from pins.pruning.schedules import CubicSchedule, OneShotSchedule
from pins.selection.reach import keep_of
from pins.selection.tree import Node
from pins.utils.io import load_tensors, save_tensors
from tests.pins.ranks import Check, raises, run_together
from tests.pins.sharded import assert_equal, batches, sharded_classifier, whole_weights
from tests.pins.trainer.trainers import classifier

SIZES = (1, 2, 3)
STEPS, SAVED = 8, 4
SCHEDULE = CubicSchedule(steps=STEPS, final_sparsity=0.7, warmup=1, cooldown=1, interval=2)


def started(model: nn.Module, **options: Any) -> tuple[Optimizer, Pruner]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    options = {"criterion": "abs-pins", "schedule": SCHEDULE, "smoothing": Uncertainty(), **options}
    return optimizer, Pruner(model, optimizer, **options)


def train(
    model: nn.Module,
    optimizer: Optimizer,
    pruner: Pruner,
    steps: range,
    regularizer: SelfRegularizer | None = None,
) -> None:
    """The mean over the ranks of the same gradients is each of them; zeros are looked at."""
    rows = batches(4)
    for step in steps:
        model.train()
        batch = rows[step % len(rows)]
        output = model(**batch)
        loss = output.loss if regularizer is None else regularizer.loss(output, batch)
        torch.autograd.backward(loss)
        optimizer.step()
        decision = pruner.step()
        optimizer.zero_grad()
        if decision is not None:
            tree = pruner.tree(step + 1)
            assert isinstance(tree, Node)
            keep = keep_of(tree, pruner.group)
            assert count(pruner.masks).kept == decision.proof.keep == keep
        for name, mask in pruner.masks.items():
            held = local(pruner.parameters[name])
            assert not held[~local(mask)].any()
            assert not held[~local(mask)].signbit().any()
        if regularizer is not None and step == SAVED - 2:
            assert regularizer.update(0.5, pruner.sparsity)


def a_gradual_run_is_that_of_one_device(_rank: int, size: int, _folder: Path) -> None:
    """Weights and masks, with the layers sharded one by one, and all at once."""
    alone = classifier()
    train(alone, *started(alone), range(STEPS))
    expected = {name: p.detach().clone() for name, p in alone.named_parameters()}
    for layers in (True, False):
        model = sharded_classifier(size, layers=layers)
        optimizer, pruner = started(model)
        assert all(is_sharded(parameter) for parameter in pruner.parameters.values())
        train(model, optimizer, pruner, range(STEPS))
        assert pruner.finished
        zeros = {name: weight == 0 for name, weight in whole_weights(model).items()}
        same = sum(int((zeros[n] == (w == 0)).sum()) for n, w in expected.items())
        total = sum(weight.numel() for weight in expected.values())
        assert same >= 0.99 * total
        for name, weight in whole_weights(model).items():
            if size < 3:  # a third of three equal numbers is rounded
                torch.testing.assert_close(weight, expected[name], rtol=1e-4, atol=1e-5)


def a_trust_region_measures_what_it_did(_rank: int, size: int, _folder: Path) -> None:
    """The loss with a mask is that of the masked weights, not of what was gathered before it."""
    rows = batches(4)[:1]
    found = []
    for model in (classifier(), sharded_classifier(size), sharded_classifier(size, layers=False)):
        with torch.no_grad():
            for parameter in model.parameters():
                local(parameter).mul_(8.0)
        optimizer, pruner = started(
            model,
            criterion="trust-region",
            smoothing=None,
            schedule=OneShotSchedule(0.5, at=3),
            loss=partial(step_loss, model, rows),
        )
        train(model, optimizer, pruner, range(3))
        assert pruner.loss_change is not None
        found.append(pruner.loss_change)
    for other in found[1:]:
        assert other.measured == pytest.approx(found[0].measured, rel=1e-2, abs=1e-6)
        assert other.predicted == pytest.approx(found[0].predicted, rel=1e-2, abs=1e-6)
    assert abs(found[0].measured) > 1e-4, "it measures something"


def saved_masks_are_those_of_one_device(rank: int, size: int, folder: Path) -> None:
    """One file, gathered tensor by tensor and written by the first rank."""
    model = sharded_classifier(size)
    optimizer, pruner = started(model)
    train(model, optimizer, pruner, range(3))
    masks_on_disk.save(pruner.masks, folder / "sharded.safetensors")
    gathered = {name: whole(mask) for name, mask in pruner.masks.items()}
    assert count(gathered) == count(pruner.masks)
    overlap = masks_on_disk.compare(pruner.masks, pruner.masks)
    assert (overlap.both, overlap.first_only) == (count(gathered).kept, 0)
    if rank == 0:
        masks_on_disk.save(gathered, folder / "whole.safetensors")
        written = [(folder / f"{n}.safetensors").read_bytes() for n in ("sharded", "whole")]
        assert written[0] == written[1]
    dist.barrier()


def zeros_stay(_rank: int, size: int, _folder: Path) -> None:
    """A sparse model goes on with its zeros; a dense one is refused on every rank."""
    model = sharded_classifier(size)
    optimizer, pruner = started(model)
    train(model, optimizer, pruner, range(3))
    again = torch.optim.AdamW(model.parameters(), lr=1e-2)
    kept = keep_zeros(model, again)
    assert all(is_sharded(mask) for mask in kept.values())
    pruned = {name: whole(p) == 0 for name, p in pruner.parameters.items()}
    assert count(kept).kept == sum(int((~each).sum()) for each in pruned.values())
    for batch in batches(2):
        model(**batch).loss.backward()
        again.step()
        again.zero_grad()
    for name, parameter in pruner.parameters.items():
        assert not whole(parameter)[pruned[name]].any()
        assert torch.equal(whole(kept[name]), ~pruned[name])
    # masks from a file are whole
    from_file = {name: ~each for name, each in pruned.items()}
    cut = keep_zeros(model, again, masks=from_file)
    assert_equal({name: whole(mask) for name, mask in cut.items()}, from_file)
    assert sum(local(mask).numel() for mask in cut.values()) < count(cut).total or size == 1
    dense = sharded_classifier(size)
    with torch.no_grad():
        for parameter in dense.parameters():
            local(parameter).add_(3.0)
    refused = partial(keep_zeros, dense, torch.optim.AdamW(dense.parameters()))
    raises(ParameterError, "found no zero among", refused)


def products_of_16_bits_need_nothing_special(_rank: int, size: int, _folder: Path) -> None:
    """A mixed-precision policy: float32 parts, computed with as bfloat16; so is the teacher."""
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    model = sharded_classifier(size, mp_policy=policy)
    regularizer = SelfRegularizer(model)
    optimizer, pruner = started(model)
    train(model, optimizer, pruner, range(STEPS), regularizer)
    assert pruner.finished
    assert {local(parameter).dtype for parameter in pruner.parameters.values()} == {torch.float32}


def other_tools_take_the_state(_rank: int, size: int, folder: Path) -> None:
    """torch.distributed.checkpoint by itself, with the storage that the caller likes."""
    model = sharded_classifier(size)
    optimizer, pruner = started(model)
    train(model, optimizer, pruner, range(4))
    state = {"masks": pruner.masks, "smoothing": pruner.state_dict()["smoothing"]}
    save_together(state, checkpoint_id=folder / "checkpoint")
    empty = {
        kind: {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
        for kind, tensors in state.items()
    }
    load_together(empty, checkpoint_id=folder / "checkpoint")
    other = sharded_classifier(size)
    optimizer, pruner_of_other = started(other)
    pruner_of_other.load_state_dict({**pruner.state_dict(), **empty})
    for kind, tensors in state.items():
        found = pruner_of_other.state_dict()[kind]
        assert_equal(
            {name: whole(t) for name, t in found.items()},
            {name: whole(t) for name, t in tensors.items()},
        )


def what_is_wrong_on_one_rank_is_wrong_on_all(rank: int, size: int, _folder: Path) -> None:
    """A score that is none, an overflow: no rank waits for another."""
    model = sharded_classifier(size)
    optimizer, pruner = started(model, smoothing=None, schedule=OneShotSchedule(0.5, at=2))
    model(**batches(1)[0]).loss.backward()
    raises(ObservationError, "has taken no step", pruner.step)
    first = next(iter(pruner.parameters.values()))
    assert first.grad is not None
    if rank == 0:
        local(first.grad)[0, 0] = float("inf")
    assert pruner.step() is None, "an overflow on one rank is one on all"
    local(first.grad).zero_()
    optimizer.step()
    if rank == size - 1 and len(local(first)):
        local(first)[0, 0] = float("nan")
    with pytest.raises(ImportanceError):
        pruner.step()


def gradients_of_some_ranks_are_enough(rank: int, size: int, _folder: Path) -> None:
    """A tensor without a gradient on one rank has 0 there; one without any is skipped by all."""
    model = sharded_classifier(size)
    optimizer, pruner = started(model, schedule=OneShotSchedule(0.5, at=2))
    first, second, *_ = pruner.parameters
    for step in range(2):
        model(**batches(1)[0]).loss.backward()
        if step == 1:
            pruner.parameters[second].grad = None
            if rank == 0:
                for parameter in pruner.parameters.values():
                    parameter.grad = None
        optimizer.step()
        if size == 1 and step == 1:
            raises(ObservationError, "found no gradient of any weight", pruner.step)
            return
        pruner.step()
        counts = pruner.smoothing.state_dict()
        assert int(counts[f"average.count/{first}"]) == step + 1
        assert int(counts[f"average.count/{second}"]) == 1
        optimizer.zero_grad()
    assert pruner.finished
    model(**batches(1)[0]).loss.backward()
    other = Pruner(model, optimizer, "abs-pins", OneShotSchedule(0.5), revive_zeros=True)
    optimizer.step()
    optimizer.zero_grad()
    raises(ObservationError, "found no gradient of any weight", other.step)


def other_models_are_refused(_rank: int, size: int, _folder: Path) -> None:
    model = sharded_classifier(size)
    optimizer, pruner = started(model)
    state = pruner.state_dict()
    name = next(iter(state["masks"]))
    short = {**state, "masks": {**state["masks"], name: torch.ones(3, 3, dtype=torch.bool)}}
    raises(MaskError, "the tensor has shape", lambda: pruner.load_state_dict(short))
    average = {f"average/{name}": torch.ones(3, 3), f"average.count/{name}": torch.tensor(1)}
    strange = {**state, "smoothing": average}
    raises(CheckpointError, "does not fit", lambda: pruner.load_state_dict(strange))
    left_out = {"query": prunable_parameters(classifier()).parameters[name]}
    raises(ParameterError, "is not in the optimiser", lambda: started(model, parameters=left_out))
    assert optimizer


RUNS = (
    a_gradual_run_is_that_of_one_device,
    a_trust_region_measures_what_it_did,
    saved_masks_are_those_of_one_device,
    zeros_stay,
    products_of_16_bits_need_nothing_special,
    other_tools_take_the_state,
    gradients_of_some_ranks_are_enough,
    other_models_are_refused,
    what_is_wrong_on_one_rank_is_wrong_on_all,
)


def standing(model: nn.Module, pruner: Pruner, regularizer: SelfRegularizer) -> dict[str, Tensor]:
    """All that a checkpoint has to bring back, whole, on every rank."""
    state, (teacher, _) = pruner.state_dict(), regularizer.state_dict()
    groups = {
        "masks": state["masks"],
        "start": state["start"],
        "smoothing": state["smoothing"],
        "teacher": teacher,
        "weights": whole_weights(model),
    }
    return {f"{g}/{n}": whole(t) for g, named in groups.items() for n, t in named.items()}


def saves_half_way(rank: int, size: int, folder: Path) -> None:
    model = sharded_classifier(size)
    with torch.no_grad():  # it starts sparse, and the model that resumes does not
        for weight in prunable_parameters(model).parameters.values():
            local(weight)[:, 0] = 0.0
    regularizer = SelfRegularizer(model, dtype=torch.float32)
    optimizer, pruner = started(model)
    train(model, optimizer, pruner, range(SAVED), regularizer)
    assert pruner.start.zeros
    place = folder.parent.parent / "checkpoint"
    save_training(place, model, optimizer, pruner, regularizer, extra={"rows": SAVED})
    found = standing(model, pruner, regularizer)
    train(model, optimizer, pruner, range(SAVED, STEPS), regularizer)
    ended = standing(model, pruner, regularizer)
    if rank == 0:
        save_tensors(found, place.parent / "saved.safetensors", {})
        save_tensors(ended, place.parent / "ended.safetensors", {})
    dist.barrier()


def goes_on(_rank: int, size: int, folder: Path) -> None:
    """The same weights, masks, averages and teacher, bit for bit; then to the end."""
    place = folder.parent.parent / "checkpoint"
    model: nn.Module = sharded_classifier(size, layers=size != 3)
    with torch.no_grad():
        for parameter in model.parameters():
            local(parameter).add_(1.0)
    regularizer = SelfRegularizer(model, dtype=torch.float32)
    optimizer, pruner = started(model)
    optimizer.param_groups[0]["lr"] = 0.5
    assert load_training(place, model, optimizer, pruner, regularizer) == {"rows": SAVED}
    assert pruner.steps == SAVED
    assert optimizer.param_groups[0]["lr"] == 1e-2
    assert isinstance(optimizer.param_groups[0]["betas"], tuple)
    expected, _ = load_tensors(place.parent / "saved.safetensors")
    assert_equal(standing(model, pruner, regularizer), expected)
    train(model, optimizer, pruner, range(SAVED, STEPS), regularizer)
    assert pruner.finished
    ended, _ = load_tensors(place.parent / "ended.safetensors")
    found = standing(model, pruner, regularizer)
    if size < 3:  # a third of three equal numbers is rounded
        assert_equal(found, ended)
    agree = [(found[n] == t).float().mean() for n, t in ended.items() if n.startswith("masks/")]
    assert min(agree) > 0.9
    other = partial(load_training, place, model, optimizer, pruner)
    raises(CheckpointError, "was written with a regularizer", other)


def goes_on_without_ranks(_rank: int, size: int, folder: Path) -> None:
    """One process with a model that is not sharded at all."""
    place = folder.parent.parent / "checkpoint"
    if size != 1:
        return
    model = classifier()
    regularizer = SelfRegularizer(model, dtype=torch.float32)
    optimizer, pruner = started(model)
    load_training(place, model, optimizer, pruner, regularizer)
    expected, _ = load_tensors(place.parent / "saved.safetensors")
    assert_equal(standing(model, pruner, regularizer), expected)
    train(model, optimizer, pruner, range(SAVED, STEPS), regularizer)
    assert pruner.finished


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    folder = tmp_path_factory.mktemp("training")
    found: dict[str, str | None] = {}
    plans: list[tuple[str, tuple[Check, ...], tuple[int, ...]]] = [
        ("runs", RUNS, SIZES),
        ("saves", (saves_half_way,), (2,)),
        ("goes on", (goes_on, goes_on_without_ranks), (1, 2, 3)),
    ]
    for kind, checks, sizes in plans:
        for size in sizes:
            said = run_together(checks, size, folder / f"{kind} {size}")
            found |= {f"{name} on {size}": text for name, text in said.items()}
    return found


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("check", RUNS, ids=lambda check: check.__name__)
def test_on_ranks(found: dict[str, str | None], check: Check, size: int) -> None:
    assert found[f"{check.__name__} on {size}"] is None, found[f"{check.__name__} on {size}"]


@pytest.mark.parametrize("size", SIZES)
def test_another_number_of_ranks_goes_on(found: dict[str, str | None], size: int) -> None:
    for check in ("saves_half_way on 2", f"goes_on on {size}", f"goes_on_without_ranks on {size}"):
        assert found[check] is None, found[check]
