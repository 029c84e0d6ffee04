"""Proofs that no x ∈ {0,1}ⁿ satisfies A x (≤, =) b, in exact arithmetic.

A backend that works in floating point may call a feasible program infeasible: one whose rows have
large entries, such as bytes or FLOPs.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd

from solvers.enumeration import LIMIT, optimal_set
from solvers.exact import integers
from solvers.program import BinaryProgram, Sense

WORK = 10_000_000
"""Entries of rows that bounds are propagated over, at most: a few seconds."""


def proved_infeasible(program: BinaryProgram) -> bool:
    """Whether a contradiction is found: between the bounds of rows, or by enumeration if n ≤ 20.

    False means that nothing is known.
    """
    return (
        _not_divisible(program)
        or _contradictory(program)
        or (program.size <= LIMIT and not optimal_set(program))
    )


def relaxation_proved_infeasible(program: BinaryProgram) -> bool:
    """Whether a row alone has no point of [0,1]ⁿ; False means that nothing is known."""
    return any(sum(min(0, a) for a in entries) > bound for _, entries, bound in _rows(program))


def _rows(program: BinaryProgram) -> Iterator[tuple[list[int], list[int], int]]:
    """Columns, entries and right side of rows Σ aⱼxⱼ ≤ b, in integers; an equality is two."""
    for places, entries, bound, sense in _integer_rows(program):
        yield places, entries, bound
        if sense is Sense.EQUAL:
            yield places, [-entry for entry in entries], -bound


def _integer_rows(program: BinaryProgram) -> Iterator[tuple[list[int], list[int], int, Sense]]:
    """Columns, entries, right side and sense of each row, multiplied by a power of two."""
    for row, sense in enumerate(program.senses):
        columns, weights = program.row(row)
        *entries, bound = integers([*weights.tolist(), float(program.rhs[row])])
        yield columns.tolist(), entries, bound, sense


def _not_divisible(program: BinaryProgram) -> bool:
    """Whether a divisor of all entries of an equality does not divide its right side."""
    return any(
        sense is Sense.EQUAL and bound % (gcd(*entries) or 1)
        for _, entries, bound, sense in _integer_rows(program)
    )


def _contradictory(program: BinaryProgram) -> bool:
    """Whether the rows, one by one, leave some variable no value.

    A row Σ aⱼxⱼ ≤ b has the least left side L = Σ min(0, aⱼ) over the variables that are free, plus
    the others' part. No point satisfies it if L > b; and if L + |aⱼ| > b, then xⱼ is fixed at the
    value that L has: 0 if aⱼ > 0, else 1.
    """
    rows = list(_rows(program))
    fixed: dict[int, int] = {}
    work, known = 0, -1
    while known < len(fixed) and work < WORK:
        known = len(fixed)
        for places, entries, bound in rows:
            work += len(places)
            row = list(zip(places, entries, strict=True))
            least = sum(a * fixed[j] if j in fixed else min(0, a) for j, a in row)
            if least > bound:
                return True
            fixed |= {j: int(a < 0) for j, a in row if j not in fixed and least + abs(a) > bound}
    return False
