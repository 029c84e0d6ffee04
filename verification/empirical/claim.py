"""An empirical claim: a statement about measurements that code decides from results files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from verification.empirical.results import Kind, Results


class Verdict(Enum):
    """The result of a claim; the value is the sentence that a person reads."""

    HOLDS = "holds in this scope"
    FAILS = "does not hold"
    UNTESTED = "not tested here"


@dataclass(frozen=True)
class Ruling:
    """The result of one claim, with its evidence.

    Attributes:
        verdict: whether it holds.
        scope_found: where it holds, if it does.
        evidence: one line: the comparison with its numbers, or why nothing was decided.
        numbers: the same as JSON values.
    """

    verdict: Verdict
    scope_found: str
    evidence: str
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """The verdict and its scope."""
        return f"{self.verdict.value}{': ' if self.scope_found else ''}{self.scope_found}"


Decide = Callable[[Sequence[Results]], Ruling]


@dataclass(frozen=True)
class EmpiricalClaim:
    """One line of the empirical ledger; whether it holds or not, it is a finding.

    Attributes:
        id: short, unique, kebab-case.
        statement: what is claimed.
        scope: where it is tested.
        rule: when it holds, when it does not hold, and when it is not decided.
        source: who makes the claim.
        reads: the kind of results files that decide it.
        decide: (files of that kind) ↦ the ruling, by `rule` alone.
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


def tested(holds: bool, scope: str, evidence: str, **numbers: Any) -> Ruling:
    """The ruling of a claim that was tested; it has a scope only if it holds."""
    verdict = Verdict.HOLDS if holds else Verdict.FAILS
    return Ruling(verdict, scope if holds else "", evidence, numbers)


def untested(why: str, **numbers: Any) -> Ruling:
    """The ruling of a claim that was not tested, with the reason."""
    return Ruling(Verdict.UNTESTED, "", why, numbers)
