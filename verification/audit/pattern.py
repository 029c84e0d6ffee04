"""The pattern of a mask, found exactly: what each of its runs or blocks keeps.

The first that is found of this list, the narrower before the wider:

    dense, empty         nothing is pruned; nothing is kept
    blocks               whole rows or columns, then of r × c weights, are kept or pruned whole
    N:M                  each M consecutive inputs (else outputs) keep exactly N
    rows, columns        each row, else each column, keeps one number
    at most N:M          each M consecutive inputs keep at most N ≤ M/2
    unstructured         none of these

Free weights count whichever way fits. If a few runs keep another number than all others, or a few
blocks are not whole, the pattern is found with its breaks.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pins.selection.blocks import Blocks
from pins.selection.constraints import AtMostNofM, NofM, PerRow, PerTensor
from pins.selection.tree import Node, View
from verification.audit.blocks import block_kept, broken_blocks, expanded, largest_blocks
from verification.audit.runs import LONGEST_GROUP, Break, filled, same_count

INPUTS, OUTPUTS = "inputs", "outputs"
FEWEST_GROUPS = 64  # of fewer, "at most" says little


@dataclass(frozen=True)
class Pattern:
    """What a mask of a matrix keeps.

    Attributes:
        kind: "dense", "empty", "blocks", "N:M", "rows", "columns", "at most N:M" or "unstructured".
        sides: rows and columns of a block; of a run (1, M), along the outputs (M, 1).
        keep: N of each run; 0 where there are none.
        breaks: the runs that keep another number, the blocks that are not whole; empty if the
            pattern holds.
    """

    kind: str
    sides: tuple[int, int] = (1, 1)
    keep: int = 0
    breaks: tuple[Break, ...] = ()

    @property
    def length(self) -> int:
        """M."""
        return max(self.sides)

    @property
    def along(self) -> str:
        """The dimension in which the weights of a run follow each other."""
        return INPUTS if self.sides[0] == 1 else OUTPUTS

    def __str__(self) -> str:
        """As a phrase."""
        if self.kind == "blocks":
            return f"blocks of {self.sides[0]} × {self.sides[1]}"
        if self.kind in ("rows", "columns"):
            return f"{self.keep} of {self.length} in each {self.kind[:-1]}"
        if self.keep:
            most = "at most " if self.kind.startswith("at most") else ""
            return f"{most}{self.keep}:{self.length} along the {self.along}"
        return self.kind

    def tree(self, name: str, mask: Tensor) -> Node:
        """The masks of this pattern with as many kept weights, or blocks, as `mask`.

        Args:
            name: of the tensor.
            mask: bool (…, outputs, inputs), of this pattern.
        """
        view, kept = View.of(mask.shape), int(mask.count_nonzero())
        if self.kind == "blocks":
            number = PerTensor({name: kept // math.prod(self.sides)})
            return Blocks(self.sides, number).tree({name: view})
        if self.along == OUTPUTS:
            view = view._replace(outputs=view.inputs, inputs=view.outputs, transposed=True)
        bounds: Any = PerTensor({name: kept})
        if self.kind == "at most N:M":
            bounds &= AtMostNofM(self.keep, self.length)
        elif self.kind == "N:M":
            bounds = NofM(self.keep, self.length)
        elif self.keep:
            bounds = PerRow({name: self.keep})
        found: Node = bounds.tree({name: view})
        return found


def find_pattern(kept: Tensor, pruned: Tensor) -> Pattern:
    """The pattern of a matrix, or of the matrices of experts.

    Args:
        kept: bool (…, outputs, inputs), the weights that are kept.
        pruned: bool, likewise, disjoint from `kept`; the others are free.
    """
    if not pruned.any():
        return Pattern("dense")
    if not kept.any():
        return Pattern("empty")
    rows, columns = kept.shape[-2:]
    blocks = largest_blocks(kept.reshape(-1, columns), pruned.reshape(-1, columns))
    blocks = blocks if rows % blocks[0] == 0 else (1, blocks[1])  # within one expert
    if blocks != (1, 1) and (rows == blocks[0] or columns == blocks[1]):
        return Pattern("blocks", blocks)
    free = ~(kept | pruned)
    if found := _n_of_m(kept, free):
        return found
    if blocks != (1, 1):
        return Pattern("blocks", blocks)
    runs = _whole_runs(kept, free)
    if runs and not runs.breaks:
        return runs
    return _broken_blocks(kept, pruned) or runs or _at_most(kept) or Pattern("unstructured")


def completed(pattern: Pattern, kept: Tensor, pruned: Tensor) -> Tensor:
    """The mask of this pattern: of the free weights as many are kept as it needs, the first ones.

    Args:
        pattern: of `kept` and `pruned`.
        kept: bool (…, outputs, inputs).
        pruned: likewise.
    """
    if pattern.kind == "dense":
        return torch.ones_like(kept)
    if pattern.kind == "blocks":
        matrix = kept.reshape(-1, kept.shape[-1])
        whole = expanded(block_kept(matrix, pattern.sides), pattern.sides).view(kept.shape)
        return whole & ~pruned  # of a block that is not whole
    if pattern.kind not in ("N:M", "rows", "columns"):
        return kept
    runs = _runs(kept, pattern.sides)
    mask = filled(runs, _runs(~(kept | pruned), pattern.sides), pattern.keep)
    if pattern.along == INPUTS:
        return mask.view(kept.shape)
    return mask.view(kept.mT.shape).mT.contiguous()


def _runs(flags: Tensor, sides: tuple[int, int]) -> Tensor:
    """Flags as (runs, M)."""
    return (flags if sides[0] == 1 else flags.mT).reshape(-1, max(sides))


def _n_of_m(kept: Tensor, free: Tensor) -> Pattern | None:
    """The least M of which all groups keep one number, but for breaks: inputs, then outputs."""
    rows, columns = kept.shape[-2:]
    lengths = range(2, LONGEST_GROUP + 1)
    along_inputs = [(1, m) for m in lengths if columns % m == 0 and m < columns]
    along_outputs = [(m, 1) for m in lengths if rows % m == 0 and m < rows]
    for sides in along_inputs + along_outputs:
        if found := same_count(_runs(kept, sides), _runs(free, sides)):
            return Pattern("N:M", sides, found.keep, found.breaks)
    return None


def _whole_runs(kept: Tensor, free: Tensor) -> Pattern | None:
    """Rows or columns that keep one number: first what holds, then what has breaks."""
    rows, columns = kept.shape[-2:]
    found = [
        Pattern(kind, sides, same.keep, same.breaks)
        for kind, sides in (("rows", (1, columns)), ("columns", (rows, 1)))
        if max(sides) > 1 and (same := same_count(_runs(kept, sides), _runs(free, sides)))
    ]
    return min(found, key=lambda each: bool(each.breaks), default=None)


def _broken_blocks(kept: Tensor, pruned: Tensor) -> Pattern | None:
    rows, columns = kept.shape[-2:]
    kept, pruned = kept.reshape(-1, columns), pruned.reshape(-1, columns)
    sides = largest_blocks(kept, pruned, breaks=True)
    if sides == (1, 1) or rows % sides[0]:
        return None
    return Pattern("blocks", sides, breaks=broken_blocks(kept, pruned, sides))


def _at_most(kept: Tensor) -> Pattern | None:
    columns = kept.shape[-1]
    for m in range(2, LONGEST_GROUP + 1):
        if columns % m == 0 and m < columns and kept.numel() >= FEWEST_GROUPS * m:
            most = int(_runs(kept, (1, m)).sum(1).max())
            if most <= m // 2:
                return Pattern("at most N:M", (1, m), most)
    return None
