"""The audit of one tensor: what was pruned, its pattern, and how good its mask is without data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pins.errors import FileError
from verification.audit.change import MOVED, explanation
from verification.audit.claims import Facts, Stated
from verification.audit.comparison import Comparison, compare
from verification.audit.criteria import judge_layer
from verification.audit.matching import Pair
from verification.audit.pattern import Pattern, completed, find_pattern
from verification.audit.runs import Break

# what needs calibration text, and is not known without it
WITHOUT_TEXT = dict.fromkeys(("cost", "best", "bound", "at_least", "at_most"))
HEADS = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads",
         "v_proj": "num_key_value_heads", "o_proj": "num_attention_heads"}  # fmt: skip


@dataclass(frozen=True)
class LayerAudit:
    """What was found.

    Attributes:
        document: the entry of audit.json.
        facts: what claims are ruled by.
    """

    document: dict[str, Any]
    facts: Facts


def compared(pair: Pair) -> tuple[Tensor, Comparison]:
    """The dense tensor as it is stored, and the comparison of the two.

    Raises:
        FileError: a tensor is damaged, or holds NaN.
    """
    dense, _ = pair.dense.read()
    values, mask = pair.sparse.read()
    if dense is None:
        raise FileError(f"{pair.name!r} of the dense model is a mask: give the model with weights")
    if values is None:
        assert mask is not None, "one of the two is stored"
        values = dense * mask
    return dense, compare(pair.name, dense, values, mask)


def audit_layer(
    pair: Pair, claims: Sequence[Stated], config: Mapping[str, Any], place: Path
) -> LayerAudit:
    """Read a tensor of both models, and audit it.

    Args:
        pair: the tensor.
        claims: of the sparse model: N:M that are looked at, and ratios by which counts are read.
        config: of the sparse model, for the number of heads.
        place: what the paths of certificates begin with.

    Raises:
        FileError: the tensor is damaged, or holds NaN.
    """
    dense, found = compared(pair)
    values = found.sparse
    about: dict[str, Any] = {
        "tensor": pair.name,
        "shape": [*values.shape],
        "dtype": str(values.dtype).removeprefix("torch."),
        "dense_dtype": str(dense.dtype).removeprefix("torch."),
        "form": pair.sparse.stored.form,
        "quantized": pair.sparse.stored.quantized,
        "pruned": int(found.pruned.count_nonzero()),
        "free": int(found.free.count_nonzero()),
        "underflowed": found.underflowed,
        "grown": found.grown,
        "changed": found.changed,
        "largest_change": found.largest_change,
        "relative_change": found.relative_change if found.relative_change < float("inf") else None,
    }
    if values.dim() < 2 or not values.numel():
        about["kept"] = int(found.kept.count_nonzero())
        return LayerAudit(about, _facts(pair, found, {}))
    pattern = find_pattern(found.kept, found.pruned)
    full = completed(pattern, found.kept, found.pruned)
    about |= {
        "kept": int(full.count_nonzero()),
        "pattern": _stated(pattern),
        "breaks": [_broken(pattern, each, values.shape) for each in pattern.breaks],
        "dead_rows": int((~found.kept.any(-1)).count_nonzero()),
        "dead_columns": int((~found.kept.any(-2)).count_nonzero()),
        "dead_heads": _dead_heads(pair.name, found.kept, config),
        "explanation": explanation(found),
        "criteria": [],
        **WITHOUT_TEXT,
        "certificates": [],
    }
    moved = (about["explanation"] or "").startswith(MOVED)
    if about["pruned"] and pattern.kind != "empty" and not (pattern.breaks or moved):
        ratios = [each.sparsity for each in claims if each.sparsity and each.named(pair.name)]
        judged = judge_layer(
            pair.name, dense, found.dense, full, pattern, place, next(iter(ratios), None)
        )
        about["criteria"] = [each.as_json(place.parents[1]) for each in judged]
        about["certificates"] = [each["certificate"] for each in about["criteria"]]
    lengths = {each.pattern.m for each in claims if each.pattern is not None}
    return LayerAudit(about, _facts(pair, found, _most(found.kept, lengths)))


def _facts(pair: Pair, found: Comparison, most: Mapping[int, int]) -> Facts:
    shape, total = found.kept.shape, found.kept.numel()
    rows = total // shape[-1] if total else 0
    kept, free = int(found.kept.count_nonzero()), int(found.free.count_nonzero())
    return Facts(pair.name, rows, total, kept, free, most)


def _most(kept: Tensor, lengths: set[int]) -> dict[int, int]:
    """The most weights that M consecutive inputs keep, by M where it divides the inputs."""
    columns = kept.shape[-1]
    return {
        m: int(kept.reshape(-1, m).sum(1).max()) for m in {columns, *lengths} if columns % m == 0
    }


def _stated(pattern: Pattern) -> dict[str, Any]:
    return {
        "name": str(pattern),
        "kind": pattern.kind,
        "keep": pattern.keep or None,
        "sides": [*pattern.sides],
        "holds": not pattern.breaks,
    }


def _broken(pattern: Pattern, broken: Break, shape: torch.Size) -> dict[str, Any]:
    """A break by its row, or its column where runs go along the outputs; then its place there."""
    r, c = pattern.sides
    if c == 1 and r > 1 and pattern.kind != "blocks":
        column, row = divmod(broken.run * r, shape[-2])
        place = {"column": column, "from": row}
    else:
        row, column = divmod(broken.run * c, shape[-1])
        place = {"row": row * r, "from": column}
    return {**place, "kept": broken.kept, "expected": broken.expected}


def _dead_heads(name: str, kept: Tensor, config: Mapping[str, Any]) -> list[int] | None:
    """The heads of which nothing is kept; None where the number of heads is not known."""
    module = name.removesuffix(".weight").rpartition(".")[2]
    number = config.get(HEADS.get(module, ""), config.get("num_attention_heads"))
    if module not in HEADS or not isinstance(number, int) or number < 1:
        return None
    along = kept if module != "o_proj" else kept.mT
    if len(along) % number:
        return None
    alive = along.reshape(number, -1).any(1)
    return [int(i) for i in (~alive).nonzero()]
