"""Scope: at which fractions a criterion lowers the real loss, and which one lowers it most.

Read off the rows of one point of training (`verification.experiments.loss_change`), of one seed or
several. Fractions are those that were tried; nothing is interpolated. Criteria are compared seed by
seed, on the same weights and the same rows, and the mean d̄ of a difference has the 95 % interval
of Student

    d̄ ± t · s/√n      n seeds, s the sample standard deviation, t the 0.975 quantile for n−1

which supposes differences that are normal over seeds. One seed has no interval. The best of many is
chosen on the seeds that it is compared on, and nothing is corrected for how many places are looked
at: some intervals that leave out 0 do so by chance.
"""

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

from pins.errors import FileError
from verification.experiments.loss_change import STEP_ALONE, Row

# the measured change that a row holds → on which rows of the task
FIELDS: Mapping[str, str] = {"measured_unseen": "unseen rows", "measured": "the gradient's rows"}
CONFIDENCE = 0.95
RIVALS = ("magnitude", "sensitivity")  # below which the paper claims that pins lowers the loss

BySeed = Mapping[int, float]  # seed → change of the loss


@dataclass(frozen=True)
class Interval:
    """mean ± half_width; of one value the width is None."""

    mean: float
    half_width: float | None

    @property
    def positive(self) -> bool:
        """All of it lies above 0."""
        return self.half_width is not None and self.mean > self.half_width


def interval(values: Collection[float]) -> Interval:
    """Student's confidence interval of the mean of these values, one at least."""
    number, mean = len(values), statistics.fmean(values)
    if number < 2:
        return Interval(mean, None)
    quantile = float(stdtrit(number - 1, (1 + CONFIDENCE) / 2))
    return Interval(mean, quantile * statistics.stdev(values) / math.sqrt(number))


@dataclass(frozen=True)
class Winner:
    """The criterion with the lowest mean change at one fraction; of equals the one listed first.

    Attributes:
        fraction: of the weights that were pruned.
        criterion: the winner.
        change: of the loss, under the winner.
        margins: by how much each of the others lies above it, seed by seed, the second best first.
    """

    fraction: float
    criterion: str
    change: Interval
    margins: Mapping[str, Interval]

    @property
    def second(self) -> str | None:
        """The second best; None where there is one criterion alone."""
        return next(iter(self.margins), None)

    @property
    def confident(self) -> bool:
        """The interval of second best − best lies above 0."""
        return self.second is not None and self.margins[self.second].positive

    @property
    def near(self) -> tuple[str, ...]:
        """The criteria that these seeds do not tell from the winner: their intervals hold 0."""
        return tuple(name for name, margin in self.margins.items() if not margin.positive)


@dataclass(frozen=True)
class Crossover:
    """Up to which fraction a change lies below those it is compared with.

    Attributes:
        largest: the largest fraction tried at which its mean does; None: it does at none.
        confident: the largest at which the intervals of all differences do, too.
        gaps: fractions tried below `largest` at which its mean does not.
    """

    largest: float | None
    confident: float | None
    gaps: tuple[float, ...]


def changes(rows: Sequence[Row], field: str) -> dict[float, dict[str, dict[int, float]]]:
    """Fraction, ascending → criterion → seed → change of the loss; the step alone has fraction 0.

    Args:
        rows: of one point of training; without a seed they are of one.
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
    """The winner at each fraction, ascending, among all criteria that rows were pruned by.

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
    """Up to which fraction one criterion lowers the loss more than each of the references does.

    Args:
        rows: of one point of training.
        field: of `FIELDS`.
        name: of the criterion.
        references: criteria, each compared at the same fraction, or the step alone.

    Raises:
        FileError: as `changes`, or one of them was not measured.
    """
    measured = changes(rows, field)
    lower, confident, tried = [], [], []
    for fraction in measured:
        if fraction > 0:
            own = _cell(measured, name, fraction)
            gains = [_difference(_cell(measured, other, fraction), own) for other in references]
            tried.append(fraction)
            if all(gain.mean > 0 for gain in gains):
                lower.append(fraction)
                if all(gain.positive for gain in gains):
                    confident.append(fraction)
    largest = max(lower, default=None)
    gaps = tuple(f for f in tried if largest is not None and f < largest and f not in lower)
    return Crossover(largest, max(confident, default=None), gaps)


def by_point(rows: Sequence[Row]) -> dict[tuple[float, int], list[Row]]:
    """(Learning rate, steps of fine-tuning), ascending → the rows that were measured there."""
    found: dict[tuple[float, int], list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row["learning_rate"], row["progress"])):
        found.setdefault((row["learning_rate"], row["progress"]), []).append(row)
    return found


def _difference(above: BySeed, below: BySeed) -> Interval:
    return interval([above[seed] - below[seed] for seed in below])


def _cell(measured: Mapping[float, Mapping[str, BySeed]], name: str, fraction: float) -> BySeed:
    """The changes of one criterion at a fraction, or those of the step alone, which has none."""
    cells = measured.get(0.0 if name == STEP_ALONE else fraction, {})
    if name not in cells:
        raise FileError(f"there are no rows of {name} to compare at fraction {fraction}")
    return cells[name]
