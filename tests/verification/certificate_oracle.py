"""The truth about a certificate of version 4, by trying all masks, in fractions.

Shares no code with the checkers: it reads the format as CERTIFICATE.md says, lists every mask with
k ones, keeps those within all bounds, and compares sums. For up to a dozen elements.
"""

import functools
import hashlib
import json
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations
from math import gcd, isfinite, prod
from typing import Any

Mask = int
"""Bit i is element i of the flat order."""


def numbers(raw: bytes, dtype: str) -> list[Any]:
    """The floats, or the integers of 64 bits, in a tensor's bytes."""
    if dtype == "BF16":
        raw = b"".join(b"\0\0" + raw[i : i + 2] for i in range(0, len(raw), 2))
    letter, width = {"F16": ("e", 2), "F64": ("d", 8), "I64": ("q", 8)}.get(dtype, ("f", 4))
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
    """Which masks a tree allows: nodes as bits of their elements, with bounds.

    The rows and columns of a square are nodes too, though not of a tree.
    """

    block: tuple[int, int] = (1, 1)
    order: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)
    """Tensor and stored indices of the weights of each element, in flat order."""
    nodes: list[tuple[Mask, int, int]] = field(default_factory=list)
    squares: dict[str, list[range]] = field(default_factory=dict)
    """Of the tensors with squares, the elements of each, row by row."""

    def flat(self, values: dict[str, list[Any]]) -> list[list[Any]]:
        """The values of the weights of all elements, in flat order."""
        return [[values[name][i] for i in weights] for name, weights in self.order]

    def sums(self, values: dict[str, list[float]]) -> list[Fraction]:
        """Σ of the values of each element."""
        return [sum(map(Fraction, each), Fraction(0)) for each in self.flat(values)]

    def whole(self, values: dict[str, list[int]]) -> bool:
        """Whether a mask keeps no element in part."""
        return all(len(set(bits)) == 1 for bits in self.flat(values))

    def bits(self, values: dict[str, list[int]]) -> Mask:
        """A mask from its ones by tensor."""
        return sum(bits[0] << i for i, bits in enumerate(self.flat(values)))

    def spread(self, mask: Mask, like: dict[str, list[Any]]) -> dict[str, list[int]]:
        """The ones of a mask by tensor, of the sizes of these."""
        found = {name: [0] * len(values) for name, values in like.items()}
        for i, (name, weights) in enumerate(self.order):
            for index in weights:
                found[name][index] = mask >> i & 1
        return found

    def freeze(self, mask: Mask, bit: int) -> None:
        """Each of these elements becomes a node that has this bit."""
        self.nodes += [(1 << i, bit, bit) for i in range(len(self.order)) if mask >> i & 1]

    def masks(self, keep: int) -> list[Mask]:
        """The allowed masks with so many ones, first those that keep lower indices."""
        return _allowed(tuple(self.nodes), len(self.order), keep)

    def inside(self) -> Mask:
        """The elements in squares."""
        return sum(1 << i for squares in self.squares.values() for each in squares for i in each)

    def add(self, part: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> Mask:
        """Number the elements below a part and collect its nodes; returns its elements."""
        first = len(self.order)
        if "parts" in part:
            for each in part["parts"]:
                self.add(each, shapes)
        else:
            name, shape, squares = part["tensor"], shapes[part["tensor"]], part["squares"]
            if squares:
                side, keep = squares["side"], squares["keep"]
                self.squares[name] = []
                for tile in _tiles(shape, part["transposed"], side, side):
                    places = range(len(self.order), len(self.order) + side**2)
                    self.squares[name].append(places)
                    self.order += [(name, (i,)) for i in tile]
                    lines = [places[i * side : (i + 1) * side] for i in range(side)]
                    lines += [places[i::side] for i in range(side)]
                    self.nodes += [(_mask(line), keep, keep) for line in lines]
            else:
                tiles = _tiles(shape, part["transposed"], *self.block)
                self.order += [(name, tuple(tile)) for tile in tiles]
            for runs in part["runs"]:
                for start in range(first, len(self.order), runs["length"]):
                    node = _mask(range(start, start + runs["length"]))
                    self.nodes.append((node, runs["minimum"], runs["maximum"]))
        every = _mask(range(first, len(self.order)))
        self.nodes.append((every, part["minimum"], part["maximum"]))
        return every


def _tiles(shape: tuple[int, ...], transposed: bool, height: int, width: int) -> list[list[int]]:
    """The stored indices of each block of height × width of the last two dimensions as viewed."""
    rows, columns = (1, 1, *shape)[-2:]
    found = []
    for start in range(0, prod(shape), rows * columns or 1):
        table = [[start + i * columns + j for j in range(columns)] for i in range(rows)]
        if transposed:
            table = [list(column) for column in zip(*table, strict=True)]
        for i in range(0, len(table), height):
            for j in range(0, len(table[0]), width):
                tile = [k for row in table[i : i + height] for k in row[j : j + width]]
                found.append(tile)
    return found


@functools.lru_cache(16)
def _allowed(nodes: tuple[tuple[Mask, int, int], ...], size: int, keep: int) -> list[Mask]:
    masks = (sum(1 << i for i in chosen) for chosen in combinations(range(size), keep))
    return [
        mask
        for mask in masks
        if all(low <= (mask & node).bit_count() <= high for node, low, high in nodes)
    ]


def _mask(elements: Iterable[int]) -> Mask:
    return sum(1 << i for i in elements)


def total(values: Sequence[Fraction], mask: Mask) -> Fraction:
    """Σ of the values of the ones."""
    return sum((v for i, v in enumerate(values) if mask >> i & 1), Fraction(0))


def optima(values: Sequence[Fraction], masks: Sequence[Mask]) -> list[Mask]:
    """The masks of the largest sum, in their order."""
    sums = [total(values, mask) for mask in masks]
    best = max(sums, default=None)
    return [mask for mask, each in zip(masks, sums, strict=True) if each == best]


def excess(scores: Sequence[Fraction], mask: Mask, squares: Any, potentials: Any) -> Fraction:
    """V: what s·m may fall short of the best in these squares by, says each line of potentials."""
    found = Fraction(0)
    for places, line in zip(squares, potentials, strict=True):
        side = len(line) // 2
        for i, place in enumerate(places):
            row, column = divmod(i, side)
            over = scores[place] - (line[row] + line[side + column]) * Fraction(2) ** line[-1]
            found += max(Fraction(0), -over if mask >> place & 1 else over)
    return found


def is_true(document: Any, files: dict[str, bytes]) -> bool:
    """Whether the certificate is of the format, and all it says is true of the files."""
    if not _well_formed(document):
        return False
    claim, evidence = document["claim"], document["evidence"]
    roles = ("scores", "cost", "mask", "best", "potentials")
    named = {role: evidence[role] for role in roles} | claim["frozen"]
    named = {role: said for role, said in named.items() if said is not None}
    for said in named.values():
        raw = files.get(said["file"])
        if raw is None or hashlib.sha256(raw).hexdigest() != said["sha256"]:
            return False
    held = {role: tensors(files[said["file"]]) for role, said in named.items()}
    potentials = held.pop("potentials", {})
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
    program = Program(tuple(claim["block"]))
    for part in claim["tree"]:
        program.add(part, {name: tuple(each["shape"]) for name, each in scope.items()})
    contents = {
        role: {name: each[2] for name, each in found.items()} for role, found in held.items()
    }
    shapes = {
        leaf["tensor"]: (prod(tensor["shape"]) // side**2, 2 * side + 1)
        for leaf, tensor in zip(leaves(claim["tree"]), claim["scope"], strict=True)
        for side in ([leaf["squares"]["side"]] if leaf["squares"] else [])
    }
    if {name: shape for name, (_, shape, _) in potentials.items()} != shapes:
        return False
    if any(dtype != "I64" for dtype, *_ in potentials.values()):
        return False
    lines = {
        name: [values[i : i + shape[1]] for i in range(0, len(values), shape[1])]
        for name, (_, shape, values) in potentials.items()
    }
    for *both, exponent in (line for each in lines.values() for line in each):
        if any(abs(each) >= 2**52 for each in both) or not -1074 <= exponent <= 970:
            return False
    return _holds(claim, evidence, contents, program, lines)


def _holds(claim: Any, evidence: Any, values: Any, program: Program, potentials: Any) -> bool:
    given = {role: values[role] for role in values if role not in ("scores", "cost")}
    if claim["total"] != len(program.order) or not all(map(program.whole, given.values())):
        return False
    masks = {role: program.bits(each) for role, each in given.items()}
    for role, bit in (("zeros", 0), ("fixed", 1)):
        program.freeze(masks.get(role, 0), bit)
    mask, best = masks["mask"], masks.get("best", masks["mask"])
    kept = [name for i, (name, _) in enumerate(program.order) if mask >> i & 1]
    if evidence["counts"] != [kept.count(each["name"]) for each in claim["scope"]]:
        return False
    if not claim["keep"] == len(kept) == best.bit_count():
        return False
    scores, allowed = program.sums(values["scores"]), program.masks(claim["keep"])
    if mask not in allowed:
        return False
    ranks, inside = scores, program.inside()
    if claim["radius"] is not None:
        costs = program.sums(values["cost"])
        mu = Fraction(float.fromhex(evidence["multiplier"]))
        ranks = [c + mu * s for c, s in zip(costs, scores, strict=True)]
    winners = optima(ranks, [each for each in allowed if not (each ^ mask) & inside])
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
    if program.squares:
        pairs = ((squares, potentials[name]) for name, squares in program.squares.items())
        gap = sum((excess(scores, mask, *pair) for pair in pairs), Fraction(0))
        most = total(scores, optima(scores, allowed)[0])
        assert most <= total(scores, mask) + gap, "no bound"
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
    if not all(_part(part, 0) for part in claim["tree"]):
        return False
    each_leaf = list(leaves(claim["tree"]))
    if len(set(names)) < len(names) or [leaf["tensor"] for leaf in each_leaf] != names:
        return False
    height, width = block = claim["block"]
    for leaf, tensor in zip(each_leaf, claim["scope"], strict=True):
        shape, squares = tensor["shape"], leaf["squares"]
        view = (1, 1, *shape)[-2:][:: -1 if leaf["transposed"] else 1]
        if view[0] % height or view[1] % width or (leaf["transposed"] and len(shape) < 2):
            return False
        if squares:
            plain = block == [1, 1] and claim["radius"] is None and not leaf["runs"]
            if not plain or len(shape) < 2 or any(size % squares["side"] for size in view):
                return False
        lengths = [runs["length"] for runs in leaf["runs"]]
        size = prod(shape) // (height * width)
        for longer, length in zip([size, *lengths], lengths, strict=False):
            if not length or longer % length:
                return False
        if len(set(lengths)) < len(lengths):
            return False
    region, gap = claim["radius"] is not None, rational(claim["gap"]) > 0
    squares = any(leaf["squares"] for leaf in each_leaf)
    return (
        len(evidence["counts"]) == len(names)
        and ((evidence["cost"] is not None) == (evidence["multiplier"] is not None) == region)
        and (evidence["potentials"] is not None) == squares
        and (region or (evidence["best"] is not None) == (gap and not squares))
        and (
            not (region or gap or squares)
            or (claim["unique"] is None and claim["tie_rule"] == "none")
        )
    )


def _part(part: Any, depth: int) -> bool:
    """Whether a part of the tree is a leaf or a node."""
    if type(part) is not dict or "parts" not in part:
        return _is(part, _LEAF)
    inside = _is(part, {"name": str, **_BOUNDS, "parts": list}) and depth < 16
    return inside and all(_part(each, depth + 1) for each in part["parts"])


def leaves(parts: list[Any]) -> Iterator[Any]:
    """The leaves of these parts of a tree, in order."""
    for part in parts:
        if "parts" in part:
            yield from leaves(part["parts"])
        else:
            yield part


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


def _block(value: Any) -> bool:
    return _is(value, [_natural]) and len(value) == 2 and min(value) > 0


def _squares(value: Any) -> bool:
    same = _is(value, {"side": _natural, "keep": _natural})
    return same and 1 <= value["side"] <= 64 and value["keep"] <= value["side"]


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
    "squares": _null_or(_squares),
}
_FORM = {
    "format": str,
    "version": _either(4),
    "kind": _either("selection"),
    "claim": {
        "total": _natural,
        "keep": _natural,
        "block": _block,
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
        "potentials": _null_or(_FILE),
        "cost": _null_or(_FILE),
        "multiplier": _null_or(_positive),
        "inputs": _either(None),
    },
    "provenance": dict,
}
