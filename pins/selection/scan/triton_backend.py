"""Passes over the scores of a model on a GPU: one launch and one wait each, however many tensors.

A `Scan` asks much of a GPU's host: kernels for every tensor, and a wait for each whose scores in an
interval are gathered. Here the tensors of a pass are one launch of a kernel that reads every score
once and does all of it; scores that are computed when they are asked for are a launch each, without
a wait in between. The bits are those of a `Scan`.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from pins.selection.scan import float_keys, triton_kernels, triton_launch
from pins.selection.scan.reference import (
    Compared,
    Marked,
    Scan,
    label,
    require_finite,
    require_rankable,
)
from pins.selection.scan.triton_launch import Launch, Launcher, programs
from pins.utils.lazy_tensors import Scores

_SEED = 0  # of the sample: another one finds the same mask


class TritonScan(Scan):
    """The scores of this process on one GPU. Scores are compared as their keys."""

    def __init__(
        self,
        importance: Mapping[Any, Tensor],
        names: Collection[Any] | None = None,
        *,
        device: torch.device,
    ) -> None:
        """Read nothing yet.

        Args:
            importance: as for `Scan`.
            names: as for `Scan`.
            device: where to look at them; scores from elsewhere are copied there.
        """
        super().__init__(importance, names)
        self._as_keys = True
        self._gpu = Launcher(device, self.sizes)

    def survey(self, size: int, of: int) -> Tensor:
        """As `Scan.survey`; the random places are of all tensors of a launch together."""
        drawn: list[Tensor] = []
        kinds: list[torch.dtype] = []
        # a score is finite iff its key is one of a finite score
        counters = self._gpu.zeros(len(self.sizes), triton_kernels.COUNTERS)
        for portion in self._portions():
            for name, scores in portion.items():
                require_rankable(label(name), scores)
            kinds.extend(scores.dtype for scores in portion.values())
            for launch in self._gpu.launches(portion):
                dtype = launch.scores[0].dtype
                self._count(launch, *float_keys.finite(dtype), counters, dtype)
                if size:
                    drawn.append(self._drawn(launch, size, of))
        self.dtype = torch.float32 if not kinds else kinds[0]
        for kind in kinds:
            self.dtype = torch.promote_types(self.dtype, kind)
        for (name, total), finite in zip(self.sizes.items(), counters[:, 1].tolist(), strict=True):
            if finite != total:
                require_finite(label(name), self._importance[name])
        return torch.cat([self._comparable(v) for v in drawn]).cpu() if drawn else self.nothing

    def mark(self, low: float | None, high: float, *, every: int = 1, room: int = 0) -> Marked:
        """As `Scan.mark`.

        Where more would be gathered than there is room for, nothing is handed on: which of it were
        there would be a matter of chance.
        """
        least = float_keys.finite(self.dtype)[0] if low is None else int(low)
        masks: dict[Any, Tensor] = {}
        counters = self._gpu.zeros(len(self.sizes), triton_kernels.COUNTERS)
        used, runs = self._gpu.zeros(1), self._gpu.zeros(self._gpu.blocks, triton_kernels.RUN)
        lanes = self._gpu.empty(room, torch.int16)
        found = self._gpu.empty(room, float_keys.DTYPES[self.dtype])
        for portion in self._portions():
            own = {
                name: torch.empty(scores.shape, dtype=torch.bool, device=self._gpu.device)
                for name, scores in portion.items()
            }
            for launch in self._gpu.launches(portion, own):
                self._gpu.run(
                    triton_kernels.mark,
                    launch,
                    *(least, int(high), every, room, counters, used, runs, lanes, found),
                    **launch.types(self.dtype),
                    WRITE=True,
                )
            masks |= {name: mask.to(portion[name].device) for name, mask in own.items()}
        above, inside, gathered = counters.cpu().T  # the one time that this pass waits
        total = int(gathered.sum())
        fits = total <= room
        positions = self._gpu.empty(total if fits else 0, torch.int64)
        values = self._gpu.empty(total if fits else 0, found.dtype)
        if fits and total:
            targets = runs[:, 1].cumsum(0) - runs[:, 1]
            self._gpu.launch(
                triton_kernels.order,
                self._gpu.blocks,
                *(runs, targets, lanes, found, positions, values),
                BLOCK=triton_launch.BLOCK,
            )
        lengths = (gathered if fits else torch.zeros_like(gathered)).tolist()
        return Marked(
            masks,
            above,
            inside,
            list(torch.split(positions, lengths)),
            list(torch.split(values, lengths)),
            complete=fits and every == 1 and room > 0,
        )

    def tie(self, masks: Mapping[Any, Tensor], value: float, allowed: Mapping[Any, int]) -> None:
        """As `Scan.tie`, in two passes: one counts them in each block, one marks them."""
        some = {name for name, count in allowed.items() if count}
        limits = self._gpu.sent([allowed.get(name, 0) for name in self.sizes])
        counters = self._gpu.zeros(len(self.sizes), triton_kernels.COUNTERS)
        runs = self._gpu.zeros(self._gpu.blocks, triton_kernels.RUN)
        for portion in self._portions(some):
            own = self._gpu.here({name: masks[name] for name in portion})
            for launch in self._gpu.launches(portion, own):
                self._count(launch, int(value), int(value), counters, self.dtype, runs)
                before = runs[:, 1].cumsum(0) - runs[:, 1]
                self._gpu.run(
                    triton_kernels.tie,
                    launch,
                    *(int(value), runs, before, limits),
                    **launch.types(self.dtype),
                )
            _give_back(masks, own)

    def largest_below(self, value: float) -> Tensor:
        """As `Scan.largest_below`."""
        none = torch.iinfo(torch.int64).min
        found = torch.full((1,), none, device=self._gpu.device)
        for portion in self._portions():
            for launch in self._gpu.launches(portion):
                self._gpu.run(
                    triton_kernels.largest_below,
                    launch,
                    *(int(value), found),
                    **launch.types(self.dtype),
                )
        largest = int(found)
        return self.nothing if largest == none else self.nothing.new_tensor([largest])

    def compared(self, masks: Mapping[Any, Tensor], value: float) -> Compared:
        """As `Scan.compared`."""
        counters, kept = self._gpu.zeros(3), self._gpu.zeros(1)
        for portion in self._portions():
            own = self._gpu.here({name: masks[name] for name in portion})
            for mask in own.values():
                kept += mask.count_nonzero()
            for launch in self._gpu.launches(portion, own):
                self._gpu.run(
                    triton_kernels.contradictions,
                    launch,
                    *(int(value), counters),
                    **launch.types(self.dtype),
                )
        return Compared(*torch.cat([kept, counters]).tolist())

    def ties(self, marked: Marked, value: float) -> Tensor:
        """As `Scan.ties`, of all tensors together."""
        upto, starts, lengths = self._equal(marked, value)
        return (upto[starts + self._gpu.sent(lengths)] - upto[starts]).cpu()

    def settle(self, marked: Marked, value: float, allowed: Sequence[int]) -> None:
        """As `Scan.settle`, in one launch."""
        upto, starts, lengths = self._equal(marked, value)
        if len(upto) == 1:
            return
        values, positions = torch.cat(marked.values), torch.cat(marked.positions)
        tensors = self._gpu.spread(lengths)
        first = upto[1:] - upto[starts][tensors] <= self._gpu.sent(allowed)[tensors]
        ties = values == value
        kept = (values > value) | (ties & first)
        own = self._gpu.here(marked.masks)
        self._gpu.launch(
            triton_kernels.settle,
            programs(len(values)),
            self._gpu.sent([mask.data_ptr() for mask in own.values()]),
            *(tensors, positions, kept, len(values)),
            BLOCK=triton_launch.BLOCK,
        )
        _give_back(marked.masks, own)

    def _equal(self, marked: Marked, value: float) -> tuple[Tensor, Tensor, list[int]]:
        """How many of what was gathered are equal up to each one; where tensors start; lengths."""
        lengths = [len(values) for values in marked.values]
        equal = torch.cat(marked.values) == value
        upto = torch.nn.functional.pad(equal.cumsum(0), (1, 0))
        return upto, self._gpu.sent([0, *accumulate(lengths)][:-1]), lengths

    def _count(
        self,
        launch: Launch,
        low: int,
        high: int,
        counters: Tensor,
        common: torch.dtype,
        runs: Tensor | None = None,
    ) -> None:
        """Counts of each tensor, and in `runs` of each block; no masks, nothing is gathered."""
        if runs is None:
            runs = self._gpu.empty(self._gpu.blocks * triton_kernels.RUN, torch.int64)
        nothing = self._gpu.empty(0, torch.int32)
        self._gpu.run(
            triton_kernels.mark,
            launch,
            *(low, high, 1, 0, counters, counters, runs, nothing, nothing),
            **launch.types(common),
            WRITE=False,
        )

    def _drawn(self, launch: Launch, size: int, of: int) -> Tensor:
        """A launch's share of the sample."""
        sizes = [scores.numel() for scores in launch.scores]
        total = sum(sizes)
        generator = torch.Generator(self._gpu.device).manual_seed(_SEED)
        places = torch.randint(
            total, (-(-size * total // of),), generator=generator, device=self._gpu.device
        )
        ends = launch.table[:, 2].cumsum(0)
        rows = torch.searchsorted(ends, places, right=True)
        places = places - (ends - launch.table[:, 2])[rows]
        drawn = self._gpu.empty(len(places), launch.scores[0].dtype)
        self._gpu.launch(
            triton_kernels.draw,
            programs(len(places)),
            *(launch.table, rows, places, len(places), drawn),
            SOURCE=triton_kernels.TYPES[drawn.dtype],
            BLOCK=triton_launch.BLOCK,
        )
        return drawn

    def _portions(self, names: Collection[Any] | None = None) -> Iterator[dict[Any, Tensor]]:
        """Tensors to look at together: all that are held; of those that are computed, each one."""
        wanted = [name for name in self.sizes if names is None or name in names]
        if isinstance(self._importance, Scores):
            for name in wanted:
                yield {name: self._importance[name].detach()}
        else:
            yield {
                name: scores.detach() if isinstance(scores, Tensor) else scores
                for name in wanted
                for scores in [self._importance[name]]
            }


def _give_back(masks: Mapping[Any, Tensor], changed: Mapping[Any, Tensor]) -> None:
    """Masks that a kernel could not change themselves."""
    for name, mask in changed.items():
        if mask is not masks[name]:
            masks[name].copy_(mask)
