"""Shards: the rows of a parameter that this rank holds if FSDP2 (`fully_shard`) shards it.

Of a tensor (n₀, n₁, …) over W ranks, rank r holds the rows [rc, (r+1)c) with c = ⌈n₀/W⌉; the last
ranks hold fewer rows, or none. The local parts in the order of the ranks, row-major, are the whole
tensor: the flat index of a weight is the offset of its part plus its index in the part.

Collectives here are `mean`, `loss_of_ranks` and `whole`: every rank calls them for the same
tensors in the same order.
"""

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pins.distributed.collectives import sum_over_ranks
from pins.distributed.process_group import SINGLE_PROCESS, Group, ProcessGroup
from pins.errors import MaskError, ParameterError

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


@dataclass(frozen=True)
class Extent:
    """The flat indices [offset, offset + size) of the part of a tensor that this rank holds.

    Attributes:
        shape: of the whole tensor.
        offset: the flat index of the part's first weight.
        size: number of weights in the part.
    """

    shape: tuple[int, ...]
    offset: int
    size: int


def is_sharded(tensor: Tensor) -> "TypeGuard[DTensor]":
    """Whether a tensor is a DTensor: distributed over ranks, in parts or in copies."""
    return isinstance(tensor, _loaded("torch.distributed.tensor", "DTensor"))


def local(tensor: Tensor) -> Tensor:
    """The part of a DTensor on this rank, sharing its memory, without graph; else the tensor."""
    return tensor.to_local().detach() if is_sharded(tensor) else tensor


def extent(tensor: Tensor, name: str = "the tensor") -> Extent:
    """The flat indices of the part that this rank holds.

    Raises:
        ParameterError: the tensor is not sharded by rows.
    """
    shape = tuple(tensor.shape)
    if not is_sharded(tensor) or (dimension := _row_dimension(tensor, name)) is None:
        return Extent(shape, 0, tensor.numel())
    ranks, own = tensor.device_mesh.size(dimension), tensor.device_mesh.get_local_rank(dimension)
    rows = _rows(shape[0], ranks, own)
    held = local(tensor)
    if tuple(held.shape) != (len(rows), *shape[1:]):
        raise ParameterError(
            f"{name} of shape {shape} has a part of shape {tuple(held.shape)} on rank {own} of "
            f"{ranks}, where fully_shard() puts {len(rows)} rows: shard it with fully_shard()"
        )
    return Extent(shape, rows.start * math.prod(shape[1:]), held.numel())


def group_of(tensors: Mapping[str, Tensor]) -> Group:
    """The ranks whose parts make the tensors; `SINGLE_PROCESS` if each rank holds all of them.

    With hybrid sharding these are the ranks of this rank's replica.

    Raises:
        ParameterError: a tensor is not sharded by rows, or two are sharded over different ranks.
    """
    first: tuple[str, Tensor] | None = None
    ranks: list[int] | None = None
    for name, tensor in tensors.items():
        extent(tensor, name)
        found = _ranks(tensor, name)
        if first is None:
            first, ranks = (name, tensor), found
        elif found != ranks:
            raise ParameterError(
                f"{name} is {_placed_on(found)} and {first[0]} {_placed_on(ranks)}: a decision "
                "ranks tensors that are sharded over the same ranks; shard all of them together, "
                "or leave some out"
            )
    if first is None or ranks is None or len(ranks) == 1:
        return SINGLE_PROCESS
    name, tensor = first
    assert is_sharded(tensor)
    return ProcessGroup(tensor.device_mesh.get_group(_row_dimension(tensor, name)))


def mean(value: float, tensors: Mapping[str, Tensor]) -> float:
    """The mean of a float over all ranks of the tensors' mesh, the same on each rank.

    It is rounded twice for each dimension of the mesh.
    """
    tensor = next(iter(tensors.values()))
    if not is_sharded(tensor):
        return value
    mesh = tensor.device_mesh
    for dimension in range(mesh.ndim):
        ranks = ProcessGroup(mesh.get_group(dimension))
        value = sum_over_ranks(value, ranks) / ranks.size
    return value


def loss_of_ranks(
    loss: Callable[[], float], model: nn.Module, tensors: Mapping[str, Tensor]
) -> Callable[[], float]:
    """Make a function that returns the mean of `loss()` over the ranks, with the current weights.

    Args:
        loss: computed by a forward pass of the model, on this rank's rows.
        model: its parameters are the tensors.
        tensors: if none of them is sharded, `loss` is returned as it is.
    """
    if not any(map(is_sharded, tensors.values())):
        return loss

    def mean_loss() -> float:
        reshard(model)
        own = loss()
        reshard(model)
        return mean(own, tensors)

    return mean_loss


def like_sharding(values: Tensor, like: Tensor) -> Tensor:
    """A DTensor with the local part `values` and the sharding of `like`; else `values`.

    Raises:
        MaskError: `values` does not have the shape of the local part of `like`.
    """
    if not is_sharded(like):
        return values
    if values.shape != local(like).shape:
        raise MaskError(
            f"a part of shape {tuple(values.shape)} was given where this rank holds "
            f"{tuple(local(like).shape)} of {tuple(like.shape)}: give what it holds"
        )
    from torch.distributed.tensor import DTensor

    return DTensor.from_local(
        values,
        like.device_mesh,
        like.placements,
        run_check=False,
        shape=like.shape,
        stride=torch.empty(like.shape, device="meta").stride(),
    )


def part(tensor: Tensor, like: Tensor) -> Tensor:
    """The part that this rank holds of `like`, taken from a tensor that is whole or sharded alike.

    Raises:
        MaskError: the shapes or the shardings differ.
    """
    if tensor.shape != like.shape:
        raise MaskError(
            f"a tensor of shape {tuple(tensor.shape)} was given for one of {tuple(like.shape)}: "
            "they must be the same"
        )
    if not is_sharded(tensor):
        if not is_sharded(like) or (dimension := _row_dimension(like, "the tensor")) is None:
            return tensor
        mesh = like.device_mesh
        rows = _rows(like.shape[0], mesh.size(dimension), mesh.get_local_rank(dimension))
        return tensor[rows.start : rows.stop]
    if not is_sharded(like) or (tensor.device_mesh, tensor.placements) != (
        like.device_mesh,
        like.placements,
    ):
        raise MaskError(
            f"a tensor cut {_placements(tensor)} was given for one cut {_placements(like)}: "
            "give it whole, or cut it alike"
        )
    return local(tensor)


def whole(tensor: Tensor) -> Tensor:
    """Gather a sharded tensor on every rank; use it for one tensor at a time, not for a model."""
    if not is_sharded(tensor) or (dimension := _row_dimension(tensor, "the tensor")) is None:
        return local(tensor)
    # not full_tensor(): a part on the CPU can belong to a mesh of GPUs, ProcessGroup moves it
    parts = ProcessGroup(tensor.device_mesh.get_group(dimension)).gathered(
        local(tensor).reshape(-1)
    )
    return torch.cat(parts).view(tensor.shape)


def reshard(model: nn.Module) -> None:
    """Make the model's parameters the sharded ones; the next forward pass gathers them again.

    After a forward pass without a backward pass FSDP2 keeps the gathered parameters: the model then
    ignores what is written to the local parts.
    """
    sharded = _loaded("torch.distributed.fsdp", "FSDPModule")
    for each in model.modules() if sharded else ():
        if isinstance(each, sharded):
            each.reshard()


def require_fsdp2(model: nn.Module) -> None:
    """Check that the model is not wrapped by FSDP1, which flattens several parameters into one.

    Raises:
        ParameterError: it is wrapped.
    """
    fsdp1 = _loaded("torch.distributed.fsdp", "FullyShardedDataParallel")
    if any(isinstance(each, fsdp1) for each in model.modules()):
        raise ParameterError(
            f"{type(model).__name__} is wrapped in FullyShardedDataParallel (FSDP1), which has no "
            "parameters of their own: shard it with torch.distributed.fsdp.fully_shard (FSDP2)"
        )


def _loaded(module: str, name: str) -> Any:
    """A class of a module, or (), no class, if nobody has imported it: that takes half a second."""
    return getattr(sys.modules.get(module), name, ())


def _rows(count: int, ranks: int, rank: int) -> range:
    """The rows of a rank, divided as by `torch.chunk`."""
    each = -(-count // ranks)
    return range(min(rank * each, count), min((rank + 1) * each, count))


def _row_dimension(tensor: "DTensor", name: str) -> int | None:
    """The dimension of the mesh that shards the rows; None if each rank has all rows."""
    from torch.distributed.tensor import Replicate, Shard

    # not isinstance: in some versions of torch a strided shard is a subclass of Shard
    by_rows = [type(each) is Shard and each.dim == 0 for each in tensor.placements]
    copies = [type(each) is Replicate for each in tensor.placements]
    known = all(a or b for a, b in zip(by_rows, copies, strict=True))
    if not known or sum(by_rows) > 1:
        raise ParameterError(
            f"{name} is cut {_placements(tensor)} over a mesh of {tuple(tensor.device_mesh.shape)}:"
            " a decision ranks tensors that are cut by rows, Shard(0), along one dimension of the "
            "mesh; use fully_shard() without tensor parallelism and without shard_placement_fn"
        )
    return by_rows.index(True) if any(by_rows) else None


def _ranks(tensor: Tensor, name: str) -> list[int] | None:
    """The global ranks whose parts make the tensor; None if each rank holds all of it."""
    if not is_sharded(tensor) or (dimension := _row_dimension(tensor, name)) is None:
        return None
    return list(dist.get_process_group_ranks(tensor.device_mesh.get_group(dimension)))


def _placed_on(ranks: list[int] | None) -> str:
    return "whole on each rank" if ranks is None else f"cut over ranks {ranks}"


def _placements(tensor: Any) -> str:
    return str(list(tensor.placements)) if is_sharded(tensor) else "not at all"
