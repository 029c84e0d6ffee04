"""The largest blocks r × c that a mask keeps or prunes as a whole.

A block without a kept weight, or without a pruned one, is whole: free weights count either way.
"""

import torch
from torch import Tensor

from verification.audit.runs import Break, few

PRIMES = (2, 3, 5, 7)  # by which blocks grow; whole rows and columns are tried by themselves


def largest_blocks(kept: Tensor, pruned: Tensor, *, breaks: bool = False) -> tuple[int, int]:
    """The (r, c) with the most weights such that each r × c block is whole; (1, 1) if none is.

    Only sides of which every prime factor is at most 7 are looked for, and whole rows and columns.
    Where blocks of r × c are whole, so are smaller ones whose sides divide r and c.

    Args:
        kept: bool (outputs, inputs).
        pruned: bool, likewise, disjoint from `kept`.
        breaks: a few blocks may be mixed, beside the whole ones that are kept, and those that are
            pruned.
    """
    found = {(1, 1)}
    open_: list[tuple[int, int, Tensor, Tensor]] = [(1, 1, kept, pruned)]
    seen = {(1, 1)}
    while open_:
        r, c, has_kept, has_pruned = open_.pop()
        height, width = has_kept.shape
        steps = [(p, 1) for p in (*PRIMES, height)] + [(1, p) for p in (*PRIMES, width)]
        for down, right in steps:
            sides = (r * down, c * right)
            if sides in seen or height % down or width % right or max(down, right) == 1:
                continue
            seen.add(sides)
            own = [_any(each, down, right) for each in (has_kept, has_pruned)]
            mixed = int((own[0] & own[1]).count_nonzero())
            allowed = few(min(int(e.count_nonzero()) for e in own) - mixed) if breaks else 0
            if mixed <= allowed:
                found.add(sides)
                open_.append((*sides, own[0], own[1]))
    return max(found, key=lambda sides: (sides[0] * sides[1], sides))


def block_kept(kept: Tensor, sides: tuple[int, int]) -> Tensor:
    """Whether each block r × c has a kept weight, (outputs / r, inputs / c)."""
    return _any(kept, *sides)


def broken_blocks(kept: Tensor, pruned: Tensor, sides: tuple[int, int]) -> tuple[Break, ...]:
    """The blocks with kept and pruned weights; of the two, those that are fewer are out of place.

    Args:
        kept: bool (outputs, inputs).
        pruned: bool, likewise, disjoint from `kept`.
        sides: r and c, which divide the shape.
    """
    r, c = sides
    of_blocks = [
        each.view(len(each) // r, r, -1, c).sum((1, 3)).flatten() for each in (kept, pruned)
    ]
    mixed = ((of_blocks[0] > 0) & (of_blocks[1] > 0)).nonzero().flatten().tolist()
    counts = [(i, *(int(each[i]) for each in of_blocks)) for i in mixed]
    return tuple(Break(i, more, r * c if more > less else 0) for i, more, less in counts)


def expanded(blocks: Tensor, sides: tuple[int, int]) -> Tensor:
    """Flags of blocks as flags of their weights."""
    return torch.repeat_interleave(torch.repeat_interleave(blocks, sides[0], 0), sides[1], 1)


def _any(flags: Tensor, down: int, right: int) -> Tensor:
    """Whether a block of flags has one, (rows / down, columns / right)."""
    rows, columns = flags.shape
    return flags.view(rows // down, down, columns // right, right).amax((1, 3))
