"""Rows of a layer that are solved apart, shared by ranks in chunks of one size."""

from collections.abc import Callable

import torch
from torch import Tensor

from pins.distributed.collectives import raise_together
from pins.distributed.process_group import SINGLE_PROCESS, Group

CHUNK = 64  # rows


def by_rows(solve: Callable[[slice], Tensor], number: int, group: Group = SINGLE_PROCESS) -> Tensor:
    """The results of `solve` for rows 0 … number − 1, on every rank.

    `solve` gets `CHUNK` rows at a time, in one process too, and rank r the chunks r, r + size, …:
    so the bits do not depend on the number of ranks, if what `solve` reads does not.

    Args:
        solve: gives a tensor whose first dimension is that of the rows of the slice.
        number: of rows, at least 1.
        group: every rank of it calls this, with the same number.

    Raises:
        Exception: `solve` raised it on this rank.
        PinsError: `solve` raised it on another one.
    """
    chunks = [slice(at, min(at + CHUNK, number)) for at in range(0, number, CHUNK)]
    mine = chunks[group.rank :: group.size]
    own: list[Tensor] = []
    failure: Exception | None = None
    try:
        own = [solve(chunk) for chunk in mine or chunks[:1]]  # which tells the shape and dtype
    except Exception as error:  # of any class: the other ranks must not wait for ever
        failure = error
    raise_together(group, failure)
    rows = torch.cat(own)
    if group.size == 1:
        return rows
    found = rows.new_empty(number, *rows.shape[1:])
    for rank, sent in enumerate(group.gathered(rows.reshape(-1) if mine else rows.new_empty(0))):
        at = 0
        for chunk in chunks[rank :: group.size]:
            part = found[chunk]
            part.copy_(sent[at : at + part.numel()].view(part.shape))
            at += part.numel()
    return found
