"""The parts of sharded tensors: on 1, 2, 3 and 4 ranks, with rows that do not divide."""

import math
import os
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor

from pins.distributed.collectives import sum_over_ranks
from pins.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from pins.distributed.sharding import (
    extent,
    group_of,
    is_sharded,
    like_sharding,
    local,
    mean,
    part,
    require_fsdp2,
    reshard,
    whole,
)
from pins.errors import MaskError, ParameterError
from tests.pins.networks import perceptron
from tests.pins.ranks import mesh_of, on_ranks, raises, run_together

ROWS = (1, 2, 3, 5, 7, 8)
SIZES = (1, 2, 3, 4)


def cut(tensor: Tensor, size: int) -> Tensor:
    return distribute_tensor(tensor, mesh_of(size), [Shard(0)])


def numbered(rows: int, *dtype: torch.dtype) -> Tensor:
    return torch.arange(rows * 3, dtype=dtype[0] if dtype else torch.float32).view(rows, 3)


def parts_are_contiguous(rank: int, size: int, _folder: Path) -> None:
    """In the order of the ranks they are the whole, flat index by flat index."""
    for rows in ROWS:
        tensor = numbered(rows)
        sharded = cut(tensor, size)
        own = extent(sharded)
        assert own.shape == (rows, 3)
        assert local(sharded).numel() == own.size
        flat = tensor.view(-1)[own.offset : own.offset + own.size]
        assert torch.equal(local(sharded).reshape(-1), flat)
        parts = ProcessGroup().gathered(torch.tensor([own.offset, own.size]))
        ends = [0]
        for offset, length in (each.tolist() for each in parts):
            assert offset == ends[-1]
            ends.append(offset + length)
        assert ends[-1] == rows * 3
        assert torch.equal(ProcessGroup().gathered(local(sharded).reshape(-1))[rank], flat)


def parts_come_from_wholes(_rank: int, size: int, _folder: Path) -> None:
    """`part`, `beside` and `whole` undo each other, bit for bit, for every dtype."""
    for dtype in (torch.float32, torch.bfloat16, torch.float64, torch.bool, torch.uint8):
        for rows in ROWS:
            tensor = (numbered(rows) % 2).to(dtype)
            sharded = cut(tensor, size)
            assert torch.equal(part(tensor, sharded), local(sharded))
            assert torch.equal(part(sharded, sharded), local(sharded))
            again = like_sharding(part(tensor, sharded), sharded)
            assert isinstance(again, DTensor)
            assert isinstance(sharded, DTensor)
            assert again.shape == tensor.shape
            assert again.stride() == tensor.stride()
            assert again.placements == sharded.placements
            assert torch.equal(whole(again), tensor)
    sharded = cut(numbered(5), size)
    held = local(sharded)
    held.zero_()
    assert not whole(sharded).any(), "the part shares its memory"
    raises(MaskError, "they must be the same", lambda: part(numbered(4), sharded))
    raises(MaskError, "give what it holds", lambda: like_sharding(torch.zeros(9, 3), sharded))
    copies = distribute_tensor(numbered(5), mesh_of(size), [Replicate()])
    raises(MaskError, "cut it alike", lambda: part(copies, sharded))
    assert torch.equal(part(numbered(5), copies), numbered(5))


def fully_shard_cuts_by_rows(rank: int, size: int, _folder: Path) -> None:
    """What `fully_shard` makes has the extents that are expected; also where a rank has nothing."""
    model = perceptron()
    expected = {name: p.detach().clone() for name, p in model.named_parameters()}
    fully_shard(model, mesh=mesh_of(size))
    for name, parameter in model.named_parameters():
        own = extent(parameter, name)
        flat = expected[name].view(-1)[own.offset : own.offset + own.size]
        assert torch.equal(local(parameter).reshape(-1), flat)
        assert not local(parameter).requires_grad
    ranks = group_of(dict(model.named_parameters()))
    assert (ranks.rank, ranks.size) == (rank, size)
    assert (ranks is SINGLE_PROCESS) == (size == 1)


def ranks_of_tensors(_rank: int, size: int, _folder: Path) -> None:
    """Which ranks hold the parts, and what cannot be: each in a line."""
    plain = numbered(4)
    sharded = cut(plain, size)
    copies = distribute_tensor(plain, mesh_of(size), [Replicate()])
    assert group_of({}) is SINGLE_PROCESS
    assert group_of({"plain": plain}) is SINGLE_PROCESS
    assert group_of({"copies": copies, "plain": plain}) is SINGLE_PROCESS
    columns = distribute_tensor(plain, mesh_of(size), [Shard(1)])
    raises(ParameterError, "columns is cut [Shard(dim=1)]", lambda: group_of({"columns": columns}))
    sums = DTensor.from_local(plain, mesh_of(size), [Partial()])
    raises(ParameterError, "sums is cut [Partial", lambda: extent(sums, "sums"))
    mixed = {"sharded": sharded, "plain": plain}
    raises(ParameterError, "plain is whole on each rank and sharded", lambda: group_of(mixed))
    other = DTensor.from_local(
        torch.zeros(9, 3), mesh_of(size), [Shard(0)], shape=torch.Size((4, 3)), stride=(3, 1)
    )
    raises(ParameterError, "shard it with fully_shard()", lambda: group_of({"other": other}))


def numbers_are_the_same_everywhere(rank: int, size: int, _folder: Path) -> None:
    """Means and totals are rounded once, on every rank alike."""
    tensors = {"sharded": cut(numbered(4), size)}
    own = 0.1 * (rank + 1)
    expected = math.fsum(0.1 * (each + 1) for each in range(size))
    assert mean(own, tensors) == expected / size
    assert sum_over_ranks(own, group_of(tensors)) == expected
    assert mean(own, {"plain": numbered(4)}) == own


def gathered_weights_are_let_go(_rank: int, size: int, _folder: Path) -> None:
    """After `reshard` the parameters are the sharded ones, and a forward sees what they are."""
    data = torch.ones(2, 6)

    def forward(model: nn.Module) -> Tensor:
        with torch.no_grad():
            output: Tensor = model(data)
        return output

    for forget in (True, False):
        model = perceptron()
        fully_shard(model, mesh=mesh_of(size))
        parameters = list(model.parameters())
        first = forward(model)
        assert not any(map(is_sharded, model.parameters())), "FSDP2 lets go of them: reshard() late"
        if forget:
            reshard(model)
            assert all(map(is_sharded, model.parameters()))
        for parameter in parameters:
            local(parameter).zero_()
        # the control: without it what is written to the parts is not seen
        assert torch.equal(forward(model), torch.zeros(2, 4) if forget else first)


def the_older_fsdp_is_refused(_rank: int, size: int, _folder: Path) -> None:
    if size > 1:  # of one rank it warns
        model = FullyShardedDataParallel(perceptron(), device_id=torch.device("cpu"))
        raises(ParameterError, "FullyShardedDataParallel (FSDP1)", lambda: require_fsdp2(model))
    sharded = perceptron()
    fully_shard(sharded, mesh=mesh_of(size))
    require_fsdp2(sharded)


def replicas_and_tensor_parallel(rank: int, size: int, _folder: Path) -> None:
    """Of a mesh of 2 × 2: replicas sharded alike decide each for itself, strided shards cannot."""
    if size != 4:
        return
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard"))
    model = perceptron()
    weight = model.get_parameter("0.weight").detach().clone()
    fully_shard(model, mesh=mesh)
    parameters = dict(model.named_parameters())
    ranks = group_of(parameters)
    assert (ranks.rank, ranks.size) == (rank % 2, 2)
    own = extent(parameters["0.weight"])
    assert (own.offset, own.size) == (24 * (rank % 2), 24)
    assert torch.equal(part(weight, parameters["0.weight"]), local(parameters["0.weight"]))
    assert torch.equal(whole(parameters["0.weight"]), weight)
    assert mean(float(rank), parameters) == 1.5

    def style(tensor: Tensor) -> Tensor:
        return distribute_tensor(tensor, mesh["shard"], [Shard(0)])

    tensor_parallel = perceptron()
    for layer in tensor_parallel:
        if not isinstance(layer, nn.Linear):
            continue
        layer.weight = nn.Parameter(style(layer.weight.detach()))
        layer.bias = nn.Parameter(style(layer.bias.detach()))
    fully_shard(tensor_parallel, mesh=mesh["replicate"])
    strided = dict(tensor_parallel.named_parameters())
    raises(ParameterError, "without tensor parallelism", partial(group_of, strided))


CHECKS = (
    parts_are_contiguous,
    parts_come_from_wholes,
    fully_shard_cuts_by_rows,
    ranks_of_tensors,
    numbers_are_the_same_everywhere,
    gathered_weights_are_let_go,
    the_older_fsdp_is_refused,
    replicas_and_tensor_parallel,
)


found, test_on_ranks = on_ranks(CHECKS, SIZES)


def test_a_failure_is_told_and_no_rank_waits_for_one_that_died(tmp_path: Path) -> None:
    """The control of all the tests that run on ranks."""
    found = run_together((works, dies, parts_are_contiguous), 2, tmp_path)
    assert found["works"] is None
    assert "rank 0: Traceback" in str(found["dies"])
    assert "not run: a check before it failed" in str(found["parts_are_contiguous"])


def works(_rank: int, size: int, _folder: Path) -> None:
    assert ProcessGroup().total(torch.tensor(1)) == size


def dies(rank: int, _size: int, _folder: Path) -> None:
    if rank == 1:
        os._exit(0)
    group_of({"sharded": cut(numbered(4), 2)}).total(torch.tensor(1))


def test_without_ranks_a_tensor_is_its_own_part() -> None:
    tensor = numbered(4).requires_grad_()
    assert local(tensor) is tensor
    assert extent(tensor).size == 12
    assert part(tensor, tensor) is tensor
    assert like_sharding(tensor, tensor) is tensor
    assert whole(tensor) is tensor
    assert mean(0.1, {"tensor": tensor}) == 0.1
    reshard(perceptron())
    require_fsdp2(perceptron())
