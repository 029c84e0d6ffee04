"""A program as a file for any solver: CPLEX LP or free MPS, without rounding."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from pins.errors import ProgramError
from pins.utils.io import write_text
from solvers.program import BinaryProgram, Sense


def write(program: BinaryProgram, path: str | os.PathLike[str]) -> None:
    """min c·x, A x (≤, =) b, x ∈ {0,1}ⁿ, written to `path` as `.lp` or `.mps`.

    Every number is written by `repr`, the shortest decimal that reads back as the same float64 (17
    significant digits at most), so nothing is lost; PuLP's writers round to 13 digits (MPS) and 12
    (LP). Variables are called x0 … x(n−1), rows r0 … r(m−1). The write is atomic.

    Args:
        program: the program.
        path: the file; its suffix chooses the format, and an existing file is replaced.

    Raises:
        ProgramError: another suffix.
        FileError: the file cannot be written.
    """
    target = Path(path)
    if target.suffix not in FORMATS:
        raise ProgramError(
            f"write: {target.name} came; end the file's name with {' or '.join(FORMATS)}"
        )
    lines = FORMATS[target.suffix](program)
    write_text("".join(f"{line}\n" for line in lines), target)


def _lp_lines(program: BinaryProgram) -> Iterator[str]:
    """The CPLEX LP format, one term a line, because readers limit the length of a line."""
    yield "Minimize"
    yield " obj:"
    # Zero costs are written too, so that every variable is known before it is declared.
    yield from (_term(cost, i) for i, cost in enumerate(program.objective.tolist()))
    yield "Subject To"
    for row, sense in enumerate(program.senses):
        yield f" r{row}:"
        columns, weights = (stored.tolist() for stored in program.row(row))
        # A row needs a left side; a row of zeros gets 0 x0.
        yield from (
            _term(weight, i) for i, weight in zip(columns or [0], weights or [0.0], strict=True)
        )
        yield f" {sense.value} {float(program.rhs[row])!r}"
    yield "Binaries"
    yield from (f" x{i}" for i in range(program.size))
    yield "End"


def _mps_lines(program: BinaryProgram) -> Iterator[str]:
    """The free MPS format; MPS is stored by columns, and BV declares a 0-1 variable."""
    yield "NAME program FREE"
    yield "ROWS"
    yield " N obj"
    letters = {Sense.LESS_OR_EQUAL: "L", Sense.EQUAL: "E"}
    yield from (f" {letters[sense]} r{row}" for row, sense in enumerate(program.senses))
    yield "COLUMNS"
    yield " MARKER 'MARKER' 'INTORG'"
    columns = program.matrix.tocsc()
    for i, cost in enumerate(program.objective.tolist()):
        yield f" x{i} obj {cost!r}"
        entries = slice(columns.indptr[i], columns.indptr[i + 1])
        for row, weight in zip(
            columns.indices[entries].tolist(), columns.data[entries].tolist(), strict=True
        ):
            yield f" x{i} r{row} {weight!r}"
    yield " MARKER 'MARKER' 'INTEND'"
    yield "RHS"
    yield from (f" RHS r{row} {bound!r}" for row, bound in enumerate(program.rhs.tolist()))
    yield "BOUNDS"
    yield from (f" BV BND x{i}" for i in range(program.size))
    yield "ENDATA"


def _term(weight: float, index: int) -> str:
    """One term of a sum, sign first: ` + 0.5 x3`."""
    return f" {'-' if weight < 0 else '+'} {abs(weight)!r} x{index}"


FORMATS: Mapping[str, Callable[[BinaryProgram], Iterator[str]]] = MappingProxyType(
    {".lp": _lp_lines, ".mps": _mps_lines}
)
"""Suffix ↦ the lines of the file."""
