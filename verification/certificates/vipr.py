"""A certificate as a file of VIPR 1.0, which checkers of integer programs read.

The file has the program (`verification.certificates.program`), the optimum as a solution, and one
linear combination of the rows that bounds the objective. Each is streamed: the whole text is never
in memory.

A program has a value, and its solutions no order: uniqueness and the tie rule are not in the file.

Only the standard library reads and computes: `checker.py` checks the certificate, and the numbers
that it checked are the ones written.
"""

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import chain
from math import prod
from pathlib import Path
from struct import iter_unpack
from typing import Any

import pins
from pins.errors import CertificateError
from pins.utils.io import atomic
from verification import checker
from verification.certificates.budget_program import budget_program
from verification.certificates.program import Program
from verification.checker import Block, Outcome, Scan, Stored, View

LARGEST = 10**6  # weights
# what `Program` states of a claim; one with more would become a program that is not its own
CLAIM = {"total", "keep", "block", "scope", "tree", "frozen", "radius", "gap"}
CLAIM |= {"criterion", "formula", "tie_rule", "unique"}  # not stated
UNSAID = "how the scores were made, whether the optimum is unique, and the tie rule"
UNSAID_OF_BUDGETS = "how the numbers were made, and the search that proves a smaller gap"


@dataclass(frozen=True)
class Export:
    """What a VIPR file says.

    Attributes:
        variables: their number n.
        constraints: the number of rows, with the bounds of the variables.
        exponent: e; the objective is 2ᵉ times the score sum.
        lower: the objective of the solution: of an optimum, or of the claimed mask where a gap is
            proved.
        upper: the bound that the derivation proves.
        unsaid: what the certificate says beyond that.
    """

    variables: int
    constraints: int
    exponent: int
    lower: int
    upper: Fraction
    unsaid: str = UNSAID

    def __str__(self) -> str:
        proves = "an optimum" if self.lower == self.upper else "a bound on the optimum"
        size = f"{self.variables:,} variables, {self.constraints:,} constraints"
        return f"{size}; proves {proves}; does not say {self.unsaid}"


def export(certificate: Path, out: Path, *, force: bool = False) -> Export:
    """Write the program and the proof of a certificate that the checker proves.

    Args:
        certificate: of kind "selection", with its files, or of kind "budget": of this one the
            program and its Lagrangian bound.
        out: the VIPR file, which is new.
        force: export more than `LARGEST` weights too.

    Raises:
        CertificateError: the certificate is not proved, is of another kind, or is too large, or
            `out` exists.
        FileError: `out` cannot be written.
    """
    if out.exists():
        raise CertificateError(f"{out} exists: remove it, or write to another file")
    try:
        digest = _sha256(certificate)
        kind, claim, evidence = checker._read_certificate(certificate)
    except (checker._UnreadableError, OSError):
        verdict = checker.check(certificate)
        raise CertificateError(f"{certificate} is not exported: {verdict.message}") from None
    if kind is checker._KINDS["budget"]:
        _require_proved(certificate, digest)
        program = budget_program(claim, evidence["multiplier"])
        comments = _budget_comments(claim)
        return _written(program, certificate, digest, comments, out, UNSAID_OF_BUDGETS)
    if claim.keys() != CLAIM:
        raise CertificateError(
            f"{certificate} is not exported: its claim is not about one tree of bounds"
        )
    squares = any(leaf["squares"] for leaf in checker._leaves(claim["tree"]))
    if squares and any(claim["frozen"].values()):
        raise CertificateError(f"{certificate} is not exported: it has squares and frozen weights")
    if claim["total"] > LARGEST and not force:
        raise CertificateError(
            f"{certificate} decides {claim['total']:,} weights, and a VIPR file takes over 100 "
            f"bytes for each: up to {LARGEST:,} are exported, or more with --force"
        )
    weights = _Weights()
    _require_proved(certificate, digest, weights)
    masks = {role: bytes(mask) for role, mask in weights.masks.items()}
    numbers = weights.scores, weights.costs, masks, weights.potentials
    program = Program.of(claim, evidence["multiplier"], *numbers)
    comments = _comments(claim, kind.files(claim, evidence), program.exponent)
    return _written(program, certificate, digest, comments, out)


def _require_proved(certificate: Path, digest: str, scan: Scan | None = None) -> None:
    verdict = checker.check(certificate, scan)
    if verdict.outcome is not Outcome.PROVED:
        raise CertificateError(f"{certificate} is not exported: {verdict.message}")
    if _sha256(certificate) != digest:
        raise CertificateError(f"{certificate} changed while it was read: export it again")


def _written(
    program: Program,
    certificate: Path,
    digest: str,
    comments: Iterable[str],
    out: Path,
    unsaid: str = UNSAID,
) -> Export:
    """Write the file, and what it says."""
    origin = f"pins {pins.__version__}: {certificate.name!a}, sha256 {digest}"
    comments = origin, *comments, f"not said: {unsaid}"
    with atomic(out) as temporary, temporary.open("w", encoding="ascii", newline="\n") as file:
        file.writelines(f"% {line}\n" for line in comments)
        file.writelines(_sections(program))
    n = len(program.objective)
    constraints = 2 * n + len(program.rows)
    return Export(n, constraints, program.exponent, program.lower, program.upper, unsaid)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class _Weights(Scan):
    """The weights in flat order, recorded while the checker reads them."""

    def __init__(self) -> None:
        self.scores, self.costs = array("d"), array("d")
        # by role: a byte, 0 or 1, for each element
        self.masks: dict[str, bytearray] = {"mask": bytearray()}
        self.potentials: list[tuple[int, ...]] = []

    def block(self, stored: Stored, mu: float | None) -> Block:
        block = super().block(stored, mu)
        self.scores.extend(block.scores)
        self.costs.extend(block.costs)
        for role, flags in block.masks.items():
            self.masks.setdefault(role, bytearray()).extend(flags[:: stored.each])
        line = 2 * stored.view.tile[0] + 1
        self.potentials += iter_unpack(f"<{line}q", stored.potentials)
        return block


def _comments(claim: dict[str, Any], files: dict[str, Any], exponent: int) -> Iterator[str]:
    """What the file is made of, and what its objective and its variables are; in ASCII."""
    for role, file in files.items():
        if file:
            yield f"{role}: {file['file']!a}, sha256 {file['sha256']}"
    yield f"objective: 2^{exponent} times the score sum of a mask; x = 1 keeps a weight"
    start = 0
    for position, leaf in enumerate(checker._leaves(claim["tree"])):
        tensor, view = claim["scope"][position], View.of(claim, position, leaf)
        stop = start + prod(tensor["shape"]) // prod(claim["block"])
        order = "the last two dimensions swapped" if leaf["transposed"] else "as stored"
        if prod(view.tile) > 1:
            what = "the weights of squares" if leaf["squares"] else "blocks"
            order += f", {what} of {view.tile[0]}x{view.tile[1]}"
        if stop > start:
            shape = "x".join(map(str, tensor["shape"]))
            yield f"x{start} ... x{stop - 1}: {tensor['name']!a} {shape}, {order}"
        start = stop


def _budget_comments(claim: dict[str, Any]) -> Iterator[str]:
    """What the objective and the variables of the file are; in ASCII."""
    yield f"objective: minus the error, in units of {claim['units']['error']}"
    yield f"budget: in units of {claim['units']['cost']}; x = 1 chooses an option"
    start = 0
    for layer in claim["layers"]:
        stop = start + len(layer["levels"])
        yield f"x{start} ... x{stop - 1}: {layer['name']!a}, its levels in order"
        start = stop


def _sections(program: Program) -> Iterator[str]:
    """The file without its comments."""
    n, rows = len(program.objective), program.rows
    yield f"VER 1.0\nVAR {n}\n"
    yield from (f"x{i}\n" for i in range(n))
    yield f"INT {n}\n"
    yield from (f"{i}\n" for i in range(n))
    yield "OBJ max\n"
    yield from _sparse(partial(enumerate, program.objective))
    yield f"\nCON {2 * n + len(rows)} {2 * n}\n"
    yield from (f"L{i} G {bound} 1 {i} 1\n" for i, bound in enumerate(program.least))
    yield from (f"U{i} L {bound} 1 {i} 1\n" for i, bound in enumerate(program.most))
    for row in rows:
        yield f"{row.name} {row.sense} {row.bound} "
        yield from _sparse(row.terms)
        yield "\n"
    yield f"RTP range {program.lower} {program.upper}\nSOL {len(program.solutions)}\n"
    for role, mask in program.solutions.items():
        yield f"{role} "
        yield from _sparse(partial(enumerate, mask))
        yield "\n"
    yield f"DER 1\nbound L {program.upper} OBJ {{ lin "
    yield from _sparse(partial(_multipliers, program))
    yield " } -1\n"


def _multipliers(program: Program) -> Iterator[tuple[int, int | Fraction]]:
    """Of all constraints, by their index: first the lower bounds, then the upper ones."""
    n, unit = len(program.excess), program.unit
    rows = enumerate((row.multiplier for row in program.rows), 2 * n)
    for i, multiplier in chain(enumerate(program.excess), rows):
        bound = n if i < n and multiplier > 0 else 0
        yield i + bound, multiplier if unit == 1 else Fraction(multiplier, unit)


def _sparse(terms: Callable[[], Iterable[tuple[int, int | Fraction]]]) -> Iterator[str]:
    """The number of the terms that are not 0, and these; called twice, so that no list is kept."""
    yield str(sum(1 for _, value in terms() if value))
    yield from (f" {i} {value}" for i, value in terms() if value)
