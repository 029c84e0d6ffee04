"""How the kept weights of a run were counted, for run.json, its table and the model card."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from pins.masks import count
from pins.selection.allocation import Allocation
from pins.selection.constraints import keep_count
from pins.selection.pattern import Pattern
from pins.selection.tree import View

NAMES = 5  # of tensors in a sentence
SHARES = {"tensor": "tensor", "row": "row, the weights of one output,"}


def allocation_report(
    allocation: Allocation,
    sparsity: float | Fraction,
    views: Mapping[str, View],
    masks: Mapping[str, Tensor],
) -> dict[str, Any]:
    """What the final masks keep, group by group, as JSON values.

    Args:
        allocation: of the decisions.
        sparsity: the final one.
        views: of the tensors, by name.
        masks: the final ones, True = keep.

    Returns:
        `kept`, and `nearest`: the integer nearest to (1 − sparsity)·n of all n weights; `pattern`;
        `groups`: how many M weights, and the least and the most that one of them keeps; `dense`:
        the weights of the tensors that M does not divide, by name; `sentences` that say so.
    """
    total = sum(view.size for view in views.values())
    found: dict[str, Any] = {
        "kept": count(masks).kept,
        "nearest": keep_count(sparsity, total),
        "pattern": allocation.pattern,
        "groups": None,
        "dense": {},
    }
    if allocation.pattern is not None:
        pattern = Pattern.parse(allocation.pattern)
        divided = {name: view for name, view in views.items() if _divides(pattern, view)}
        kept = [_kept_by_group(pattern, view, masks[name]) for name, view in divided.items()]
        numbers = [each for each in kept if each.numel()]
        found["groups"] = {
            "number": sum(each.numel() for each in numbers),
            "least": min((int(each.min()) for each in numbers), default=0),
            "most": max((int(each.max()) for each in numbers), default=0),
        }
        found["dense"] = {n: view.size for n, view in views.items() if n not in divided}
    return {**found, "sentences": _sentences(allocation, found, views)}


def _divides(pattern: Pattern, view: View) -> bool:
    sides = [view.inputs, view.outputs] if pattern.transposable else [view.inputs]
    return not any(side % pattern.m for side in sides)


def _kept_by_group(pattern: Pattern, view: View, mask: Tensor) -> Tensor:
    """How many weights each group keeps, those along the outputs too if it is transposable."""
    rows = view.apply(mask)
    matrices = rows.view(view.groups, view.outputs, view.inputs)
    ways = [rows, matrices.mT.reshape(-1)] if pattern.transposable else [rows]
    return torch.cat([way.view(-1, pattern.m).sum(1) for way in ways])


def _sentences(
    allocation: Allocation, found: Mapping[str, Any], views: Mapping[str, View]
) -> list[str]:
    """A pattern, blocks or shares in words; nothing of one ranking of all single weights."""
    said = []
    if allocation.pattern is not None:
        pattern, groups = Pattern.parse(allocation.pattern), found["groups"]
        how = "exactly" if allocation.exactly else "at most"
        also = f", and of each {pattern.m} outputs of an input," if pattern.transposable else ""
        least, most = groups["least"], groups["most"]
        said.append(
            f"The pattern is {pattern}: {how} {pattern.n} of each {pattern.m} consecutive inputs "
            f"of an output{also} are kept. Counted in the final mask: {groups['number']:,} groups, "
            f"each keeps {least if least == most else f'{least} to {most}'}."
        )
    if dense := found["dense"]:
        more = f" and {len(dense) - NAMES} others" if len(dense) > NAMES else ""
        said.append(
            f"Dense, because {pattern.m} does not divide them: {len(dense)} of {len(views)} "
            f"tensors, {sum(dense.values()):,} weights ({', '.join([*dense][:NAMES])}{more})."
        )
    if allocation.block is not None:
        rows, columns = allocation.block_shape
        blocks = sum(view.size for view in views.values()) // (rows * columns)
        said.append(
            f"Blocks of {rows} × {columns} (outputs × inputs) are kept or pruned whole: "
            f"{found['kept'] // (rows * columns):,} of {blocks:,} are kept."
        )
    elif allocation.scope in SHARES:
        said.append(
            f"Each {SHARES[allocation.scope]} keeps the nearest integer to its share: "
            f"{found['kept']:,} weights in all; the share of the whole is {found['nearest']:,}."
        )
    return said
