"""Shards: the rows of a parameter that this rank holds, where FSDP2 (`fully_shard`) cuts it.

Of a tensor (n₀, n₁, …) over W ranks, rank r holds the rows [rc, (r+1)c) with c = ⌈n₀/W⌉; the last
ranks hold fewer, or none. So the parts in the order of the ranks, row-major, are the whole tensor,
and a flat index is where a part begins plus where in the part.

Every rank calls the functions that say "together" for the same tensors in the same order.
"""

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pins.distributed.process_group import SINGLE_PROCESS, Group, ProcessGroup
from pins.errors import MaskError, ParameterError

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


@dataclass(frozen=True)
class Extent:
    """Where the part of a tensor that this rank holds lies in the whole.

    Attributes:
        shape: of the whole.
        offset: the flat index of the part's first weight.
        size: how many weights the part has, the last flat index being offset + size − 1.
    """

    shape: tuple[int, ...]
    offset: int
    size: int


def is_sharded(tensor: Tensor) -> "TypeGuard[DTensor]":
    """Whether a tensor is distributed over ranks, be it in parts or in copies."""
    # importing them takes half a second; where nobody has, there are none
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def local(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor, sharing its memory, without its graph; else the tensor."""
    return tensor.to_local().detach() if is_sharded(tensor) else tensor


def extent(tensor: Tensor, name: str = "the tensor") -> Extent:
    """Where the part of this rank lies.

    Raises:
        ParameterError: the tensor is cut in another way than by rows.
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
    """The ranks whose parts make the whole; `SINGLE_PROCESS` where each rank holds the whole.

    Of replicas that are sharded alike (hybrid sharding), it is the ranks of this rank's replica.

    Raises:
        ParameterError: a tensor is cut in another way than by rows, or two over different ranks.
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
                f"{name} is {_spread(found)} and {first[0]} {_spread(ranks)}: a decision ranks "
                "tensors that are spread over the same ranks; shard all of them together, or leave "
                "some out"
            )
    if first is None or ranks is None or len(ranks) == 1:
        return SINGLE_PROCESS
    name, tensor = first
    assert is_sharded(tensor)
    return ProcessGroup(tensor.device_mesh.get_group(_row_dimension(tensor, name)))


def mean(value: float, tensors: Mapping[str, Tensor]) -> float:
    """The mean of a number over all ranks that hold these tensors, together.

    It is the same number on each of them, rounded once for each dimension of their mesh.
    """
    tensor = next(iter(tensors.values()))
    if not is_sharded(tensor):
        return value
    mesh = tensor.device_mesh
    for dimension in range(mesh.ndim):
        ranks = ProcessGroup(mesh.get_group(dimension))
        if ranks.size > 1:
            own = torch.tensor([value], dtype=torch.float64)
            value = math.fsum(float(each) for each in ranks.gathered(own)) / ranks.size
    return value


def loss_of_ranks(
    loss: Callable[[], float], model: nn.Module, tensors: Mapping[str, Tensor]
) -> Callable[[], float]:
    """The mean of what a function says on all ranks, with the weights as they stand at each call.

    Args:
        loss: by a forward of the model, of this rank's rows.
        model: whose parameters the tensors are.
        tensors: sharded; otherwise the function is all there is to it.
    """
    if not any(map(is_sharded, tensors.values())):
        return loss

    def together() -> float:
        reshard(model)
        own = loss()
        reshard(model)
        return mean(own, tensors)

    return together


def total(value: float, group: Group) -> float:
    """Σ of a float64 over the ranks, together; rounded once, so that each has the same."""
    if group.size == 1:
        return value
    own = torch.tensor([value], dtype=torch.float64)
    return math.fsum(float(each) for each in group.gathered(own))


def like_sharding(values: Tensor, like: Tensor) -> Tensor:
    """A tensor whose part on this rank is `values`, cut as `like`; `values` where that is whole.

    Raises:
        MaskError: `values` has not the shape of the part.
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
    """What this rank holds of `like`, taken from a tensor that is whole or cut as `like`.

    Raises:
        MaskError: the shapes differ, or it is cut in another way.
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
    """All of a tensor on every rank, together; one tensor, not a model, is what fits."""
    if not is_sharded(tensor) or (dimension := _row_dimension(tensor, "the tensor")) is None:
        return local(tensor)
    # as Ranks send it: parts that lie on the CPU can be of a mesh of GPUs
    parts = ProcessGroup(tensor.device_mesh.get_group(dimension)).gathered(
        local(tensor).reshape(-1)
    )
    return torch.cat(parts).view(tensor.shape)


def reshard(model: nn.Module) -> None:
    """Let the model's parameters be the sharded ones, and the next forward gather them anew.

    After a forward without a backward FSDP2 keeps what it gathered last: the parameters of the
    model are whole tensors then, and what is written to the parts is not seen.
    """
    module = sys.modules.get("torch.distributed.fsdp")
    if module is None or not hasattr(module, "FSDPModule"):
        return
    for each in model.modules():
        if isinstance(each, module.FSDPModule):
            each.reshard()


def require_fsdp2(model: nn.Module) -> None:
    """The model is not wrapped by the older FSDP, which flattens parameters into one.

    Raises:
        ParameterError: it is.
    """
    module = sys.modules.get("torch.distributed.fsdp")
    old = None if module is None else module.FullyShardedDataParallel
    if old is not None and any(isinstance(each, old) for each in model.modules()):
        raise ParameterError(
            f"{type(model).__name__} is wrapped in FullyShardedDataParallel (FSDP1), which has no "
            "parameters of their own: shard it with torch.distributed.fsdp.fully_shard (FSDP2)"
        )


def _rows(count: int, ranks: int, rank: int) -> range:
    """The rows of a rank, as `torch.chunk` gives them out."""
    each = -(-count // ranks)
    return range(min(rank * each, count), min((rank + 1) * each, count))


def _row_dimension(tensor: "DTensor", name: str) -> int | None:
    """The dimension of the mesh along which the rows are cut; None where each rank has them all."""
    from torch.distributed.tensor import Replicate, Shard

    # not isinstance: a strided shard is a kind of shard to some versions of torch
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
    """The global ranks whose parts make the whole; None where each rank has it."""
    if not is_sharded(tensor) or (dimension := _row_dimension(tensor, name)) is None:
        return None
    return list(dist.get_process_group_ranks(tensor.device_mesh.get_group(dimension)))


def _spread(ranks: list[int] | None) -> str:
    return "whole on each rank" if ranks is None else f"cut over ranks {ranks}"


def _placements(tensor: Any) -> str:
    return str(list(tensor.placements)) if is_sharded(tensor) else "not at all"
