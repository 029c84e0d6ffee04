"""Gradients summed over the ranks while they are computed: g ← Σ_r g_r.

Parameters are divided into buckets, the last layers first, in the order in which their gradients
arrive. A complete bucket is summed by one all-reduce while the backward pass continues. Buckets and
their order never change, so a sum has the same bits in a run that was resumed from a checkpoint.

This is the method of DistributedDataParallel, which is not used for three reasons. It reorders its
buckets after the first step, which changes the order of additions with three ranks or more: a
resumed run would end with other bits. (With `find_unused_parameters` it does not, but then it warns
on every rank.) It averages instead of adding. And it cannot take a step in which a rank has no row.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pins.distributed.process_group import Group
from pins.errors import ModelError

BUCKET = 25 << 20  # bytes, as in DistributedDataParallel: a heuristic between overlap and calls


@dataclass
class _Bucket:
    """Parameters whose gradients are sent together, of one dtype and on one device."""

    parameters: list[nn.Parameter] = field(default_factory=list)
    size: int = 0  # bytes
    arrived: set[int] = field(default_factory=set)
    sum: Tensor | None = None  # the gradients, then for each the number of ranks that have it
    work: Any = None

    def send(self) -> None:
        """Start the all-reduce; the gradients become views of its result."""
        flat = [
            p.grad.reshape(-1) if p.grad is not None else p.new_zeros(p.numel())
            for p in self.parameters
        ]
        having = [float(p.grad is not None) for p in self.parameters]
        self.sum = torch.cat([*flat, self.parameters[0].new_tensor(having)])
        for parameter, view in zip(self.parameters, self._views(), strict=True):
            if parameter.grad is not None:
                parameter.grad = view
        self.work = dist.all_reduce(self.sum, async_op=True)

    def receive(self) -> None:
        """Wait for the all-reduce; a parameter gets a gradient if any rank has one."""
        assert self.sum is not None
        self.work.wait()
        if any(parameter.grad is None for parameter in self.parameters):
            having = self.sum[-len(self.parameters) :].tolist()
            for parameter, view, ranks in zip(self.parameters, self._views(), having, strict=True):
                if parameter.grad is None and ranks:
                    parameter.grad = view
        self.arrived, self.sum, self.work = set(), None, None

    def _views(self) -> Iterator[Tensor]:
        assert self.sum is not None
        ends = [0]
        for parameter in self.parameters:
            ends.append(ends[-1] + parameter.numel())
        for parameter, (start, end) in zip(self.parameters, pairwise(ends), strict=True):
            yield self.sum[start:end].view(parameter.shape)


class GradientSum:
    """Sums the gradients of a model over the processes of `torch.distributed`."""

    def __init__(
        self, parameters: Iterable[nn.Parameter], group: Group, *, bucket: int = BUCKET
    ) -> None:
        """Register hooks on the parameters that are trained.

        Args:
            parameters: in the order in which the model uses them, the same on every rank.
            group: all processes; with a group of one process nothing is done.
            bucket: approximate bytes of a bucket.
        """
        self._buckets: list[_Bucket] = []
        self._armed = False
        self._sent = 0
        if group.size == 1:
            return
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        for parameter in reversed(trained):
            self._place(parameter, bucket)
        for each in self._buckets:
            for parameter in each.parameters:
                hook: Any = parameter.register_post_accumulate_grad_hook
                hook(self._hook(each))

    @contextmanager
    def summing(self) -> Iterator[None]:
        """Put the last backward pass of a step inside: after the block each `.grad` is the sum.

        Every rank enters it once per step, even without a backward pass. The gradient of a
        parameter stays None if no rank has one.

        Raises:
            ModelError: a gradient arrived twice in the pass.
        """
        self._armed, self._sent = True, 0
        try:
            yield
        finally:
            self._armed = False
        for bucket in self._buckets[self._sent :]:
            bucket.send()
        for bucket in self._buckets:
            bucket.receive()

    def _place(self, parameter: nn.Parameter, most: int) -> None:
        last = self._buckets[-1] if self._buckets else None
        if last is None or last.size >= most or not _alike(last.parameters[0], parameter):
            last = _Bucket()
            self._buckets.append(last)
        last.parameters.append(parameter)
        last.size += parameter.numel() * parameter.element_size()

    def _hook(self, bucket: _Bucket) -> Any:
        def arrived(parameter: Tensor) -> None:
            if not self._armed:
                return
            if id(parameter) in bucket.arrived:
                raise ModelError(
                    "the gradient of a weight arrived twice in one backward pass, and several "
                    "ranks sum it when it arrives: leave out gradient_checkpointing, or use one "
                    "process"
                )
            bucket.arrived.add(id(parameter))
            # all ranks send in the order of the buckets
            while self._sent < len(self._buckets):
                ready = self._buckets[self._sent]
                if len(ready.arrived) < len(ready.parameters):
                    return
                ready.send()
                self._sent += 1

        return arrived


def _alike(first: Tensor, second: Tensor) -> bool:
    return first.dtype == second.dtype and first.device == second.device
