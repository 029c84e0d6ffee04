"""An empirical claim: a statement about measurements, ruled on by code from results files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from verification.empirical.results import Kind, Results


class Verdict(Enum):
    """What the measurements say of a claim; the value is the sentence a person reads."""

    HOLDS = "holds in this scope"
    FAILS = "does not hold"
    UNTESTED = "not tested here"


@dataclass(frozen=True)
class Ruling:
    """What was found of one claim.

    Attributes:
        verdict: whether it holds.
        scope_found: where it holds, if it does.
        evidence: one line: what was compared, with numbers; why, where nothing was decided.
        numbers: the same for machines; JSON values.
    """

    verdict: Verdict
    scope_found: str
    evidence: str
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """The verdict, and the scope it has."""
        return f"{self.verdict.value}{': ' if self.scope_found else ''}{self.scope_found}"


Decide = Callable[[Sequence[Results]], Ruling]


@dataclass(frozen=True)
class EmpiricalClaim:
    """One line of the empirical ledger; a finding, whichever way it goes.

    Attributes:
        id: short, unique, kebab-case.
        statement: what is claimed.
        scope: where it is looked at.
        rule: when it holds, does not hold, and is not decided.
        source: whose claim it is.
        reads: the kind of results files that tell.
        decide: the ruling from one file of that kind or more, by `rule` alone.
    """

    id: str
    statement: str
    scope: str
    rule: str
    source: str
    reads: Kind
    decide: Decide


PAPER = "Ren & Zhu 2023"
OURS = "PINS"


def untested(why: str, **numbers: Any) -> Ruling:
    """No verdict, and the reason."""
    return Ruling(Verdict.UNTESTED, "", why, numbers)
