"""Pruning over 1, 2 and 4 ranks decides as one device does, bit for bit."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard, distribute_tensor
from torch.optim import Optimizer

from pins.distributed.sharding import is_sharded, local, part, whole
from pins.importance.criteria import CRITERIA
from pins.importance.criterion import Reads
from pins.importance.smoothing import NoSmoothing, Smoothing, Uncertainty, WindowMean
from pins.importance.trust_region.program import TrustRegionDecision
from pins.masks import count
from pins.pruning.authors import AuthorsPruner, Quirks
from pins.pruning.pruner import Pruner
from pins.pruning.schedules import CubicSchedule
from pins.selection.allocation import Allocation
from pins.selection.reach import keep_of
from pins.selection.select import decide
from pins.selection.tree import Node
from tests.pins.ranks import mesh_of, on_ranks
from tests.pins.sharded import assert_equal

SIZES = (1, 2, 4)
# rows that no number of ranks divides; one for which ranks have nothing; three dtypes
LAYERS = (
    (7, 3, torch.float32),
    (5, 4, torch.bfloat16),
    (1, 6, torch.float64),
    (8, 2, torch.float32),
)
STEPS = 5
SCHEDULE = CubicSchedule(steps=STEPS, final_sparsity=0.7, warmup=1, cooldown=1, interval=2)


def layers() -> nn.Module:
    """Values of few kinds, so that most scores tie."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(
        *(nn.Linear(columns, rows, bias=False).to(dtype) for rows, columns, dtype in LAYERS)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randint(-2, 3, parameter.shape, generator=generator) / 2)
    return model


def sharded_layers(mesh: DeviceMesh) -> nn.Module:
    model = layers()
    for layer in model:  # type: ignore[attr-defined]
        fully_shard(layer, mesh=mesh)  # each of one dtype
    return model


def give_gradients(model: nn.Module, seed: int) -> None:
    """The same ones on one device and on many, of few kinds."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        gradient = torch.randint(-1, 2, parameter.shape, generator=generator).to(parameter.dtype)
        if is_sharded(parameter):
            mesh, placements = parameter.device_mesh, parameter.placements
            gradient = distribute_tensor(gradient, mesh, placements)
        parameter.grad = gradient


def adam(model: nn.Module) -> Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=0.5, weight_decay=0.0)


def let_be_alike(
    alone: nn.Module, optimizer: Optimizer, model: nn.Module, other: Optimizer
) -> None:
    """The optimiser may round otherwise where a tensor ends; it is the decision that is tested."""
    with torch.no_grad():
        for one, sharded in zip(alone.parameters(), model.parameters(), strict=True):
            one.copy_(whole(sharded))
            for quantity, value in optimizer.state[one].items():
                value.copy_(whole(other.state[sharded][quantity]))


def run(
    model: nn.Module,
    alone: nn.Module,
    criterion: str,
    smoothing: Callable[[], Smoothing],
    scope: Allocation,
) -> Iterator[tuple[Pruner, Pruner, Node | None]]:
    """Both pruned side by side, step by step; the allowed masks where a decision was taken."""
    taking, other = adam(alone), adam(model)
    reads_loss = Reads.LOSS in CRITERIA[criterion].reads
    one, many = (
        Pruner(
            each,
            optimizer,
            criterion,
            SCHEDULE,
            smoothing=smoothing(),
            allocation=scope,
            loss=(lambda: 0.75) if reads_loss else None,
        )
        for each, optimizer in ((alone, taking), (model, other))
    )
    assert many.start.zeros == one.start.zeros > 0
    for step in range(1, STEPS + 1):
        for each in (alone, model):
            give_gradients(each, step)
        taking.step()
        other.step()
        let_be_alike(alone, taking, model, other)
        first, second = one.step(), many.step()
        assert (first is None) == (second is None)
        yield one, many, None if second is None else second.tree


def assert_decided_alike(one: Pruner, many: Pruner, step: int) -> None:
    masks = many.masks
    assert_equal({name: whole(mask) for name, mask in masks.items()}, one.masks)
    assert many.sparsity == one.sparsity
    for name, parameter in many.parameters.items():
        assert torch.equal(whole(parameter), one.parameters[name]), (step, name)
        assert not local(parameter)[~local(masks[name])].any()


def assert_promised_alike(one: Pruner, many: Pruner) -> None:
    """What a trust region says of its decision; sums over ranks are rounded otherwise."""
    first, second = one.decision, many.decision
    if isinstance(first, TrustRegionDecision) and isinstance(second, TrustRegionDecision):
        assert second.multiplier == first.multiplier
        assert second.drop == pytest.approx(first.drop, rel=1e-9, abs=1e-9)
        assert second.cost == pytest.approx(first.cost, rel=1e-9, abs=1e-9)
        assert many.radius_factor == one.radius_factor
        assert one.loss_change is not None
        assert many.loss_change is not None
        assert many.loss_change.predicted == pytest.approx(one.loss_change.predicted, rel=1e-9)


def every_criterion_decides_alike(_rank: int, size: int, _folder: Path) -> None:
    """Every mask of a gradual run, with ties everywhere, uneven rows and mixed dtypes."""
    for criterion in CRITERIA:
        smoothings = [NoSmoothing, Uncertainty] if criterion == "pins" else [NoSmoothing]
        for smoothing in smoothings:
            model = sharded_layers(mesh_of(size))
            steps = run(model, layers(), criterion, smoothing, Allocation())
            decided = 0
            for step, (one, many, tree) in enumerate(steps, start=1):
                assert_decided_alike(one, many, step)
                if tree is not None:
                    decided += 1
                    assert count(many.masks).kept == keep_of(tree, many.group)
                    assert many.decision is not None
                    assert one.decision is not None
                    assert many.decision.proof == one.decision.proof
                    assert_promised_alike(one, many)
            assert decided == sum(map(SCHEDULE.decides, range(1, STEPS + 1))) > 1
            assert many.finished


def every_scope_decides_alike(_rank: int, size: int, _folder: Path) -> None:
    """Tensor by tensor, row by row, and with bounds that bind."""
    for scope in (
        Allocation("tensor"),
        Allocation("row"),
        Allocation(layer_minimum=0.25, layer_maximum=0.75),
    ):
        for criterion in ("pins", "obd"):
            steps = run(sharded_layers(mesh_of(size)), layers(), criterion, WindowMean, scope)
            for step, (one, many, _) in enumerate(steps, start=1):
                assert_decided_alike(one, many, step)


def the_released_codes_quirks_are_the_same(_rank: int, size: int, _folder: Path) -> None:
    """A threshold that keeps all ties, averages that lag, weights that are dense between."""
    schedule = CubicSchedule(steps=STEPS, final_sparsity=0.6, warmup=1, cooldown=0, interval=2)
    model, alone = sharded_layers(mesh_of(size)), layers()
    optimizers = [adam(alone), adam(model)]
    one, many = (
        AuthorsPruner(each, optimizer, schedule, Quirks(calendar=False), parameters=parameters)
        for each, optimizer, parameters in (
            (alone, optimizers[0], dict(alone.named_parameters())),
            (model, optimizers[1], dict(model.named_parameters())),
        )
    )
    for step in range(1, STEPS + 1):
        for each, optimizer in ((alone, optimizers[0]), (model, optimizers[1])):
            give_gradients(each, step)
            optimizer.step()
        let_be_alike(alone, optimizers[0], model, optimizers[1])
        assert (one.step() is None) == (many.step() is None)
        assert_decided_alike(one, many, step)


def selecting_on_each_rank_alone_is_another_mask(rank: int, size: int, _folder: Path) -> None:
    """The control: each rank keeps its share, and the masks are not those of one device."""
    generator = torch.Generator().manual_seed(3)
    scores = torch.randn(11, 5, generator=generator)
    sharded = distribute_tensor(scores, mesh_of(size), [Shard(0)])
    keep = 13
    expected = decide({"w": scores}, keep).masks["w"]
    own = local(sharded)
    shares = [keep * (place + 1) // size - keep * place // size for place in range(size)]
    alone = decide({"w": own}, shares[rank]).masks["w"]
    differs = torch.tensor(int(not torch.equal(alone, part(expected, sharded))))
    dist.all_reduce(differs)
    assert bool(differs) == (size > 1)


def replicas_decide_alike(_rank: int, size: int, _folder: Path) -> None:
    """Hybrid sharding: two replicas of two parts each."""
    if size != 4:
        return
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard"))
    for step, (one, many, _) in enumerate(
        run(sharded_layers(mesh), layers(), "obd", Uncertainty, Allocation()), start=1
    ):
        assert many.group.size == 2
        assert_decided_alike(one, many, step)


CHECKS = (
    every_criterion_decides_alike,
    every_scope_decides_alike,
    the_released_codes_quirks_are_the_same,
    selecting_on_each_rank_alone_is_another_mask,
    replicas_decide_alike,
)


found, test_on_ranks = on_ranks(CHECKS, SIZES)
