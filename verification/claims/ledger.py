"""The ledger: the outcome of the check and of the control of every claim.

Empirical claims (`verification.empirical`) are listed too, without effect on `all_hold`: if a claim
about measurements fails, that is a result, not an error.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from verification.claims import Claim, Finding, Setting
from verification.empirical.ledger import EmpiricalEntry, rows_of

FORMAT = "pins-ledger"


class Outcome(Enum):
    """The outcome of a claim; the value is its description."""

    HOLDS = "holds in its scope; the control fails as it should"
    REFUTED = "does not hold"
    UNTRIED = "a solver gave no answer, so nothing is known"
    UNSOUND = "the control holds as well, so the check proves nothing"


@dataclass(frozen=True)
class Entry:
    """A claim with the findings of its check and its control."""

    claim: Claim
    check: Finding
    control: Finding
    seconds: float

    @property
    def outcome(self) -> Outcome:
        """HOLDS iff the check holds and the control does not, and both were tried."""
        if self.check.tried and not self.check.holds:
            return Outcome.REFUTED
        if not self.check.tried or not self.control.tried:
            return Outcome.UNTRIED
        return Outcome.UNSOUND if self.control.holds else Outcome.HOLDS


def run(claims: Iterable[Claim], setting: Setting) -> Iterator[Entry]:
    """Check each claim and its control, one after the other.

    Raises:
        PinsError: a check cannot run; no claim is skipped.
    """
    for claim in claims:
        start = time.perf_counter()
        check, control = claim.check(setting), claim.control(setting)
        yield Entry(claim, check, control, time.perf_counter() - start)


def document(
    entries: Iterable[Entry], setting: Setting, empirical: Iterable[EmpiricalEntry] = ()
) -> dict[str, Any]:
    """The ledger as JSON values."""
    rows = [
        {
            "id": entry.claim.id,
            "outcome": entry.outcome.name.lower(),
            "statement": entry.claim.statement,
            "scope": entry.claim.scope,
            "source": entry.claim.source,
            "check": asdict(entry.check),
            "control": {"statement": entry.claim.control_statement, **asdict(entry.control)},
            "seconds": round(entry.seconds, 3),
        }
        for entry in entries
    ]
    return {
        "format": FORMAT,
        "version": 1,
        "profile": setting.profile,
        "seed": setting.seed,
        "all_hold": all(row["outcome"] == "holds" for row in rows),
        "claims": rows,
        "empirical": rows_of(empirical),
    }


def exit_code(ledger: Mapping[str, Any]) -> int:
    """0 if all claims hold; 1 if one is refuted or its check unsound; else 2: some are untried."""
    outcomes = {row["outcome"] for row in ledger["claims"]}
    if outcomes <= {"holds"}:
        return 0
    return 2 if outcomes <= {"holds", "untried"} else 1
