"""The tables of the scope map: lowest loss at each point, largest fraction of each criterion."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.harness import markdown
from benchmarks.harness.markdown import measured_with
from verification.experiments.loss_change import STEP_ALONE, Row
from verification.experiments.seed_comparison import (
    FIELDS,
    RIVALS,
    Crossover,
    Winner,
    by_point,
    changes,
    crossover,
    reach,
    winners,
)
from verification.experiments.student_interval import CONFIDENCE, Interval, interval
from verification.formatting import signed

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
    points = by_point(rows)
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
        *(
            block
            for field, where in FIELDS.items()
            for block in (
                f"## The criterion with the lowest loss on {where}",
                _map(points, field),
            )
        ),
        *(
            block
            for field, where in FIELDS.items()
            for block in (
                f"## The largest fraction at which a criterion lowers the loss on {where}",
                _reaches(points, field),
            )
        ),
        REACHES,
        *(
            block
            for (learning_rate, progress), measured in points.items()
            for block in (
                f"## Learning rate {learning_rate:g}, after {progress} steps",
                *_point(measured),
            )
        ),
        measured_with(document["provenance"]),
    )


def _confidence(points: Points) -> list[str]:
    """How to read the tables, by the number of seeds at each point."""
    seeds = [len({row["seed"] for row in rows}) for rows in points.values()]
    lines = [WINNERS]
    if max(seeds) < 2:
        lines = ["One seed: no interval can be given; lowest is what was lowest this once."]
    elif min(seeds) < max(seeds):
        lines += ["", "Some points have fewer seeds than others: their sections say which."]
    return lines


def _map(points: Points, field: str) -> list[str]:
    """Fractions down, points of fine-tuning across: the winner of each."""
    columns = [{w.fraction: w for w in winners(rows, field)} for rows in points.values()]
    return markdown.table(
        _head("pruned", points),
        "rl",
        (
            f"{_percent(fraction)} | "
            + " | ".join(f"{_name(c[fraction])} {signed(c[fraction].change.mean)}" for c in columns)
            for fraction in sorted({fraction for column in columns for fraction in column})
        ),
    )


def _reaches(points: Points, field: str) -> list[str]:
    """Criteria down, points of fine-tuning across: the largest fraction that lowers the loss."""
    columns = [crossover(rows, field) for rows in points.values()]
    found = {name: [column[name] for column in columns] for name in columns[0]}
    found[f"pins more than {' and '.join(RIVALS)}"] = [
        reach(rows, field, "pins", RIVALS) for rows in points.values()
    ]
    return markdown.table(
        _head("criterion", points),
        "rl",
        (f"{name} | {' | '.join(map(_crossover, each))}" for name, each in found.items()),
    )


def _head(first: str, points: Points) -> str:
    return " | ".join([first, *(f"{rate:g}, {progress} steps" for rate, progress in points)])


def _point(rows: Sequence[Row]) -> tuple[str, list[str]]:
    """Losses before, and the comparisons of one point, on unseen rows and on the gradient's."""
    before = {row["seed"]: (row["loss_unseen"], row["loss"]) for row in rows}
    alone = [interval(changes(rows, field)[0.0][STEP_ALONE].values()) for field in FIELDS]
    columns = " | ".join(
        f"{where} | change | second best − best | not told from it" for where in FIELDS.values()
    )
    said = (
        f"{_seeds(rows)}. Loss on unseen rows / on the gradient's: "
        + ", ".join(f"{unseen:.3f} / {loss:.3f}" for unseen, loss in before.values())
        + f". The step alone: {_interval(alone[0])} / {_interval(alone[1])}."
    )
    pairs = zip(*(winners(rows, field) for field in FIELDS), strict=True)
    lines = (f"{_percent(pair[0].fraction)} | {' | '.join(map(_cells, pair))}" for pair in pairs)
    return said, markdown.table(f"pruned | {columns}", "rlrlllrll", lines)


def _name(winner: Winner) -> str:
    return f"**{winner.criterion}**" if winner.confident else winner.criterion


def _cells(winner: Winner) -> str:
    """Winner, change, second best − best, and criteria that are not told from the winner."""
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
    confident = "–" if found.confident is None else _percent(found.confident)
    gaps = f", not at {', '.join(map(_percent, found.gaps))}" if found.gaps else ""
    return f"{_percent(found.largest)} ({confident}){gaps}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:g} %"


def _seeds(rows: Sequence[Row]) -> str:
    seeds = sorted({row["seed"] for row in rows})
    return f"Seed{'s' * (len(seeds) != 1)} {seeds}"
