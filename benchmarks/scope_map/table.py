"""The tables of the scope map: lowest loss at each point, largest fraction of each criterion."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, starmap
from typing import Any

from benchmarks.harness import markdown
from benchmarks.harness.markdown import measured_with
from verification.experiments import seed_comparison
from verification.experiments.loss_change import STEP_ALONE, Row
from verification.experiments.seed_comparison import FIELDS, RIVALS, Crossover, Winner
from verification.experiments.student_interval import CONFIDENCE, Interval, interval
from verification.formatting import exact_percent, signed

Points = Mapping[tuple[float, int], list[Row]]

REACHES = (
    "More than the step alone does, by the mean over seeds; in brackets the largest fraction at "
    "which the interval of the difference leaves out 0, too (– where it does at none, or there is "
    "one seed). Fractions are those tried; *not at* names smaller ones at which it does not."
)
WINNERS = (
    "Lowest by the mean over seeds, with the change of the loss. Bold: the "
    f"{CONFIDENCE:.0%} interval of second best − best, paired by seed, Student's t, leaves out 0. "
    "Not told from it: the criteria whose interval holds 0, by these seeds. The best is chosen on "
    "the seeds it is compared on, and nothing is corrected for the number of places looked at."
)


def table(document: Mapping[str, Any]) -> str:
    """The results as Markdown: the map, how far each criterion reaches, the comparisons."""
    settings, rows = document["settings"], document["rows"]
    points = seed_comparison.by_point(rows)

    def titled(title: str, of: Callable[[Points, str], list[str]]) -> Iterator[str | list[str]]:
        for field, where in FIELDS.items():
            yield f"## {title} on {where}"
            yield of(points, field)

    return markdown.document(
        f"# Scope of the criteria: {settings['task']}",
        f"What one pruning decision does to the loss of {settings['model']}, fine-tuned with AdamW "
        f"at a constant learning rate for so many steps of {settings['batch']} rows, at most "
        f"{settings['max_length']} tokens each. Before the mask an SGD step of learning rate "
        f"{settings['step_learning_rate']:g} is taken, the same for every criterion. "
        f"Measured on the {settings['rows']} rows of the gradient and on as many unseen rows; "
        f"curvature of {settings['fisher_rows']} of the former; trust-region rehearses on as many "
        f"training rows again. {_seeds(rows)}.",
        _confidence(points),
        *titled("The criterion with the lowest loss", _map),
        *titled("The largest fraction at which a criterion lowers the loss", _reaches),
        REACHES,
        *chain.from_iterable(starmap(_point, points.items())),
        measured_with(document["provenance"]),
    )


def _confidence(points: Points) -> list[str]:
    """How to read the tables, by the number of seeds at each point."""
    counts = [len({row["seed"] for row in rows}) for rows in points.values()]
    if max(counts) < 2:
        return ["One seed: no interval can be given; lowest is what was lowest this once."]
    fewer = "Some points have fewer seeds than others: their sections say which."
    return [WINNERS, "", fewer] if min(counts) < max(counts) else [WINNERS]


def _map(points: Points, field: str) -> list[str]:
    """A row for each fraction, a column for each point of fine-tuning: the winner."""
    columns = [
        {w.fraction: w for w in seed_comparison.winners(rows, field)} for rows in points.values()
    ]
    return markdown.table(
        _head("pruned", points),
        "rl",
        (
            f"{exact_percent(fraction)} | "
            + " | ".join(f"{_name(c[fraction])} {signed(c[fraction].change.mean)}" for c in columns)
            for fraction in sorted({fraction for column in columns for fraction in column})
        ),
    )


def _reaches(points: Points, field: str) -> list[str]:
    """A row for each criterion, a column for each point: the largest fraction that helps."""
    columns = [seed_comparison.crossover(rows, field) for rows in points.values()]
    found = {name: [column[name] for column in columns] for name in columns[0]}
    found[f"pins more than {' and '.join(RIVALS)}"] = [
        seed_comparison.reach(rows, field, "pins", RIVALS) for rows in points.values()
    ]
    return markdown.table(
        _head("criterion", points),
        "rl",
        (f"{name} | {' | '.join(map(_crossover, each))}" for name, each in found.items()),
    )


def _head(first: str, points: Points) -> str:
    return " | ".join([first, *(f"{rate:g}, {progress} steps" for rate, progress in points)])


def _point(at: tuple[float, int], rows: Sequence[Row]) -> tuple[str, str, list[str]]:
    """The section of a point: losses before, and comparisons, on unseen rows and the gradient's."""
    before = {row["seed"]: (row["loss_unseen"], row["loss"]) for row in rows}
    alone = [
        interval(seed_comparison.changes(rows, field)[0.0][STEP_ALONE].values()) for field in FIELDS
    ]
    columns = " | ".join(
        f"{where} | change | second best − best | not told from it" for where in FIELDS.values()
    )
    said = (
        f"{_seeds(rows)}. Loss on unseen rows / on the gradient's: "
        + ", ".join(f"{unseen:.3f} / {loss:.3f}" for unseen, loss in before.values())
        + f". The step alone: {_interval(alone[0])} / {_interval(alone[1])}."
    )
    pairs = zip(*(seed_comparison.winners(rows, field) for field in FIELDS), strict=True)
    lines = (
        f"{exact_percent(pair[0].fraction)} | {' | '.join(map(_cells, pair))}" for pair in pairs
    )
    title = f"## Learning rate {at[0]:g}, after {at[1]} steps"
    return title, said, markdown.table(f"pruned | {columns}", "rlrlllrll", lines)


def _name(winner: Winner) -> str:
    return f"**{winner.criterion}**" if winner.confident else winner.criterion


def _cells(winner: Winner) -> str:
    """Winner, change, second best − best, and criteria that may be as good as the winner."""
    margin, near = "–", "–"
    if winner.second is not None:
        margin = f"{winner.second} {_interval(winner.margins[winner.second])}"
    if winner.change.half_width is not None:
        near = ", ".join(winner.near) or "none"
    return f"{_name(winner)} | {_interval(winner.change)} | {margin} | {near}"


def _interval(found: Interval) -> str:
    width = found.half_width
    return signed(found.mean) + ("" if width is None else f" ± {signed(width).lstrip('+')}")


def _crossover(found: Crossover) -> str:
    if found.largest is None:
        return "none"
    confident = "–" if found.confident is None else exact_percent(found.confident)
    gaps = f", not at {', '.join(map(exact_percent, found.gaps))}" if found.gaps else ""
    return f"{exact_percent(found.largest)} ({confident}){gaps}"


def _seeds(rows: Sequence[Row]) -> str:
    numbers = sorted({row["seed"] for row in rows})
    return f"Seed{'s' * (len(numbers) != 1)} {numbers}"
