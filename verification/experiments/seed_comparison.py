"""At which fractions a criterion lowers the real loss, and which criterion lowers it most.

All results are computed from the rows of one point of training
(`verification.experiments.loss_change`), of one or several seeds, at the fractions that were tried;
nothing is interpolated. Criteria are compared seed
by seed, on the same weights and the same rows, by the 95 % interval of Student of the mean
difference (`student_interval`), which assumes differences that are normal over seeds. The best of
many criteria is chosen on the seeds on which it is compared, and nothing corrects for the number of
places: some intervals exclude 0 by chance.
"""

import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pins.errors import FileError
from verification.experiments.loss_change import STEP_ALONE, Row
from verification.experiments.student_interval import Interval, Sign, interval

# field of a row → the rows of the task on which the change was measured
FIELDS: Mapping[str, str] = {"measured_unseen": "unseen rows", "measured": "the gradient's rows"}
RIVALS = ("magnitude", "sensitivity")  # the paper claims that pins lowers the loss more than these

BySeed = Mapping[int, float]
"""Seed → change of the loss."""


@dataclass(frozen=True)
class Winner:
    """The criterion with the lowest mean change at one fraction; among equals the first listed.

    Attributes:
        fraction: of the weights that were pruned.
        criterion: the winner.
        change: change of the loss under the winner.
        margins: change under each other criterion − change, the second best first.
    """

    fraction: float
    criterion: str
    change: Interval
    margins: Mapping[str, Interval]

    @property
    def second(self) -> str | None:
        """The second best; None if there is one criterion."""
        return next(iter(self.margins), None)

    @property
    def confident(self) -> bool:
        """The interval of second best − best lies above 0."""
        return self.second is not None and self.second not in self.near

    @property
    def near(self) -> tuple[str, ...]:
        """The criteria whose margin is not above 0: these seeds do not separate them."""
        return tuple(n for n, margin in self.margins.items() if margin.sign is not Sign.ABOVE)


@dataclass(frozen=True)
class Crossover:
    """Up to which fraction a criterion's change is lower than its references.

    Attributes:
        largest: the largest fraction tried at which its mean is lower; None if there is none.
        confident: the largest at which the intervals of all differences are above 0 as well.
        gaps: fractions tried below `largest` at which its mean is not lower.
    """

    largest: float | None
    confident: float | None
    gaps: tuple[float, ...]


def changes(rows: Sequence[Row], field: str) -> dict[float, dict[str, dict[int, float]]]:
    """Fraction, ascending → criterion → seed → change of the loss; the step alone has fraction 0.

    Args:
        rows: of one point of training; rows without a seed have seed 0.
        field: of `FIELDS`.

    Raises:
        FileError: the criteria were not all measured on the same seeds.
    """
    found: dict[float, dict[str, dict[int, float]]] = {}
    for row in sorted(rows, key=lambda row: row["fraction"]):
        cell = found.setdefault(row["fraction"], {}).setdefault(row["criterion"], {})
        cell[row.get("seed", 0)] = row[field]
    seeds = {row.get("seed", 0) for row in rows}
    for fraction, cells in found.items():
        for name, cell in cells.items():
            if cell.keys() != seeds:
                raise FileError(
                    f"{name} at fraction {fraction} has rows of the seeds {sorted(cell)}, others "
                    f"have {sorted(seeds)}: measure them again"
                )
    return found


def winners(rows: Sequence[Row], field: str) -> list[Winner]:
    """The winner at each fraction, ascending, among all criteria in the rows.

    Raises:
        FileError: as `changes`.
    """
    found = []
    for fraction, cells in changes(rows, field).items():
        if fraction > 0:
            best, *others = sorted(cells, key=lambda name: statistics.fmean(cells[name].values()))
            margins = {name: _difference(cells[name], cells[best]) for name in others}
            found.append(Winner(fraction, best, interval(cells[best].values()), margins))
    return found


def crossover(rows: Sequence[Row], field: str) -> dict[str, Crossover]:
    """By criterion: up to which fraction it lowers the loss more than the step alone does.

    Raises:
        FileError: as `changes`, or the step alone was not measured.
    """
    names = dict.fromkeys(row["criterion"] for row in rows if row["fraction"] > 0)
    return {name: reach(rows, field, name, (STEP_ALONE,)) for name in names}


def reach(rows: Sequence[Row], field: str, name: str, references: Collection[str]) -> Crossover:
    """Up to which fraction a criterion lowers the loss more than each of the references.

    Args:
        rows: of one point of training.
        field: of `FIELDS`.
        name: of the criterion.
        references: other criteria at the same fraction, or the step alone.

    Raises:
        FileError: as `changes`, or a criterion was not measured.
    """
    measured = changes(rows, field)
    gains = {
        fraction: [
            _difference(_cell(measured, other, fraction), _cell(measured, name, fraction))
            for other in references
        ]
        for fraction in measured
        if fraction > 0
    }
    lower = [f for f, each in gains.items() if all(gain.mean > 0 for gain in each)]
    confident = [f for f in lower if all(gain.sign is Sign.ABOVE for gain in gains[f])]
    largest = max(lower, default=None)
    gaps = tuple(f for f in gains if largest is not None and f < largest and f not in lower)
    return Crossover(largest, max(confident, default=None), gaps)


def by_point(rows: Sequence[Row]) -> dict[tuple[float, int], list[Row]]:
    """(Learning rate, steps of fine-tuning), ascending → the rows measured there."""
    found: dict[tuple[float, int], list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row["learning_rate"], row["progress"])):
        found.setdefault((row["learning_rate"], row["progress"]), []).append(row)
    return found


def _difference(above: BySeed, below: BySeed) -> Interval:
    return interval([above[seed] - below[seed] for seed in below])


def _cell(measured: Mapping[float, Mapping[str, BySeed]], name: str, fraction: float) -> BySeed:
    """The changes of a criterion at a fraction; the step alone is at fraction 0."""
    cells = measured.get(0.0 if name == STEP_ALONE else fraction, {})
    if name not in cells:
        raise FileError(f"there are no rows of {name} to compare at fraction {fraction}")
    return cells[name]
