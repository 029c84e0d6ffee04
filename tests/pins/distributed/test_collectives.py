"""What several ranks do together: one answer, one mask, one sum of gradients; the same parts."""

import math
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pins.distributed import consistency, rng
from pins.distributed.collectives import on_rank_zero, sum_over_ranks
from pins.distributed.consistency import (
    checksum,
    digest,
    require_same_masks,
    require_same_run,
    require_same_weights,
)
from pins.distributed.gradient_reduction import GradientSum
from pins.distributed.launch import launched, local_rank, only_rank_zero_prints
from pins.distributed.process_group import SINGLE_PROCESS, Group, ProcessGroup
from pins.errors import (
    CheckpointError,
    CriterionError,
    DeviceError,
    FileError,
    ModelError,
    ObservationError,
    OptimalityError,
    SettingError,
)
from pins.importance.curvature.distributed import diagonal_of_all
from pins.importance.curvature.sources import CURVATURES, AdamCurvature, Curvature, TrainedStep
from pins.pruning.pruner import Pruner
from pins.pruning.schedules import CubicSchedule, OneShotSchedule
from pins.runs.finetuning import FineTuning
from pins.runs.microbatches import microbatches, microbatches_of_rank
from pins.runs.settings import Settings
from pins.utils.devices import Device
from tests.pins.headed import HEADED, head_of
from tests.pins.ranks import raises, run_together
from tests.pins.runs.test_finetuning import PLAIN, RECIPE

CPU = torch.device("cpu")


class Somebody(Group):
    """A rank that has nobody to talk to."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    def total(self, counts: Tensor) -> Tensor:
        raise AssertionError(counts)

    def gathered(self, values: Tensor) -> list[Tensor]:
        raise AssertionError(values)


def one_answer(rank: int, _: int, __: Path) -> None:
    group, asked = ProcessGroup(), []

    def work() -> dict[str, object]:
        asked.append(rank)
        return {"score": 0.1 + 0.2, "none": None, "infinite": math.inf}

    assert on_rank_zero(group, work) == {"score": 0.1 + 0.2, "none": None, "infinite": math.inf}
    assert asked == ([0] if rank == 0 else [])

    def refuse() -> None:
        raise FileError("there is no room")

    raises(FileError, "there is no room", lambda: on_rank_zero(group, refuse))

    def fail() -> None:
        raise ZeroDivisionError("by nothing")

    raises(
        ZeroDivisionError if rank == 0 else DeviceError,
        "nothing",
        lambda: on_rank_zero(group, fail),
    )


def one_sum(rank: int, size: int, _: Path) -> None:
    numbers = [0.1 * 3**each for each in range(size)]
    found = sum_over_ranks(numbers[rank], ProcessGroup())
    assert found == math.fsum(numbers)
    everywhere = ProcessGroup().gathered(torch.tensor([found], dtype=torch.float64))
    assert all(torch.equal(each, everywhere[0]) for each in everywhere)


def masks_that_differ_are_caught(rank: int, size: int, _: Path) -> None:
    group = ProcessGroup()

    def some() -> dict[str, Tensor]:
        torch.manual_seed(0)
        return {"a": torch.rand(5, 7) > 0.5, "b": torch.rand(16) > 0.5}

    require_same_masks(some(), 10, group)
    require_same_masks(dict(reversed(some().items())), 10, group)
    for spoilt in range(size):
        for name, at in (("a", 0), ("a", 34), ("b", 15)):
            masks = some()
            masks[name].view(-1)[at] ^= rank == spoilt
            others = [each for each in range(size) if each != 0] if spoilt == 0 else [spoilt]
            line = f"step 20 rank {', '.join(map(str, others))} of {size} does not have the masks"
            raises(OptimalityError, line, partial(require_same_masks, masks, 20, group))


def weights_that_differ_are_caught(rank: int, size: int, _: Path) -> None:
    group = ProcessGroup()

    def some(dtype: torch.dtype) -> dict[str, Tensor]:
        torch.manual_seed(0)
        return {"a": torch.randn(5, 7).to(dtype).t(), "b": torch.zeros(16, dtype=dtype)}

    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        require_same_weights(some(dtype), 10, group)
        for name, at in (("a", (0, 0)), ("a", (6, 4)), ("b", (15,))):
            weights = some(dtype)
            if rank == size - 1:
                weights[name][at] = weights[name][at].nextafter(torch.tensor(9.0, dtype=dtype))
            line = f"step 20 rank {size - 1} of {size} does not have the weights of rank 0"
            raises(OptimalityError, line, partial(require_same_weights, weights, 20, group))


def a_copy_that_parts_is_caught_at_the_next_decision(rank: int, size: int, _: Path) -> None:
    """DistributedDataParallel, with masks that stay the same: the weight that differs is kept."""
    for spoilt in (False, True):
        model = network().float()
        wrapped = nn.parallel.DistributedDataParallel(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        schedule = CubicSchedule(steps=4, final_sparsity=0.5, interval=2)
        weights = {"0.weight": model.get_parameter("0.weight")}
        pruner = Pruner(wrapped, optimizer, "magnitude", schedule, parameters=weights)
        assert pruner.replicas.size == size
        for step in range(1, 5):
            total: Tensor = wrapped(torch.ones(2, 6)).sum()
            torch.autograd.backward(total)
            optimizer.step()
            optimizer.zero_grad()
            if spoilt and step == 3:
                with torch.no_grad():
                    kept = pruner.masks["0.weight"].nonzero()[0].tolist()
                    weights["0.weight"][tuple(kept)] = 101.0 if rank == size - 1 else 100.0
            if spoilt and step == 4:
                line = f"step 4 rank {size - 1} of {size} does not have the weights of rank 0"
                raises(OptimalityError, line, pruner.step)
            else:
                pruner.step()


def a_divided_optimiser_has_no_curvature(_: int, __: int, ___: Path) -> None:
    """ZeRO of torch keeps the moments of a weight on one rank: refused before the first step."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about itself
        from torch.distributed.optim import ZeroRedundancyOptimizer
    model = network().float()
    optimizer = ZeroRedundancyOptimizer(model.parameters(), torch.optim.AdamW, lr=0.01)
    start = partial(Pruner, model, optimizer, schedule=OneShotSchedule(0.5))
    line = "ZeroRedundancyOptimizer keeps none: use AdamW (over ranks with fully_shard)"
    raises(ObservationError, line, partial(start, criterion="obd"))
    pruner = start(criterion="abs-pins")
    torch.autograd.backward(model(torch.ones(2, 6)).sum())
    optimizer.step()
    assert pruner.step() is not None
    assert pruner.sparsity == 0.5


def runs_that_differ_are_caught(rank: int, size: int, _: Path) -> None:
    group, last = ProcessGroup(), size - 1
    settings = {"seed": 0, "model": "a1", "steps": 12}
    require_same_run(settings, 4, group)
    other = {**settings, "model": "b2" if rank == last else "a1"}
    raises(
        SettingError,
        f"rank {last} has another model than rank 0 ('b2', not 'a1')",
        lambda: require_same_run(other, 4, group),
    )
    raises(
        CheckpointError,
        f"rank {last} resumes after step 0, rank 0 after step 4: give a folder that all",
        lambda: require_same_run(settings, 0 if rank == last else 4, group),
    )


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Linear(8, 3)).double()


def rows_of(rank: int, number: int = 4) -> Tensor:
    torch.manual_seed(100 + rank)
    return torch.randn(number, 6, dtype=torch.float64)


def loss(model: nn.Module, rows: Tensor) -> Tensor:
    value: Tensor = model(rows).square().sum()
    return value


def gradients_are_summed(rank: int, size: int, _: Path) -> None:
    """Of any cut into buckets; with parts; where a rank has no rows; where nobody uses a weight."""
    for bucket in (1, 200, 1 << 20):
        model, whole = network(), network()
        unused, seldom = (nn.Parameter(torch.ones(3, dtype=torch.float64)) for _ in range(2))
        gradients = GradientSum(
            [*model.parameters(), unused, seldom], ProcessGroup(), bucket=bucket
        )
        for step in range(3):
            model.zero_grad()
            seldom.grad = None
            if rank != step:  # who has no rows at that step
                torch.autograd.backward(loss(model, rows_of(rank)))
            with gradients.summing():
                if rank != step:
                    torch.autograd.backward(loss(model, rows_of(rank + 10)))
                if rank == size - 1:
                    torch.autograd.backward(seldom.sum())
            whole.zero_grad()
            for other in range(size):
                if other != step:
                    torch.autograd.backward(loss(whole, rows_of(other)))
                    torch.autograd.backward(loss(whole, rows_of(other + 10)))
            for parameter, wanted in zip(model.parameters(), whole.parameters(), strict=True):
                assert parameter.grad is not None
                assert wanted.grad is not None
                assert torch.allclose(parameter.grad, wanted.grad, rtol=1e-12)
                everywhere = ProcessGroup().gathered(parameter.grad.reshape(-1))
                assert all(torch.equal(each, everywhere[0]) for each in everywhere)
            assert unused.grad is None
            assert seldom.grad is not None
            assert bool(seldom.grad.eq(1).all())


def sums_of_gradients_do_not_depend_on_the_step(rank: int, _: int, __: Path) -> None:
    """The order of additions stays: what a run that went on from a checkpoint needs."""
    model = network().float()
    gradients = GradientSum(model.parameters(), ProcessGroup(), bucket=300)
    found = []
    for _step in range(3):
        model.zero_grad()
        with gradients.summing():
            torch.autograd.backward(loss(model, rows_of(rank).float()))
        found.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for each in found for a, b in zip(each, found[0], strict=True))


def a_gradient_that_comes_twice_is_refused(rank: int, _: int, __: Path) -> None:
    model = network()
    gradients = GradientSum(model.parameters(), ProcessGroup())

    def twice() -> None:
        with gradients.summing():
            torch.autograd.backward(loss(model, rows_of(rank)))
            torch.autograd.backward(loss(model, rows_of(rank)))

    raises(ModelError, "arrived twice in one backward pass", twice)


def random_numbers_go_on(rank: int, size: int, _: Path) -> None:
    """Other ones on each rank; the same after going on; and other ones with another number."""
    group = ProcessGroup()
    rng.seed_rank(5, group)
    states = rng.random_states(CPU, group)
    drawn = torch.rand(3)
    everywhere = group.gathered(drawn)
    assert sum(torch.equal(drawn, each) for each in everywhere) == 1
    rng.restore_random_states(states, CPU, group, seed=5, step=7)
    assert torch.equal(torch.rand(3), drawn)
    fewer = {name: state for name, state in states.items() if name != f"{size - 1}/cpu"}
    rng.restore_random_states(fewer, CPU, group, seed=5, step=7)
    anew = torch.rand(3)
    assert not torch.equal(anew, drawn)
    torch.manual_seed(rng.derived_seed(5, 7, rank))
    assert torch.equal(torch.rand(3), anew)


def curvature_is_of_all_rows(rank: int, _: int, __: Path) -> None:
    for head in ("classification", "tokens"):
        torch.manual_seed(0)
        model, batch = HEADED[head].model(), HEADED[head].batch()
        optimizer = torch.optim.SGD(model.parameters())
        parameters = {n: p for n, p in model.named_parameters() if p.dim() == 2}
        count = head_of(head).count(batch)
        first_alone = [batch] if rank == 0 else []
        for cut in (microbatches_of_rank([batch], ProcessGroup()), first_alone):
            step = partial(
                TrainedStep,
                parameters=parameters,
                optimizer=optimizer,
                model=model,
                head=head_of(head),
            )
            fisher = diagonal_of_all(CURVATURES["fisher"], step(batches=cut), count, ProcessGroup())
            wanted = CURVATURES["fisher"].diagonal(step(batches=[batch]))
            for name, h in fisher.items():
                assert torch.allclose(h, wanted[name], rtol=1e-3, atol=1e-9), name
            torch.manual_seed(1)
            estimate = diagonal_of_all(
                CURVATURES["hutchinson"], step(batches=cut), count, ProcessGroup()
            )
            for name, h in estimate.items():
                everywhere = ProcessGroup().gathered(h.reshape(-1))
                assert all(torch.equal(each, everywhere[0]) for each in everywhere), name
                assert bool((h >= 0).all())
            if cut is first_alone:
                torch.manual_seed(1)
                alone = CURVATURES["hutchinson"].diagonal(step(batches=[batch]))
                assert all(torch.allclose(h, alone[n], atol=1e-9) for n, h in estimate.items())


def training_that_parts_is_caught(rank: int, size: int, _: Path) -> None:
    """Each decision of a run is compared: here the weights of one rank are others."""
    for spoilt in (False, True):
        torch.manual_seed(0)
        model = HEADED["classification"].model().eval()
        if spoilt and rank == size - 1:
            torch.nn.init.normal_(model.get_parameter("bert.encoder.layer.0.output.dense.weight"))
        settings = Settings(**PLAIN).resolved(RECIPE, 4)
        device = Device(CPU, "float32")
        training = FineTuning(
            model, head_of("classification"), settings, device, group=ProcessGroup()
        )
        step = partial(training.step, [HEADED["classification"].batch()])
        if spoilt:
            raises(OptimalityError, f"after the decision of step 1 rank {size - 1} of {size}", step)
        else:
            step()


CHECKS = [
    one_answer,
    one_sum,
    masks_that_differ_are_caught,
    weights_that_differ_are_caught,
    a_copy_that_parts_is_caught_at_the_next_decision,
    a_divided_optimiser_has_no_curvature,
    runs_that_differ_are_caught,
    gradients_are_summed,
    sums_of_gradients_do_not_depend_on_the_step,
    random_numbers_go_on,
    training_that_parts_is_caught,
    curvature_is_of_all_rows,
    a_gradient_that_comes_twice_is_refused,  # the last: it leaves a sum unfinished
]


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_together(size: int, tmp_path: Path) -> None:
    found = run_together(CHECKS, size, tmp_path)
    assert found == dict.fromkeys((check.__name__ for check in CHECKS), None)


# what one process can see


def test_one_alone_does_what_it_does_without_others() -> None:
    assert on_rank_zero(SINGLE_PROCESS, lambda: 3) == 3
    assert sum_over_ranks(0.1, SINGLE_PROCESS) == 0.1
    require_same_masks({}, 1, SINGLE_PROCESS)
    require_same_weights({}, 1, SINGLE_PROCESS)
    require_same_run({}, 1, SINGLE_PROCESS)
    model, plain = network(), network()
    gradients = GradientSum(model.parameters(), SINGLE_PROCESS)
    with gradients.summing():
        torch.autograd.backward(loss(model, rows_of(0)))
    torch.autograd.backward(loss(plain, rows_of(0)))
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.equal(one.grad, other.grad)


def test_the_digest_is_of_names_shapes_and_bits() -> None:
    mask = torch.arange(12) % 3 == 0
    found = {
        digest({"a": mask}),
        digest({"b": mask}),
        digest({"a": mask.view(3, 4)}),
        digest({"a": mask[:11]}),
        digest({"a": ~mask}),
        digest({"a": mask, "b": mask[:0]}),
    }
    assert len(found) == 6
    assert digest({"a": mask, "b": ~mask}) == digest({"b": ~mask, "a": mask})


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=40), st.data())
def test_a_checksum_is_the_sum_of_odd_multiples_of_the_bits(
    numbers: list[int], data: st.DataObject
) -> None:
    tensor = torch.tensor(numbers, dtype=torch.int32)
    wanted = sum((2 * i + 1) * number for i, number in enumerate(numbers))
    assert int(checksum(tensor.view(torch.float32))) == wanted
    at = data.draw(st.integers(0, len(numbers) - 1))
    tensor[at] ^= 1 << data.draw(st.integers(0, 30))
    assert int(checksum(tensor.view(torch.float32))) != wanted


def test_a_checksum_of_many_numbers_knows_their_places(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = torch.randn(10, dtype=torch.float64)
    before, whole = numbers.clone(), checksum(numbers)
    assert torch.equal(numbers, before)
    monkeypatch.setattr(consistency, "BLOCK", 3)
    assert torch.equal(checksum(numbers), whole)
    assert not torch.equal(checksum(numbers.flip(0)), whole)


@given(rows=st.integers(1, 9), size=st.integers(1, 5), number=st.integers(1, 4))
def test_every_row_is_of_one_rank(rows: int, size: int, number: int) -> None:
    batch = {"input_ids": torch.arange(rows)[:, None], "labels": torch.arange(rows)}
    whole = microbatches(batch, number)
    shares = [microbatches_of_rank(whole, Somebody(rank, size)) for rank in range(size)]
    labels = [int(label) for each in shares for part in each for label in part["labels"]]
    assert sorted(labels) == list(range(rows))
    counts = [sum(len(part["labels"]) for part in each) for each in shares]
    assert max(counts) - min(counts) <= min(number, rows)  # one a part, at most
    assert all(len(part["labels"]) for each in shares for part in each)


def test_rows_that_are_left_over_go_round() -> None:
    batch = {"input_ids": torch.arange(6)[:, None], "labels": torch.arange(6)}
    counts = [
        sum(
            len(part["labels"])
            for part in microbatches_of_rank(microbatches(batch, 2), Somebody(rank, 2))
        )
        for rank in range(2)
    ]
    assert counts == [3, 3]  # of parts of 3, 2 + 1 and 1 + 2


def test_a_source_without_a_rule_for_ranks_is_refused() -> None:
    class Other(AdamCurvature):
        name = "other"
        reads_batches = True

    other: Curvature = Other()
    model = network()
    step = TrainedStep(
        parameters={}, optimizer=torch.optim.SGD(model.parameters()), model=model, batches=()
    )
    with pytest.raises(
        CriterionError, match="curvature 'other' works in one process, and 3 processes"
    ):
        diagonal_of_all(other, step, 1, Somebody(0, 3))


@pytest.fixture
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_a_process_that_is_alone_is_left_as_it_is(no_launcher: pytest.MonkeyPatch) -> None:
    assert not launched()
    assert local_rank(SINGLE_PROCESS) is None
    with pytest.raises(FileError, match="mine"), only_rank_zero_prints():
        raise FileError("mine")
    for name, value in (("RANK", "0"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "1")):
        no_launcher.setenv(name, value)
    assert not launched()
    no_launcher.setenv("WORLD_SIZE", "1")
    assert not launched()
    no_launcher.setenv("WORLD_SIZE", "2")
    assert launched()
    no_launcher.setenv("WORLD_SIZE", "two")
    with pytest.raises(DeviceError, match="WORLD_SIZE is 'two' in the environment: torchrun sets"):
        launched()


def test_the_local_rank_is_the_launchers_or_the_rank(no_launcher: pytest.MonkeyPatch) -> None:
    assert local_rank(Somebody(5, 8)) == 5
    no_launcher.setenv("LOCAL_RANK", "1")
    assert local_rank(Somebody(5, 8)) == 1
