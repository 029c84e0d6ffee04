"""A small reader of VIPR 1.0 and 1.1, apart from the export: it refuses what proves nothing.

Of the derivations it reads `lin`, which is all that a bound on a linear program needs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

SENSES = {"L": -1, "E": 0, "G": 1}
Terms = dict[int, Fraction]


class RefusedError(Exception):
    """The file is not in the format, or does not prove what it says."""


def require(holds: bool, text: str) -> None:
    if not holds:
        raise RefusedError(text)


@dataclass(frozen=True)
class Constraint:
    """Σ terms ≤ (sense −1), = (0) or ≥ (1) side."""

    name: str
    sense: int
    side: Fraction
    terms: Terms

    def allows(self, point: Terms) -> bool:
        excess = product(self.terms, point) - self.side
        return {-1: excess <= 0, 0: excess == 0, 1: excess >= 0}[self.sense]

    def dominates(self, other: "Constraint") -> bool:
        if not self.terms and not self.allows({}):
            return True
        if self.terms != other.terms or (self.sense and self.sense != other.sense):
            return False
        if other.sense:
            return other.sense * self.side >= other.sense * other.side
        return self.side == other.side


@dataclass(frozen=True)
class Verified:
    """The program and what is proved of it: lower ≤ optimum ≤ upper, where not None."""

    maximise: bool
    objective: Terms
    constraints: list[Constraint]
    lower: Fraction | None
    upper: Fraction | None
    solutions: dict[str, Terms]
    size: int

    def allows(self, point: Terms) -> bool:
        return all(each.allows(point) for each in self.constraints)


def product(terms: Terms, point: Terms) -> Fraction:
    return sum((value * point.get(i, 0) for i, value in terms.items()), Fraction(0))


def verify(path: Path) -> Verified:
    """Raises RefusedError if the file does not prove its range."""
    lines = path.read_text(encoding="ascii").splitlines()
    while lines and lines[0].startswith("%"):
        lines.pop(0)
    try:
        return _verify(iter(" ".join(lines).split()))
    except (StopIteration, ValueError, ZeroDivisionError) as error:
        raise RefusedError(f"not in the format: {error!r}") from error


def _verify(words: Iterator[str]) -> Verified:
    section(words, "VER")
    require(next(words) in ("1.0", "1.1"), "not of version 1.0 or 1.1")
    section(words, "VAR")
    size = int(next(words))
    names = [next(words) for _ in range(size)]
    require(len(set(names)) == size, "a variable is named twice")
    section(words, "INT")
    whole = {index(words, size) for _ in range(int(next(words)))}
    section(words, "OBJ")
    maximise = {"max": True, "min": False}[next(words)]
    objective = sparse(words, size, int(next(words)))
    section(words, "CON")
    number, bounds = int(next(words)), int(next(words))
    rows = [constraint(words, size, objective) for _ in range(number)]
    require(all(len(row.terms) == 1 for row in rows[:bounds]), "a bound of several variables")
    section(words, "RTP")
    section(words, "range")
    lower, upper = (None if word.endswith("inf") else Fraction(word) for word in some(words, 2))
    section(words, "SOL")
    solutions = {next(words): sparse(words, size, int(next(words))) for _ in some_times(words)}
    for name, point in solutions.items():
        require(all(point[i].denominator == 1 for i in whole & point.keys()), f"{name}: no integer")
        for row in rows:
            require(row.allows(point), f"{name} breaks {row.name}")
    values = [product(objective, point) for point in solutions.values()]
    primal, dual = (lower, upper) if maximise else (upper, lower)
    if primal is not None:
        reached = max(values, default=None) if maximise else min(values, default=None)
        sign = 1 if maximise else -1
        require(
            reached is not None and sign * reached >= sign * primal, "no solution reaches the range"
        )
    section(words, "DER")
    proved = list(rows)
    for _ in some_times(words):
        claim = constraint(words, size, objective)
        require(combination(words, proved).dominates(claim), f"{claim.name} is not derived")
        next(words)  # the last index that refers to it
        proved.append(claim)
    require(next(words, None) is None, "there is more after the derivations")
    if dual is not None:
        goal = Constraint("RTP", -1 if maximise else 1, dual, objective)
        require(len(proved) > number and proved[-1].dominates(goal), "the range is not derived")
    return Verified(maximise, objective, rows, lower, upper, solutions, size)


def some(words: Iterator[str], number: int) -> list[str]:
    return [next(words) for _ in range(number)]


def some_times(words: Iterator[str]) -> range:
    return range(int(next(words)))


def section(words: Iterator[str], name: str) -> None:
    require((found := next(words)) == name, f"{found!r} in the place of {name}")


def index(words: Iterator[str], size: int) -> int:
    require(0 <= (found := int(next(words))) < size, f"there is no index {found}")
    return found


def sparse(words: Iterator[str], size: int, number: int) -> Terms:
    found: Terms = {}
    for _ in range(number):
        i, value = index(words, size), Fraction(next(words))
        require(i not in found, f"the index {i} appears twice")
        found[i] = value
    return {i: value for i, value in found.items() if value}


def constraint(words: Iterator[str], size: int, objective: Terms) -> Constraint:
    name, sense, side, count = some(words, 4)
    terms = objective if count == "OBJ" else sparse(words, size, int(count))
    require(sense in SENSES, f"{name}: the sense is {sense!r}")
    return Constraint(name, SENSES[sense], Fraction(side), terms)


def combination(words: Iterator[str], proved: list[Constraint]) -> Constraint:
    """What `{ lin … }` says; all inequalities must point in one direction."""
    section(words, "{")
    section(words, "lin")
    terms: Terms = {}
    side, senses = Fraction(0), set()
    for i, factor in sparse(words, len(proved), int(next(words))).items():
        row = proved[i]
        if row.sense:
            senses.add(row.sense * (1 if factor > 0 else -1))
        side += factor * row.side
        for j, value in row.terms.items():
            terms[j] = terms.get(j, Fraction(0)) + factor * value
    section(words, "}")
    require(len(senses) < 2, "the multipliers have different directions")
    return Constraint(
        "", senses.pop() if senses else 0, side, {j: v for j, v in terms.items() if v}
    )
