"""The truth about a certificate of version 4, by trying all masks, in fractions.

Shares no code with the checkers: it reads the format as CERTIFICATE.md says, lists every mask with
k ones, keeps those within all bounds, and compares sums. For up to a dozen weights.
"""

import hashlib
import json
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations
from math import gcd, isfinite, prod
from typing import Any

Mask = int
"""Bit i is weight i of the flat order."""


def numbers(raw: bytes, dtype: str) -> list[float]:
    """The floats in a tensor's bytes."""
    if dtype == "BF16":
        raw = b"".join(b"\0\0" + raw[i : i + 2] for i in range(0, len(raw), 2))
    letter, width = {"F16": ("e", 2), "F64": ("d", 8)}.get(dtype, ("f", 4))
    return list(struct.unpack(f"<{len(raw) // width}{letter}", raw))


def tensors(raw: bytes) -> dict[str, tuple[str, tuple[int, ...], list[Any]]]:
    """Dtype, shape and values of each tensor of a sound safetensors file; of packed bits too."""
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    shapes = json.loads(header.pop("__metadata__", {}).get("shapes", "{}"))
    found = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        data, dtype = raw[8 + length + begin : 8 + length + end], entry["dtype"]
        shape = tuple(shapes.get(name, entry["shape"]))
        if dtype == "U8":
            values: list[Any] = [data[i // 8] >> i % 8 & 1 for i in range(prod(shape))]
        else:
            values = list(data) if dtype == "BOOL" else numbers(data, dtype)
        found[name] = dtype, shape, values
    return found


def rational(parts: dict[str, str]) -> Fraction:
    """p/q."""
    return Fraction(int(parts["numerator"]), int(parts["denominator"]))


@dataclass
class Program:
    """Which masks a tree allows: nodes as bits of their weights, in post-order, with bounds."""

    order: list[tuple[str, int]] = field(default_factory=list)
    """Tensor and stored index of each weight, in flat order."""
    nodes: list[tuple[Mask, int, int]] = field(default_factory=list)

    def flat(self, values: dict[str, list[Any]]) -> list[Any]:
        """The values of all weights in flat order."""
        return [values[name][i] for name, i in self.order]

    def bits(self, values: dict[str, list[int]]) -> Mask:
        """A mask from its ones by tensor."""
        return sum(bit << i for i, bit in enumerate(self.flat(values)))

    def allows(self, mask: Mask) -> bool:
        """Whether a mask keeps all bounds."""
        return all(low <= (mask & node).bit_count() <= high for node, low, high in self.nodes)

    def masks(self, keep: int) -> Iterator[Mask]:
        """The allowed masks with so many ones, first those that keep lower indices."""
        for chosen in combinations(range(len(self.order)), keep):
            mask = sum(1 << i for i in chosen)
            if self.allows(mask):
                yield mask

    def add(self, part: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> Mask:
        """Number the weights below a part and collect its nodes; returns its weights."""
        first = len(self.order)
        if "parts" in part:
            for each in part["parts"]:
                self.add(each, shapes)
        else:
            name, shape = part["tensor"], shapes[part["tensor"]]
            places = list(range(prod(shape)))
            if part["transposed"]:
                rows, columns = shape[-2:]
                size = rows * columns
                matrices = [places[i : i + size] for i in range(0, len(places), size or 1)]
                places = [i for m in matrices for j in range(columns) for i in m[j::columns]]
            self.order += [(name, i) for i in places]
            for runs in reversed(part["runs"]):
                for start in range(first, len(self.order), runs["length"]):
                    node = _between(start, start + runs["length"])
                    self.nodes.append((node, runs["minimum"], runs["maximum"]))
        every = _between(first, len(self.order))
        self.nodes.append((every, part["minimum"], part["maximum"]))
        return every


def _between(start: int, stop: int) -> Mask:
    return (1 << stop) - (1 << start)


def total(values: Sequence[Fraction], mask: Mask) -> Fraction:
    """Σ of the values of the ones."""
    return sum((v for i, v in enumerate(values) if mask >> i & 1), Fraction(0))


def optima(values: Sequence[Fraction], masks: Sequence[Mask]) -> list[Mask]:
    """The masks of the largest sum, in their order."""
    sums = [total(values, mask) for mask in masks]
    best = max(sums, default=None)
    return [mask for mask, each in zip(masks, sums, strict=True) if each == best]


def is_true(document: Any, files: dict[str, bytes]) -> bool:
    """Whether the certificate is of the format, and all it says is true of the files."""
    if not _well_formed(document):
        return False
    claim, evidence = document["claim"], document["evidence"]
    named = {role: evidence[role] for role in ("scores", "cost", "mask", "best")} | claim["frozen"]
    named = {role: said for role, said in named.items() if said is not None}
    for said in named.values():
        raw = files.get(said["file"])
        if raw is None or hashlib.sha256(raw).hexdigest() != said["sha256"]:
            return False
    held = {role: tensors(files[said["file"]]) for role, said in named.items()}
    scope = {each["name"]: each for each in claim["scope"]}
    for role, found in held.items():
        floats = role in ("scores", "cost")
        if found.keys() != scope.keys():
            return False
        for name, (dtype, shape, values) in found.items():
            if shape != tuple(scope[name]["shape"]) or (dtype in ("U8", "BOOL")) == floats:
                return False
            if floats and (dtype != scope[name]["dtype"] or not all(map(isfinite, values))):
                return False
            if role == "cost" and min(values, default=0) < 0:
                return False
    contents = {
        role: {name: each[2] for name, each in found.items()} for role, found in held.items()
    }
    return _holds(claim, evidence, contents, {name: each[1] for name, each in held["mask"].items()})


def _holds(claim: Any, evidence: Any, values: Any, shapes: dict[str, tuple[int, ...]]) -> bool:
    program = Program()
    for part in claim["tree"]:
        program.add(part, shapes)
    masks = {role: program.bits(values[role]) for role in values if role not in ("scores", "cost")}
    for role, low in (("zeros", 0), ("fixed", 1)):
        frozen = [i for i in range(len(program.order)) if masks.get(role, 0) >> i & 1]
        program.nodes += [(1 << i, low, low) for i in frozen]
    counts = [sum(values["mask"][each["name"]]) for each in claim["scope"]]
    mask, best = masks["mask"], masks.get("best", masks["mask"])
    if counts != evidence["counts"] or claim["total"] != len(program.order):
        return False
    if not claim["keep"] == mask.bit_count() == best.bit_count() or not program.allows(mask):
        return False
    scores = list(map(Fraction, program.flat(values["scores"])))
    ranks, allowed = scores, list(program.masks(claim["keep"]))
    if claim["radius"] is not None:
        costs = list(map(Fraction, program.flat(values["cost"])))
        mu = Fraction(float.fromhex(evidence["multiplier"]))
        ranks = [c + mu * s for c, s in zip(costs, scores, strict=True)]
    winners = optima(ranks, allowed)
    if best not in winners:
        return False
    gap = total(scores, best) - total(scores, mask)
    if claim["radius"] is not None:
        radius, spent = rational(claim["radius"]), [sum(costs) - total(costs, m) for m in allowed]
        gap += (radius - (sum(costs) - total(costs, best))) / mu
        if sum(costs) - total(costs, mask) > radius:
            return False
        within = [m for m, cost in zip(allowed, spent, strict=True) if cost <= radius]
        assert all(total(scores, m) <= total(scores, mask) + gap for m in within), "no bound"
    return (
        gap == rational(claim["gap"])
        and claim["unique"] in (None, len(winners) == 1)
        and (claim["tie_rule"] == "none" or mask == winners[0])
    )


# ---- The format ----------------------------------------------------------------------------------


def _well_formed(document: Any) -> bool:
    """Whether a JSON value has the keys, types and relations that CERTIFICATE.md asks for."""
    if not _is(document, _FORM) or document["format"] != "pins-certificate":
        return False
    claim, evidence = document["claim"], document["evidence"]
    names = [each["name"] for each in claim["scope"]]
    found: list[Any] = []
    if not all(_part(part, found, 0) for part in claim["tree"]):
        return False
    if len(set(names)) < len(names) or [leaf["tensor"] for leaf in found] != names:
        return False
    for leaf, tensor in zip(found, claim["scope"], strict=True):
        if leaf["transposed"] and len(tensor["shape"]) < 2:
            return False
        lengths = [runs["length"] for runs in leaf["runs"]]
        for longer, length in zip([prod(tensor["shape"]), *lengths], lengths, strict=False):
            if not length or longer % length:
                return False
        if len(set(lengths)) < len(lengths):
            return False
    region, gap = claim["radius"] is not None, rational(claim["gap"]) > 0
    return (
        len(evidence["counts"]) == len(names)
        and ((evidence["cost"] is not None) == (evidence["multiplier"] is not None) == region)
        and (region or (evidence["best"] is not None) == gap)
        and (not (region or gap) or (claim["unique"] is None and claim["tie_rule"] == "none"))
    )


def _part(part: Any, found: list[Any], depth: int) -> bool:
    """Whether a part of the tree is a leaf, which is collected, or a node."""
    if type(part) is dict and "parts" in part:
        form = {"name": str, "minimum": _natural, "maximum": _natural, "parts": list}
        inside = _is(part, form) and depth < 16
        return inside and all(_part(each, found, depth + 1) for each in part["parts"])
    found.append(part)
    return _is(part, _LEAF)


def _is(value: Any, form: Any) -> bool:
    """Whether a value has a form: a type, a predicate, a list of a form, keys with their forms."""
    if isinstance(form, dict):
        same = type(value) is dict and value.keys() == form.keys()
        return same and all(_is(value[key], each) for key, each in form.items())
    if isinstance(form, list):
        return type(value) is list and all(_is(each, form[0]) for each in value)
    return type(value) is form if isinstance(form, type) else bool(form(value))


def _natural(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _either(*values: Any) -> Callable[[Any], bool]:
    return lambda value: any(type(value) is type(each) and value == each for each in values)


def _null_or(form: Any) -> Callable[[Any], bool]:
    return lambda value: value is None or _is(value, form)


def _digits(value: Any, first: str = "[1-9]") -> bool:
    return type(value) is str and re.fullmatch(rf"0|{first}[0-9]*", value) is not None


def _fraction(value: Any) -> bool:
    if not _is(value, {"numerator": _digits, "denominator": _digits}):
        return False
    top, bottom = int(value["numerator"]), int(value["denominator"])
    return bottom > 0 and gcd(top, bottom) == 1


def _positive(value: Any) -> bool:
    text = value if type(value) is str else ""
    if not re.fullmatch(r"0x[01]\.[0-9a-f]{1,13}p[+-][0-9]{1,4}", text):
        return False
    lead, power = text[2:].split("p")
    exact = Fraction(int(lead.replace(".", ""), 16)) * Fraction(2) ** (
        int(power) - 4 * (len(lead) - 2)
    )
    try:
        return 0 < float.fromhex(text) == exact
    except OverflowError:
        return False


def _inside(value: Any) -> bool:
    return type(value) is str and re.fullmatch(r"[A-Za-z.]+", value) is not None


_FILE = {
    "file": _inside,
    "sha256": lambda v: type(v) is str and re.fullmatch("[0-9a-f]{64}", v) is not None,
}
_BOUNDS = {"minimum": _natural, "maximum": _natural}
_LEAF = {
    "tensor": str,
    **_BOUNDS,
    "transposed": bool,
    "runs": [{"length": _natural, **_BOUNDS}],
}
_FORM = {
    "format": str,
    "version": _either(4),
    "kind": _either("selection"),
    "claim": {
        "total": _natural,
        "keep": _natural,
        "scope": [
            {"name": str, "shape": [_natural], "dtype": _either("F16", "BF16", "F32", "F64")}
        ],
        "tree": list,
        "frozen": {"zeros": _null_or(_FILE), "fixed": _null_or(_FILE)},
        "criterion": _null_or(str),
        "formula": _either(None),
        "tie_rule": _either("lower-index", "none"),
        "unique": _null_or(bool),
        "radius": _null_or(_fraction),
        "gap": _fraction,
    },
    "evidence": {
        "counts": [_natural],
        "scores": _FILE,
        "mask": _FILE,
        "best": _null_or(_FILE),
        "cost": _null_or(_FILE),
        "multiplier": _null_or(_positive),
        "inputs": _either(None),
    },
    "provenance": dict,
}
