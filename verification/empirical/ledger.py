"""The empirical ledger: the ruling on every claim from a folder of results files."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pins.utils.grouping import grouped
from verification.empirical import ALL
from verification.empirical.claim import EmpiricalClaim, Ruling, Verdict, untested
from verification.empirical.results import LOSS_DECREASE, ByKind, read_folder, results

CHECKOUT = Path(__file__).parents[2]
STATED = ("id", "statement", "scope", "rule", "source")  # fields of a claim


@dataclass(frozen=True)
class EmpiricalEntry:
    """A claim with its ruling."""

    claim: EmpiricalClaim
    ruling: Ruling


def rule(found: ByKind) -> list[EmpiricalEntry]:
    """The ruling on each claim from the results of the kind that it reads.

    A claim without results is not tested; its ruling says what to run.
    """

    def ruling(claim: EmpiricalClaim) -> Ruling:
        if given := found.get(claim.reads):
            return claim.decide(given)
        return untested(f"no {claim.reads.pattern}: run `{claim.reads.command}`")

    return [EmpiricalEntry(claim, ruling(claim)) for claim in ALL]


def rule_folder(folder: Path | None) -> list[EmpiricalEntry]:
    """`rule` on the results files of a folder; with None nothing is tested.

    Raises:
        FileError: it is not a folder, or a file is damaged.
    """
    return rule({} if folder is None else read_folder(folder))


def rule_changes(
    name: str, changes: Sequence[Mapping[str, Any]], *, seed: int
) -> list[EmpiricalEntry]:
    """`rule` on the loss changes of one run with one seed.

    Args:
        name: what they were measured on.
        changes: `verification.experiments.loss_change.LossChange`s as JSON values.
        seed: the seed of the run.
    """
    rows = [{"seed": seed, **change} for change in changes]
    return rule({LOSS_DECREASE: [results(LOSS_DECREASE, name, rows, name)]})


def committed() -> Path | None:
    """The results of this checkout; None if the package is installed without one."""
    folder = CHECKOUT / "benchmarks" / "results"
    return folder if folder.is_dir() and (CHECKOUT / "pyproject.toml").is_file() else None


def choose_folder(given: Path | None) -> Path | None:
    """The folder given; by default the results of the checkout, if there is one."""
    return committed() if given is None else given


def counts(entries: Sequence[EmpiricalEntry]) -> dict[Verdict, int]:
    """How many claims have each verdict."""
    return {v: sum(entry.ruling.verdict is v for entry in entries) for v in Verdict}


def rules(entries: Sequence[EmpiricalEntry]) -> dict[str, list[str]]:
    """Rule → the ids of the claims that it decides."""
    by_rule = grouped([entry.claim for entry in entries], lambda claim: claim.rule)
    return {rule: [claim.id for claim in claims] for rule, claims in by_rule.items()}


def rows_of(entries: Iterable[EmpiricalEntry]) -> list[dict[str, Any]]:
    """The ledger as JSON values."""
    return [
        {
            **{name: getattr(entry.claim, name) for name in STATED},
            **asdict(entry.ruling),
            "verdict": entry.ruling.verdict.name.lower(),
            "said": str(entry.ruling),
        }
        for entry in entries
    ]
