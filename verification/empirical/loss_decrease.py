"""The loss after one pruning decision: which criterion lowers it most, and at which fractions.

A criterion is lower than its rivals at a fraction if its measured change of the loss is lower by
more than rounding errors, on the mean over the seeds and in each seed. A fraction counts as tried
if the criterion and its rivals were measured on some seed; nothing is interpolated.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pins.utils.grouping import grouped
from verification.empirical.claim import OURS, PAPER, EmpiricalClaim, Ruling, tested, untested
from verification.empirical.results import LOSS_DECREASE, Results
from verification.formatting import counted, exact_percent, joined, ranges, rounded

RESOLUTION = 1e-6  # losses come from float32 arithmetic: smaller differences are rounding
PAPERS_RIVALS = ("magnitude", "sensitivity")
RANGE = 0.01, 0.5
ROWS, UNSEEN = "measured", "measured_unseen"  # fields
WHERE = {ROWS: "on the rows of the gradient", UNSEEN: "on rows that took no part"}
PLACES = {ROWS: "rows", UNSEEN: "unseen"}  # in the ids of claims
LOWER = (
    f"lower: by more than {RESOLUTION:g}, on the mean over the seeds and in each seed, than each "
    "rival's"
)


@dataclass(frozen=True)
class Place:
    """A criterion and its rivals at one fraction of one results file.

    Attributes:
        file: the file's name.
        fraction: of the weights that were pruned.
        seeds: the number of seeds on which all of them were measured.
        mine: the criterion's mean change of the loss.
        rival: the rival with the lowest mean.
        theirs: the rival's mean.
        lower_mean: whether `mine` is lower than every rival's mean.
        lower: whether it is lower in each seed as well.
    """

    file: str
    fraction: float
    seeds: int
    mine: float
    rival: str
    theirs: float
    lower_mean: bool
    lower: bool


def places(
    found: Sequence[Results], name: str, rivals: Sequence[str] | None, field: str
) -> list[Place]:
    """The places at which a criterion and its rivals (None: all others) were measured."""
    return [
        place
        for results in found
        for fraction in sorted({row["fraction"] for row in results.rows if row["fraction"] > 0})
        if (place := _place(results, fraction, name, rivals, field))
    ]


def _place(
    results: Results, fraction: float, name: str, rivals: Sequence[str] | None, field: str
) -> Place | None:
    by_seed: dict[int, dict[str, float]] = {}
    for row in results.rows:
        if row["fraction"] == fraction:
            change = math.inf if math.isnan(row[field]) else float(row[field])  # a destroyed model
            by_seed.setdefault(row["seed"], {})[row["criterion"]] = change
    others = sorted(set().union(*by_seed.values()) - {name}) if rivals is None else rivals
    cells = [cells for cells in by_seed.values() if {name, *others} <= cells.keys()]
    if not (cells and others):
        return None
    means = {each: statistics.fmean(cell[each] for cell in cells) for each in (name, *others)}
    rival = min(others, key=lambda each: means[each])
    lower = [all(c[name] < c[each] - RESOLUTION for each in others) for c in (means, *cells)]
    compared = (means[name], rival, means[rival])
    return Place(results.name, fraction, len(cells), *compared, lower[0], all(lower))


def somewhere(found: Sequence[Results], name: str, rivals: Sequence[str], field: str) -> Ruling:
    """Holds at the fractions at which the criterion is lower; does not hold if there are none."""
    tried = places(found, name, rivals, field)
    return _ruling(tried, name, holds=any(place.lower for place in tried))


def everywhere(found: Sequence[Results], name: str, field: str) -> Ruling:
    """Holds if the criterion is lower than all others at every fraction of the range tried."""
    low, high = RANGE
    tried = [p for p in places(found, name, None, field) if low <= p.fraction <= high]
    return _ruling(tried, name, holds=all(place.lower for place in tried))


def _ruling(tried: Sequence[Place], name: str, *, holds: bool) -> Ruling:
    if not tried:
        return untested(
            f"no row of {name} beside its rivals at these fractions: run `{LOSS_DECREASE.command}`"
        )
    rows = [{key: _finite(value) for key, value in vars(place).items()} for place in tried]
    files = grouped(tried, lambda place: place.file)
    where = "; ".join(
        f"{file}, {_ranges(lower, places)} pruned"
        for file, places in files.items()
        if (lower := [place for place in places if place.lower])
    )
    evidence = ". ".join(_in_file(file, places, name) for file, places in files.items())
    return tested(holds, where, evidence, places=rows)


def _ranges(some: Sequence[Place], tried: Sequence[Place]) -> str:
    return ranges([place.fraction for place in some], [place.fraction for place in tried])


def _in_file(file: str, tried: Sequence[Place], name: str) -> str:
    """Where the criterion is lower, where it is not, and the first place where it is not."""
    lower = [place for place in tried if place.lower]
    mean_alone = [place for place in tried if place.lower_mean and not place.lower]
    higher = [place for place in tried if not place.lower_mean]
    words = [f"lower at {_ranges(lower, tried)}"] if lower else []
    if mean_alone:
        words.append(f"on the mean, but not in each seed, at {_ranges(mean_alone, tried)}")
    if higher:
        words.append(f"not lower at {_ranges(higher, tried)} ({_told(higher[0], name)})")
    seeds = joined([counted(number, "seed") for number in sorted({p.seeds for p in tried})])
    return f"{file}, {seeds}: {'; '.join(words)}"


def _told(place: Place, name: str) -> str:
    at = f"at {exact_percent(place.fraction)}"
    if abs(place.mine - place.theirs) <= RESOLUTION:
        return f"{at} {name} and {place.rival} alike, {rounded(place.mine)}"
    return f"{at} {name} {rounded(place.mine)}, {place.rival} {rounded(place.theirs)}"


def _finite(value: object) -> object:
    """JSON has no infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _paper(name: str, field: str, what: str) -> EmpiricalClaim:
    return EmpiricalClaim(
        id=f"one-shot-{name}-{PLACES[field]}",
        statement=f"{what[0].upper()}{what[1:]} ({name}) lowers the loss more than "
        f"{joined(PAPERS_RIVALS)}.",
        scope=f"one decision after one SGD step, measured {WHERE[field]}",
        rule=f"Holds at the fractions at which its measured change is lower ({LOWER}); does not "
        "hold if it is at none.",
        source=PAPER,
        reads=LOSS_DECREASE,
        decide=lambda found: somewhere(found, name, PAPERS_RIVALS, field),
    )


def _ours(field: str) -> EmpiricalClaim:
    low, high = map(exact_percent, RANGE)
    return EmpiricalClaim(
        id=f"one-shot-trust-region-{PLACES[field]}",
        statement="trust-region has the lowest measured loss of all criteria at every fraction "
        f"from {low} to {high}.",
        scope=f"one decision after one SGD step, measured {WHERE[field]}",
        rule=f"Holds if its measured change is lower at every fraction tried ({LOWER}); does not "
        "hold if there is one at which it is not.",
        source=OURS,
        reads=LOSS_DECREASE,
        decide=lambda found: everywhere(found, "trust-region", field),
    )


CLAIMS = (
    *(_paper("pins", field, "the signed optimum") for field in WHERE),
    *(_paper("abs-pins", field, "the score of the authors' released code") for field in WHERE),
    *(_ours(field) for field in WHERE),
)
