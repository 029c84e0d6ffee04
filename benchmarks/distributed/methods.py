"""How the ranks of a group find the k largest scores together: PINS, and by one of them for all.

A part is a rank's own scores by tensor name. Every method leaves a rank the masks of its parts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from benchmarks.distributed.communication_plan import SCORE
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
        masks: a rank's parts and k ↦ its masks.
        mask_bytes: that rank 0 sends to each other rank, for each weight.
    """

    masks: Callable[[Parts, int], Sequence[Tensor]]
    mask_bytes: int

    def received(self, weights: Sequence[int]) -> int:
        """Most bytes that reach one rank, where they hold so many weights: rank 0, or any other."""
        if len(weights) == 1:
            return 0
        scores = SCORE * max(weights) * (len(weights) - 1)
        return max(scores, self.mask_bytes * max(weights) * len(weights))


def decided(parts: Parts, keep: int) -> list[Tensor]:
    """The optimum and its proof; no rank sees more than samples, counts and candidates."""
    return list(decide(parts, keep, ProcessGroup()).masks.values())


def by_topk(parts: Parts, keep: int) -> list[Tensor]:
    """Exactly k, whichever of equal ones."""
    whole, longest = _on_the_first(parts)
    rank, size = dist.get_rank(), dist.get_world_size()
    mask = torch.zeros(size * longest, dtype=torch.bool)
    if whole is not None:
        mask[torch.topk(whole, keep, sorted=False).indices] = True
    dist.broadcast(mask, 0)
    own = mask[rank * longest : (rank + 1) * longest]
    sizes = [each.numel() for each in parts.values()]
    found = torch.split(own[: sum(sizes)].clone(), sizes)
    return [part.view(each.shape) for part, each in zip(found, parts.values(), strict=True)]


def by_kthvalue(parts: Parts, keep: int) -> list[Tensor]:
    """s ≥ s₍ₖ₎; more than k where s₍ₖ₎ is tied."""
    whole, _ = _on_the_first(parts)
    threshold = torch.empty(())
    if whole is not None:
        threshold = torch.kthvalue(whole, whole.numel() - keep + 1).values
    dist.broadcast(threshold, 0)
    return [each >= threshold for each in parts.values()]


def _on_the_first(parts: Parts) -> tuple[Tensor | None, int]:
    """All scores, on rank 0 alone, rank by rank; and the room of a rank, filled up with −∞."""
    rank, size = dist.get_rank(), dist.get_world_size()
    own = torch.cat([each.reshape(-1) for each in parts.values()])
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
