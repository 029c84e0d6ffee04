"""Scores of weights that are decided already: below all others where pruned, above where kept.

A selection of finite scores then decides like one with −∞ and +∞, and the rest keeps its order.
"""

import functools
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pins.distributed.process_group import Group
from pins.errors import ImportanceError
from pins.selection.kth_largest import on_all_ranks
from pins.selection.runs import filled
from pins.selection.scan.reference import label, require_finite, require_rankable


class Limits:
    """A number above the magnitude of every score of all ranks, found when it is first needed."""

    def __init__(self, importance: Mapping[Any, Tensor], group: Group) -> None:
        self._importance, self._group = importance, group
        # no cached_property, whose lock would let ranks that are threads wait for each other
        self._found: tuple[torch.dtype, float] | None = None

    @property
    def known(self) -> bool:
        """Whether all scores were read, and are finite."""
        return self._found is not None

    def applied(self, scores: Tensor, allowed: Tensor | None, forced: Tensor | None) -> Tensor:
        """Scores of which some are below and some above all others; a copy if there are any.

        Args:
            scores: some of the model's, or what this made of them.
            allowed: bool in their shape, False = below all others; None: all are allowed.
            forced: bool in their shape, True = above all others; None: none is forced.

        Raises:
            ImportanceError: a score of the model cannot be ranked, or is the largest of float64.
        """
        if allowed is None and forced is None:
            return scores
        dtype, beyond = self._found = self._found or self._beyond()
        shape, scores = scores.shape, scores.to(dtype).reshape(-1)
        if allowed is not None:
            scores = filled(scores, allowed.reshape(-1), -beyond)
        if forced is not None:
            scores = filled(scores, ~forced.reshape(-1), beyond)
        return scores.view(shape)

    def _beyond(self) -> tuple[torch.dtype, float]:
        """The least dtype that has every score and the number, and the number."""
        own, dtypes = on_all_ranks(self._group, self._read)
        most = max(self._group.whole(torch.tensor([own], dtype=torch.float64)).tolist())
        for dtype in (functools.reduce(torch.promote_types, dtypes), torch.float64):
            beyond = min(2 * most + 1, torch.finfo(dtype).max)
            beyond = torch.tensor(beyond, dtype=torch.float64).to(dtype).item()
            if most < beyond < math.inf:
                return dtype, beyond
        raise ImportanceError(
            f"a score has the magnitude {most}, the largest of float64: bounds inside the model "
            "need a larger number, scale the scores down"
        )

    def _read(self) -> tuple[float, set[torch.dtype]]:
        """The largest magnitude of this rank, and the dtypes."""
        most, dtypes = 0.0, set()
        for name, scores in self._importance.items():
            require_rankable(label(name), scores)
            dtypes.add(scores.dtype)
            if scores.numel():
                low, high = scores.detach().aminmax()
                if not (low.isfinite() and high.isfinite()):
                    require_finite(label(name), scores)
                most = max(most, -low.item(), high.item())
        return most, dtypes
