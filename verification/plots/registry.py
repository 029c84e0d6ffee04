"""The figures of `pins plot`.

To add one: a function in `verification/plots/` that draws it from plain data, a row in DRAWN, and
its title, source and caption in captions.toml.
"""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from pins.errors import FileError, OptimalityError, SettingError
from pins.importance.criterion import Criterion
from pins.pruning.schedules import sparsity_from
from pins.selection.constraints import keep_count
from pins.utils.lookup import find
from verification.experiments.criterion_overlap import (
    criteria_of,
    overlaps,
    regrets,
    spread_weights,
)
from verification.experiments.multiplier_path import FRACTION
from verification.experiments.run_reader import RunData
from verification.plots import (
    criteria,
    losses,
    one_shot_perplexity,
    programs,
    runs,
    scope_map,
    solver_times,
)
from verification.plots.plane_data import plane_of

CAPTIONS = Path(__file__).with_name("captions.toml")
TRUSTED = 0.001  # share of the weights in one decision beyond which a first-order model is wrong
OVERLAP_SPARSITY = 0.5  # near 0 and 1 all masks are nearly the same
DEMO, PRUNE = "pins demo", "pins prune"
SCOPE_MAP, SOLVERS = "python -m benchmarks.scope_map", "python -m benchmarks.solvers"
ONE_SHOT = "python -m benchmarks.oneshot"


@dataclass(frozen=True)
class Entry:
    """One figure.

    Attributes:
        title: what it shows.
        source: the commands whose folders hold its data.
        caption: what to see, and when it would look different.
        draw: draws it from a run.
    """

    title: str
    source: str
    caption: str
    draw: Callable[[RunData], Figure]


def _require(known: object, run: RunData, holds: str) -> None:
    """Refuse a run from whose numbers the figure cannot be drawn."""
    if not known:
        raise FileError(f"{run.folder} holds {holds}")


def _criteria(run: RunData) -> dict[str, Criterion]:
    """The criteria that can rank the run's sample; only a demo knows the loss at its sample."""
    loss = float(run.document["compared"]["loss"]) if run.is_demo else None
    return criteria_of(run.sample, loss)


def _sorted_scores(run: RunData) -> Figure:
    try:
        return runs.sorted_scores(run.curve)
    except OptimalityError as error:
        raise FileError(
            f"{run.folder} holds a mask that no single threshold decides, as with minimums or "
            f"scope tensor ({error})"
        ) from error


def _regret(run: RunData) -> Figure:
    nonzero = any(scores.any() for scores in run.sample.importance("pins").values())
    _require(nonzero, run, "a sample whose scores are all 0: every mask is optimal")
    return criteria.regret_against_sparsity(regrets(run.sample, _criteria(run)))


def _overlap(run: RunData) -> Figure:
    shares = overlaps(run.sample, _criteria(run), OVERLAP_SPARSITY)
    return criteria.overlap(shares, OVERLAP_SPARSITY)


def _plane(run: RunData) -> Figure:
    known = _criteria(run)
    known.pop("movement", None)  # it differs from pins by ηg² alone, which nobody can see
    keep = keep_count(OVERLAP_SPARSITY, run.sample.total)
    return criteria.plane(**plane_of(run.sample, known, keep))


def _predicted(run: RunData) -> Figure:
    if run.is_demo:
        return losses.predicted_against_measured(run.field("loss_changes", DEMO))
    measured = "predicted" in run.decisions[0]
    _require(measured, run, "decisions whose change of the loss was not measured")
    return runs.measured_decisions(run.decisions)


def _path(run: RunData) -> Figure:
    points, loss = run.field("multiplier_path", DEMO), run.document["compared"]["loss"]
    _require(len(points) > 2, run, f"a path with no point between its ends: the loss is {loss:g}")
    return losses.multiplier_path(points, FRACTION, loss)


def _taylor(run: RunData) -> Figure:
    claims = {claim["id"]: claim for claim in run.field("ledger", DEMO)["claims"]}
    wrong = claims["taylor-first-order"]["control"]["numbers"]
    tests = claims["taylor-second-order"]["check"]["numbers"]
    larger = (max(row) > test["rounding"] for test in tests.values() for row in test["remainders"])
    _require(all(larger), run, "Taylor remainders that are rounding alone")
    return losses.taylor_remainders(tests, wrong[next(iter(tests))])


def _schedule(run: RunData) -> Figure:
    steps = range(run.steps + 1)
    planned = [float(sparsity_from(run.schedule, run.start, step)) for step in steps]
    return runs.schedule(planned, run.decisions, TRUSTED)


def _self_regularization(run: RunData) -> Figure:
    evaluations = run.field("evaluations", PRUNE)
    return runs.self_regularization(evaluations, run.document["metric"], run.decisions)


def _one_shot(run: RunData) -> Figure:
    document = run.rows("oneshot-perplexity.json", ONE_SHOT)
    return one_shot_perplexity(document["rows"], document["dense"])


def _solver_times(run: RunData) -> Figure:
    document = run.rows("solvers.json", SOLVERS)
    return solver_times(document["rows"], document["settings"]["time_limit"])


DRAWN: Mapping[str, Callable[[RunData], Figure]] = {
    "polytope": lambda run: programs.polytope(spread_weights(run.sample, 3), 2),
    "dual-function": lambda run: programs.dual_function(spread_weights(run.sample, 12), 5),
    "sorted-scores": _sorted_scores,
    "regret": _regret,
    "overlap": _overlap,
    "plane": _plane,
    "loss-change": lambda run: losses.loss_change(run.field("loss_changes", DEMO)),
    "predicted-measured": _predicted,
    "multiplier-path": _path,
    "taylor": _taylor,
    "one-shot-perplexity": _one_shot,
    "scope-map": lambda run: scope_map(run.rows("scope_map-*.json", SCOPE_MAP)["rows"]),
    "layer-sparsity": lambda run: runs.sparsity_over_training(run.counted, run.tensors, run.kinds),
    "schedule": _schedule,
    "survival": lambda run: runs.survival(run.counted),
    "self-regularisation": _self_regularization,
    "solver-times": _solver_times,
    "unscaled": lambda run: programs.unscaled(run.field("solver_answers", DEMO)),
}


def _entries() -> dict[str, Entry]:
    """The figures with their words; a line break in a caption is a blank."""
    words = tomllib.loads(CAPTIONS.read_text(encoding="utf-8"))

    def said(name: str) -> dict[str, str]:
        return {field: " ".join(text.split()) for field, text in words[name].items()}

    return {name: Entry(draw=draw, **said(name)) for name, draw in DRAWN.items()}


FIGURES: Mapping[str, Entry] = _entries()


def find_figure(name: str) -> Entry:
    """The figure of that name.

    Raises:
        SettingError: there is no such figure; the message lists all names.
    """
    return find(FIGURES, name, "figure", SettingError)
