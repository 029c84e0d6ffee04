"""Certificates and their files, made independently of the checkers and of the code that certifies.

The files are made byte by byte. What a certificate claims is found by trying all masks
(`certificate_oracle`), or given where there are too many. The potentials of squares are shortest
paths in fractions.
"""

import copy
import functools
import hashlib
import json
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations, product
from math import prod
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import strategies as st

from tests.verification.certificate_oracle import Program, excess, leaves, optima, total
from verification import checker
from verification.checker import Verdict, check

CHECKER = Path(checker.__file__)
DTYPES = ("F16", "BF16", "F32", "F64")
FINITE = st.floats(allow_nan=False, allow_infinity=False)


@functools.cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    memory = Path("/dev/shm")  # noqa: S108 -- where it exists, a file there needs no disk
    return tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)


def scratch_folder() -> Path:
    """One folder in memory for all verdicts of this process: most of their time was the disk's."""
    return Path(_scratch().name)


def digest(raw: bytes | bytearray) -> str:
    return hashlib.sha256(raw).hexdigest()


def small_blocks() -> Any:
    """The checker reads eight weights at a time, so that small cases have several blocks."""
    return mock.patch.object(checker, "_BLOCK", 8)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The checker as a command, with nothing installed."""
    command = [sys.executable, "-I", "-S", str(CHECKER), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, encoding="utf-8")


def fraction(number: Fraction) -> dict[str, str]:
    return {"numerator": str(number.numerator), "denominator": str(number.denominator)}


def encode(values: list[float], dtype: str) -> bytes:
    if dtype == "BF16":
        return b"".join(struct.pack("<f", value)[2:] for value in values)
    return struct.pack(f"<{len(values)}{ {'F16': 'e', 'F32': 'f', 'F64': 'd'}[dtype] }", *values)


def pack(bits: list[int]) -> bytes:
    packed = bytearray(-(-len(bits) // 8))
    for i, bit in enumerate(bits):
        packed[i // 8] |= bit << (i % 8)
    return bytes(packed)


def with_header(header: Any, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


def tensor_file(
    tensors: dict[str, tuple[str, list[int], bytes]], metadata: dict[str, str] | None = None
) -> bytes:
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    data = b""
    for name, (dtype, shape, raw) in tensors.items():
        offsets = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        data += raw
    return with_header(header, data)


def leaf(name: str, *runs: tuple[int, int, int], **changes: Any) -> dict[str, Any]:
    """The node of a tensor; a run is (length, minimum, maximum)."""
    keys = ("length", "minimum", "maximum")
    inner = [dict(zip(keys, each, strict=True)) for each in runs]
    part = {"tensor": name, "minimum": 0, "maximum": 2**62, "transposed": False, "runs": inner}
    return part | {"squares": None} | changes


def squares(name: str, side: int, keep: int, **changes: Any) -> dict[str, Any]:
    """The node of a tensor that keeps so many in each row and column of its squares."""
    return leaf(name, squares={"side": side, "keep": keep}, **changes)


def node(name: str, minimum: int, maximum: int, *parts: dict[str, Any]) -> dict[str, Any]:
    """A node of other parts."""
    return {"name": name, "minimum": minimum, "maximum": maximum, "parts": list(parts)}


Numbers = dict[str, list[float]]
Bits = dict[str, list[int]]
Lines = dict[str, list[list[int]]]


def dual(scores: list[list[Fraction]], keep: int) -> list[int]:
    """a, b and e of a square: they prove its best mask, up to rounding.

    For a weight that is kept a_i + b_j ≤ s_ij, for a pruned one ≥: distances in a graph, which has
    no cycle below 0 because the mask is the best.
    """
    size, side = len(scores), range(len(scores))
    every = product(combinations(side, keep), repeat=size)
    even = (rows for rows in every if all(sum(j in r for r in rows) == keep for j in side))
    best = max(even, key=lambda rows: sum(scores[i][j] for i in side for j in rows[i]))
    a, b = [Fraction(0)] * size, [Fraction(0)] * size
    for _, i, j in product(range(2 * size), side, side):
        if j in best[i]:
            a[i] = min(a[i], scores[i][j] - b[j])
        else:
            b[j] = max(b[j], scores[i][j] - a[i])
    top = max(map(abs, [*a, *b]))
    exponent = max(-1074, top.numerator.bit_length() - top.denominator.bit_length() - 50)
    return [*(round(each / Fraction(2) ** exponent) for each in [*a, *b]), exponent]


@dataclass
class Case:
    """Scores and masks by tensor, each as stored, and the certificate to go with them."""

    scores: Numbers
    mask: Bits
    dtype: str = "F32"
    packed: bool = True
    tree: list[dict[str, Any]] | None = None
    costs: Numbers | None = None
    best: Bits | None = None
    zeros: Bits | None = None
    fixed: Bits | None = None
    block: tuple[int, int] = (1, 1)
    potentials: Lines | None = None
    mu: float = 1.0
    radius: Fraction | None = None
    shapes: dict[str, list[int]] = field(default_factory=dict)
    certificate: dict[str, Any] = field(default_factory=dict)
    forms: dict[str, tuple[str, list[int]]] = field(default_factory=dict)
    """Dtypes and shapes of potentials that are not as they should be."""

    def shape(self, name: str) -> list[int]:
        size = len(self.scores[name])
        return self.shapes.get(name, [2, size // 2] if size % 2 == 0 else [size])

    def float_bytes(self, values: Numbers) -> bytes:
        return tensor_file(
            {n: (self.dtype, self.shape(n), encode(v, self.dtype)) for n, v in values.items()}
        )

    def mask_bytes(self, mask: Bits) -> bytes:
        if not self.packed:
            return tensor_file({n: ("BOOL", self.shape(n), bytes(b)) for n, b in mask.items()})
        shapes = json.dumps({name: self.shape(name) for name in mask})
        return tensor_file(
            {n: ("U8", [-(-len(bits) // 8)], pack(bits)) for n, bits in mask.items()},
            {"format": "pins-mask", "version": "1", "shapes": shapes},
        )

    def files(self) -> dict[str, bytes]:
        """The contents of the files by their role."""
        floats = {"scores": self.scores, "cost": self.costs}
        masks = {r: getattr(self, r) for r in ("mask", "best", "zeros", "fixed")}
        found = {r: self.float_bytes(v) for r, v in floats.items() if v is not None} | {
            r: self.mask_bytes(v) for r, v in masks.items() if v is not None
        }
        if self.potentials is not None:
            found["potentials"] = tensor_file(
                {name: self.integers(name, lines) for name, lines in self.potentials.items()}
            )
        return found

    def integers(self, name: str, lines: list[list[int]]) -> tuple[str, list[int], bytes]:
        """A tensor of potentials."""
        width = len(lines[0]) if lines else 2 * self.squares()[name]["side"] + 1
        dtype, shape = self.forms.get(name, ("I64", [len(lines), width]))
        return dtype, shape, b"".join(struct.pack(f"<{width}q", *line) for line in lines)

    def parts(self) -> list[dict[str, Any]]:
        """The parts of the root: if none are given, the tensors, without bounds."""
        return [leaf(name) for name in self.scores] if self.tree is None else self.tree

    def program(self) -> Program:
        """What the tree and the frozen weights allow."""
        found = Program(self.block)
        for part in self.parts():
            found.add(part, {name: tuple(self.shape(name)) for name in self.scores})
        for mask, bit in ((self.zeros, 0), (self.fixed, 1)):
            if mask:
                found.freeze(found.bits(mask), bit)
        return found

    def squares(self) -> dict[str, dict[str, int]]:
        """The side and the number to keep, of the tensors with squares."""
        return {leaf["tensor"]: s for leaf in leaves(self.parts()) if (s := leaf["squares"])}

    def duals(self) -> Lines:
        """Potentials of the best masks in squares."""
        program, found = self.program(), {}
        scores = program.sums(self.scores)
        for name, each in self.squares().items():
            side = each["side"]
            tables = (
                [[scores[i] for i in places[k : k + side]] for k in range(0, side**2, side)]
                for places in program.squares[name]
            )
            found[name] = [dual(table, each["keep"]) for table in tables]
        return found

    def excess(self) -> Fraction:
        """V of all squares."""
        program, lines = self.program(), self.potentials or {}
        scores, mask = program.sums(self.scores), program.bits(self.mask)
        pairs = ((program.squares[name], each) for name, each in lines.items())
        return sum((excess(scores, mask, *pair) for pair in pairs), Fraction(0))

    def removed(self, mask: Bits) -> Fraction:
        """c·(1−m)."""
        pairs = ((c, b) for n in mask for c, b in zip((self.costs or {})[n], mask[n], strict=True))
        return sum((Fraction(cost) for cost, bit in pairs if not bit), Fraction(0))

    def certify(
        self, gap: Fraction | None = None, *, unique: bool = True, first: bool = True
    ) -> "Case":
        """The certificate that is true of the mask, digests included.

        Args:
            gap: of too many weights to try all masks, the gap, for a given `best`.
            unique: likewise.
            first: likewise, that the mask is the tie rule's.
        """
        size, squares = prod(self.block), bool(self.squares())
        if squares:
            self.potentials = self.potentials or self.duals()
            gap = self.excess()
        elif gap is None:
            program = self.program()
            scores, mask = program.sums(self.scores), program.bits(self.mask)
            ranks = scores
            if self.costs:
                costs = program.sums(self.costs)
                ranks = [c + Fraction(self.mu) * s for c, s in zip(costs, scores, strict=True)]
            winners = optima(ranks, program.masks(mask.bit_count()))
            best, unique, first = mask, len(winners) == 1, mask == winners[0]
            self.best = None
            if mask not in winners:
                best = winners[-1]
                self.best = program.spread(best, self.scores)
            gap = total(scores, best) - total(scores, mask)
        if self.costs:
            self.radius = self.removed(self.mask) if self.radius is None else self.radius
            gap += (self.radius - self.removed(self.best or self.mask)) / Fraction(self.mu)
        optimal = not (gap or self.costs or squares)
        given: dict[str, Any] = dict.fromkeys(
            ("best", "potentials", "cost", "multiplier", "inputs")
        )
        frozen: dict[str, Any] = dict.fromkeys(("zeros", "fixed"))
        for role in self.files():
            (frozen if role in frozen else given)[role] = {"file": f"{role}.safetensors"}
        if self.costs:
            given["multiplier"] = self.mu.hex()
        names = list(self.scores)
        self.certificate = {
            "format": "pins-certificate",
            "version": 4,
            "kind": "selection",
            "claim": {
                "total": sum(map(len, self.scores.values())) // size,
                "keep": sum(map(sum, self.mask.values())) // size,
                "block": list(self.block),
                "scope": [
                    {"name": name, "shape": [*self.shape(name)], "dtype": self.dtype}
                    for name in names
                ],
                "tree": copy.deepcopy(self.parts()),
                "frozen": frozen,
                "criterion": "made up",
                "formula": None,
                "tie_rule": "lower-index" if optimal and first else "none",
                "unique": unique if optimal else None,
                "radius": fraction(self.radius) if self.costs and self.radius is not None else None,
                "gap": fraction(gap),
            },
            "evidence": {"counts": [sum(self.mask[name]) // size for name in names]} | given,
            "provenance": {"anything": [1.5, None]},
        }
        self.redigest()
        return self

    def redigest(self) -> None:
        """State the digests of the files as they are now."""
        for role, raw in self.files().items():
            part = self.certificate["claim"]["frozen"]
            (part if role in part else self.certificate["evidence"])[role]["sha256"] = digest(raw)

    def write(self, folder: Path) -> Path:
        for role, raw in self.files().items():
            (folder / f"{role}.safetensors").write_bytes(raw)
        path = folder / "certificate.json"
        path.write_text(json.dumps(self.certificate), encoding="utf-8")
        return path

    def after(self, edit: "Edit") -> "Case":
        """A copy that was edited."""
        other = copy.deepcopy(self)
        edit(other)
        return other

    def verdict(self) -> Verdict:
        return check(self.write(scratch_folder()))

    def verdict_of_files(self) -> Verdict:
        """The verdict on the certificate as it is, whatever it is."""
        path = Case.write(Case(self.scores, self.mask).certify(), scratch_folder())
        path.write_text(json.dumps(self.certificate), encoding="utf-8")
        return check(path)


Edit = Callable[[Any], object]
"""A change of a case in place."""


def claims(**changes: Any) -> Edit:
    """State other values in the claim."""
    return lambda case: case.certificate["claim"].update(changes)


def evidence(**changes: Any) -> Edit:
    """State other values in the evidence."""
    return lambda case: case.certificate["evidence"].update(changes)


def drops(part: str, key: str) -> Edit:
    """Leave out a key."""
    return lambda case: case.certificate[part].pop(key)


def member(*keys: Any) -> Callable[[Any], Edit]:
    """Set the member of the certificate at this path."""

    def set_to(value: Any) -> Edit:
        def edit(case: Case) -> None:
            holder = case.certificate
            for key in keys[:-1]:
                holder = holder[key]
            holder[keys[-1]] = value

        return edit

    return set_to


def redigested(change: Edit) -> Edit:
    """Change the files, and state their new digests."""

    def edit(case: Case) -> None:
        change(case)
        case.redigest()

    return edit


def score(name: str, index: int, value: float) -> Edit:
    """Another score."""
    return redigested(lambda case: case.scores[name].__setitem__(index, value))


def masks(**masks: list[int]) -> Edit:
    """Another mask with its counts."""

    def edit(case: Case) -> None:
        case.mask.update(masks)
        sums = [sum(bits) // prod(case.block) for bits in case.mask.values()]
        case.certificate["evidence"]["counts"] = sums
        case.redigest()

    return edit
