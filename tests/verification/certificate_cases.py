"""Certificates and their files, made independently of the checker and of the code that certifies.

The files are made byte by byte. `facts_hold` compares what any certificate states about its files.
"""

import functools
import hashlib
import json
import struct
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import strategies as st

from verification import checker
from verification.checker import Verdict, check

CHECKER = Path(checker.__file__)
DTYPES = ("F16", "BF16", "F32", "F64")
FINITE = st.floats(allow_nan=False, allow_infinity=False)
KEYS = {"per-tensor": "keep", "minimum-per-tensor": "minimum"}
Mask = tuple[int, ...]


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


def rational(parts: dict[str, str]) -> Fraction:
    return Fraction(int(parts["numerator"]), int(parts["denominator"]))


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


@dataclass
class Case:
    """Scores and mask by tensor, and the certificate to go with them."""

    scores: dict[str, list[float]]
    mask: dict[str, list[int]]
    dtype: str = "F32"
    packed: bool = True
    certificate: dict[str, Any] = field(default_factory=dict)

    def shape(self, name: str) -> list[int]:
        size = len(self.scores[name])
        return [2, size // 2] if size % 2 == 0 else [size]

    def score_bytes(self) -> bytes:
        return tensor_file(
            {n: (self.dtype, self.shape(n), encode(v, self.dtype)) for n, v in self.scores.items()}
        )

    def mask_bytes(self) -> bytes:
        if not self.packed:
            return tensor_file(
                {n: ("BOOL", self.shape(n), bytes(bits)) for n, bits in self.mask.items()}
            )
        shapes = json.dumps({name: self.shape(name) for name in self.mask})
        return tensor_file(
            {n: ("U8", [-(-len(bits) // 8)], pack(bits)) for n, bits in self.mask.items()},
            {"format": "pins-mask", "version": "1", "shapes": shapes},
        )

    def certify(self) -> "Case":
        """The certificate that is true of scores and mask, digests included."""
        values = [v for scores in self.scores.values() for v in scores]
        bits = [b for mask in self.mask.values() for b in mask]
        places = [(name, i) for name, scores in self.scores.items() for i in range(len(scores))]
        kept = [i for i, bit in enumerate(bits) if bit]
        pruned = [i for i, bit in enumerate(bits) if not bit]
        keep = len(kept)
        ordered = sorted(values, reverse=True)
        regret = sum(map(Fraction, ordered[:keep]), Fraction(0))
        regret -= sum(Fraction(values[i]) for i in kept)
        low = min(kept, key=values.__getitem__, default=None)
        high = max(pruned, key=values.__getitem__, default=None)
        lam = ordered[keep - 1] if keep else ordered[0] if ordered else 0.0
        claim: dict[str, Any] = {
            "statement": "regret" if regret else "optimal",
            "total": len(values),
            "keep": keep,
            "scope": [
                {"name": name, "shape": self.shape(name), "dtype": self.dtype}
                for name in self.scores
            ],
            "criterion": "made up",
        }
        evidence: dict[str, Any] = {
            "lambda": lam.hex(),
            "counts": [sum(bits) for bits in self.mask.values()],
            "scores": {
                "file": "scores.safetensors",
                "sha256": digest(self.score_bytes()),
            },
            "mask": {
                "file": "mask.safetensors",
                "sha256": digest(self.mask_bytes()),
            },
        }
        if regret:
            claim["regret"] = fraction(regret)
            evidence["violation"] = {
                side: {"tensor": places[i][0], "index": places[i][1], "score": values[i].hex()}
                for side, i in (("kept", low), ("pruned", high))
                if i is not None
            }
        else:
            threshold = None if low is None or high is None else values[low]
            tied = threshold is not None and threshold == max(values[i] for i in pruned)
            ties = [bit for bit, value in zip(bits, values, strict=True) if value == threshold]
            by_index = not tied or ties == sorted(ties, reverse=True)
            claim |= {"tie_rule": "lower-index" if by_index else "none", "unique": not tied}
            evidence |= {
                "kept_min": None if low is None else values[low].hex(),
                "pruned_max": None if high is None else values[high].hex(),
            }
        self.certificate = {
            "format": "pins-certificate",
            "version": 1,
            "claim": claim,
            "evidence": evidence,
            "provenance": {"anything": [1.5, None]},
        }
        return self

    def files(self) -> dict[str, bytes]:
        """The contents of the files by their role."""
        return {"scores": self.score_bytes(), "mask": self.mask_bytes()}

    def redigest(self) -> None:
        """State the digests of the files as they are now."""
        for role, raw in self.files().items():
            self.certificate["evidence"][role]["sha256"] = digest(raw)

    def write(self, folder: Path) -> Path:
        for role, raw in self.files().items():
            (folder / f"{role}.safetensors").write_bytes(raw)
        path = folder / "certificate.json"
        path.write_text(json.dumps(self.certificate), encoding="utf-8")
        return path

    def verdict(self) -> Verdict:
        return check(self.write(scratch_folder()))


@dataclass
class RegionCase(Case):
    """Scores, costs and mask by tensor, and the certificate to go with them."""

    costs: dict[str, list[float]] = field(default_factory=dict)

    def cost_bytes(self) -> bytes:
        shaped = Case(self.costs, {}, self.dtype)
        return shaped.score_bytes()

    def files(self) -> dict[str, bytes]:
        return super().files() | {"cost": self.cost_bytes()}

    def removed(self) -> Fraction:
        """c·(1−m)."""
        total = Fraction(0)
        for name, costs in self.costs.items():
            total += sum(
                Fraction(cost) for cost, bit in zip(costs, self.mask[name], strict=True) if not bit
            )
        return total


def names_of(case: Case) -> list[str]:
    """The tensors of the claim in flat order."""
    return [tensor["name"] for tensor in case.certificate["claim"]["scope"]]


def exact(case: Case, names: list[str]) -> list[Fraction]:
    return [Fraction(value) for name in names for value in case.scores[name]]


def ones(case: Case, names: list[str]) -> Mask:
    """The flat indices that are kept."""
    return tuple(i for i, bit in enumerate(b for n in names for b in case.mask[n]) if bit)


def owners(case: Case, names: list[str]) -> list[int]:
    """The position of the tensor of each flat index."""
    return [t for t, name in enumerate(names) for _ in case.scores[name]]


def numbers_of_constraint(case: Case) -> list[int]:
    """The claimed number or minimum of each tensor."""
    constraint = case.certificate["claim"]["constraint"]
    numbers: list[int] = constraint[KEYS[constraint["kind"]]]
    return numbers


def floats_of(*texts: str | None) -> list[Fraction | None]:
    """Hexadecimal floats as rational numbers; None for None."""
    return [None if text is None else Fraction(float.fromhex(text)) for text in texts]


def facts_hold(case: Case) -> bool:
    """Whether the stated total, numbers of ones and digests are those of the files."""
    claim, evidence = case.certificate["claim"], case.certificate["evidence"]
    counts = [sum(case.mask[name]) for name in names_of(case)]
    total = sum(len(case.scores[name]) for name in names_of(case))
    stated = (claim["total"], claim["keep"], evidence["counts"])
    return (total, sum(counts), counts) == stated and all(
        evidence[role]["sha256"] == digest(raw) for role, raw in case.files().items()
    )


def ends_hold(case: Case) -> bool:
    """Whether the stated least kept and greatest pruned score are those of the mask."""
    evidence, names = case.certificate["evidence"], names_of(case)
    values, kept = exact(case, names), set(ones(case, names))
    least = min((values[i] for i in kept), default=None)
    greatest = max((v for i, v in enumerate(values) if i not in kept), default=None)
    return floats_of(evidence["kept_min"], evidence["pruned_max"]) == [least, greatest]
