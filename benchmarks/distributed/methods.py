"""How ranks find the k largest scores: PINS on all ranks, and methods that gather on rank 0.

A rank's parts are its scores by tensor name. Every method returns the masks of the rank's parts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from benchmarks.distributed.cost_model import SCORE
from benchmarks.selection.methods import by_tensor, flat
from pins.distributed.process_group import ProcessGroup
from pins.selection.select import decide

Parts = Mapping[str, Tensor]
DECIDE = "pins.decide"
TOPK = "gather, torch.topk, broadcast the mask"
KTHVALUE = "gather, torch.kthvalue, broadcast the threshold"


@dataclass(frozen=True)
class Method:
    """One way to decide.

    Attributes:
        masks: a rank's parts, k ↦ its masks.
        mask_bytes: bytes a weight that rank 0 sends to each other rank.
    """

    masks: Callable[[Parts, int], Sequence[Tensor]]
    mask_bytes: int

    def received(self, weights: Sequence[int]) -> int:
        """Bytes that reach rank 0, or another rank if more reach it; `weights` of each rank."""
        if len(weights) == 1:
            return 0
        scores = SCORE * max(weights) * (len(weights) - 1)
        return max(scores, self.mask_bytes * max(weights) * len(weights))


def decided(parts: Parts, keep: int) -> list[Tensor]:
    """The optimum and its proof; ranks exchange only samples, counts and candidates."""
    return list(decide(parts, keep, ProcessGroup()).masks.values())


def by_topk(parts: Parts, keep: int) -> list[Tensor]:
    """Exactly k, ties in any order."""
    whole, longest = _gathered_on_rank_0(parts)
    mask = torch.zeros(dist.get_world_size() * longest, dtype=torch.bool)
    if whole is not None:
        mask[torch.topk(whole, keep, sorted=False).indices] = True
    dist.broadcast(mask, 0)
    start = dist.get_rank() * longest
    own = mask[start : start + sum(each.numel() for each in parts.values())]
    return by_tensor(own.clone(), parts)


def by_kthvalue(parts: Parts, keep: int) -> list[Tensor]:
    """s ≥ s₍ₖ₎; more than k if s₍ₖ₎ is tied."""
    whole, _ = _gathered_on_rank_0(parts)
    threshold = torch.empty(())
    if whole is not None:
        threshold = torch.kthvalue(whole, whole.numel() - keep + 1).values
    dist.broadcast(threshold, 0)
    return [each >= threshold for each in parts.values()]


def _gathered_on_rank_0(parts: Parts) -> tuple[Tensor | None, int]:
    """All scores (None except on rank 0), each rank's padded with −∞; and the padded length."""
    rank, size = dist.get_rank(), dist.get_world_size()
    own = flat(parts)
    longest = torch.tensor(len(own))
    dist.all_reduce(longest, op=dist.ReduceOp.MAX)
    room = int(longest)
    own = torch.nn.functional.pad(own, (0, room - len(own)), value=-torch.inf)
    whole = own.new_empty(size * room) if rank == 0 else None
    dist.gather(own, None if whole is None else list(whole.view(size, room)), dst=0)
    return whole, room


METHODS: Mapping[str, Method] = {
    DECIDE: Method(decided, 0),
    TOPK: Method(by_topk, 1),
    KTHVALUE: Method(by_kthvalue, 0),
}
