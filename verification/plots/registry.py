"""The figures of `pins plot`: the name, the source and the caption of each.

To add one: a function in `verification/plots/` that draws it from plain data, and a row in FIGURES.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from matplotlib.figure import Figure

from pins.errors import SettingError
from pins.importance.criterion import Criterion
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
from verification.plots import criteria, losses, programs, runs, scope_map, solver_times
from verification.plots.plane_data import plane_of

TRUSTED = 0.001  # of the weights in one decision: a first-order model is wrong beyond it
OVERLAP_SPARSITY = 0.5  # near 0 and 1 all masks are nearly the same


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


RUNS = "pins demo, pins prune"
DEMO = "pins demo"
PRUNE = "pins prune"
SCOPE_MAP = "python -m benchmarks.scope_map"
SOLVERS = "python -m benchmarks.solvers"


def _criteria(run: RunData) -> dict[str, Criterion]:
    """The criteria that the run's sample can rank by; only of a demo is the loss there known."""
    loss = float(run.document["compared"]["loss"]) if run.is_demo else None
    return criteria_of(run.sample, loss)


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
    return runs.measured_decisions(run.decisions)


def _path(run: RunData) -> Figure:
    points = run.field("multiplier_path", DEMO)
    return losses.multiplier_path(points, FRACTION, run.document["compared"]["loss"])


def _taylor(run: RunData) -> Figure:
    claims = {claim["id"]: claim for claim in run.field("ledger", DEMO)["claims"]}
    wrong = claims["taylor-first-order"]["control"]["numbers"]
    tests = claims["taylor-second-order"]["check"]["numbers"]
    return losses.taylor_remainders(tests, wrong[next(iter(tests))])


def _schedule(run: RunData) -> Figure:
    planned = [float(run.schedule.sparsity(step)) for step in range(run.steps + 1)]
    return runs.schedule(planned, run.decisions, TRUSTED)


def _self_regularization(run: RunData) -> Figure:
    evaluations = run.field("evaluations", PRUNE)
    return runs.self_regularization(evaluations, run.document["metric"], run.decisions)


def _solver_times(run: RunData) -> Figure:
    document = run.rows("solvers.json", SOLVERS)
    return solver_times(document["rows"], document["settings"]["time_limit"])


FIGURES: Mapping[str, Entry] = {
    "polytope": Entry(
        "The polytope of masks, its objective and its optimal vertex",
        RUNS,
        "Three real weights, of which two are to be kept. The masks that the relaxation allows, {m "
        "∈ [0,1]³ : Σm = 2}, are the shaded triangle that the plane Σm = 2 cuts out of the cube. "
        "Its corners are 0-1 masks, so a linear objective, whose level lines are drawn, has an "
        "optimum that is a mask, and rounding is never needed. With a second row, such as the "
        "radius of a trust region, the plane of that row would cut the triangle, and a corner "
        "could lie on an edge, with two weights kept in part.",
        lambda run: programs.polytope(spread_weights(run.sample, 3), 2),
    ),
    "dual-function": Entry(
        "The dual function and its flat interval",
        RUNS,
        "D(λ) = kλ + Σ max(0, sᵢ − λ) of twelve real scores is an upper bound of s·m for every "
        "mask with k ones, whatever λ is. Its slope is k less the number of scores above λ: it "
        "falls while too many are, rises when too few are, and is flat between the k-th and the "
        "next score. There it touches the primal value, so each λ of the interval is a proof. If "
        "those two scores tied, the interval would be a single point and the optimum not the only "
        "one; if the dashed line lay below the curve, the mask would not be optimal.",
        lambda run: programs.dual_function(spread_weights(run.sample, 12), 5),
    ),
    "sorted-scores": Entry(
        "Sorted scores, threshold and ties",
        RUNS,
        "Left: the scores that the last decision of the run ranked, in descending order. What is "
        "left of the boundary is kept; λ is the height at which the curve crosses it. Right: the "
        "scores next to the boundary. Where several equal λ they are marked, and the lower index "
        "is kept. In float32 a tie at the threshold of a trained model is rare; in 16 bits, or "
        "where k reaches into weights whose scores are all zero, the curve is flat there and λ is "
        "met by thousands.",
        lambda run: runs.sorted_scores(run.curve),
    ),
    "regret": Entry(
        "Regret of each criterion against sparsity",
        RUNS,
        "What the mask of each criterion falls short of the optimum under the scores of PINS. The "
        "broad line is what the LP relaxation bounds it by without knowing the optimum; it "
        "coincides with the exact regret, since the relaxation has a 0-1 optimum. The regret of "
        "`pins` is 0 by construction and near 0 for `movement`. The regret of the others is "
        "largest where they have most to choose, and 0 at both ends, where all masks are nearly "
        "the same. A gap between line and marker would mean a row that is not totally unimodular, "
        "or a solver that was not exact. Regret is measured under the linear model: it is no "
        "defect of a criterion that does not use that model.",
        lambda run: criteria.regret_against_sparsity(regrets(run.sample, _criteria(run))),
    ),
    "overlap": Entry(
        "Overlap of the criteria's masks",
        RUNS,
        "Of the weights that either of two criteria prunes, the share that both do, in per cent. "
        "Two random masks of half the weights would share a third. Criteria that take the sign of "
        "the gradient into account agree with one another, and so do those that take sizes alone; "
        "across the two families little more is shared than by chance. After pruning, when most "
        "weights are zero and rank alike, all of them would agree.",
        _overlap,
    ),
    "plane": Entry(
        "Weights and gradients, and where each criterion cuts",
        RUNS,
        "Real weights in the plane of θ and g at 50 % sparsity, kept or pruned, and the boundary s "
        "= λ of each criterion. Magnitude cuts at two values of θ and ignores g. Sensitivity and "
        "abs-PINS keep the outer corners: hyperbolas |gθ| = λ. PINS keeps two opposite quadrants, "
        "those in which removing a weight would raise the loss to first order, and prunes the "
        "other two: size alone says nothing there. Optimal brain damage depends on the curvature "
        "of each weight, so its boundary is drawn at the quartiles of h; the trust region moves "
        "from it towards the quadrants of PINS, as far as its radius allows. With a learning rate "
        "that is not small the boundary of PINS would bend, by ηg².",
        _plane,
    ),
    "loss-change": Entry(
        "Change of the loss by one decision",
        DEMO,
        "Each criterion prunes a fraction of the weights at once, from the same dense weights. The "
        "dashed line is what the linear model predicts for its own optimum. It is right for the "
        "smallest fractions; then the measured loss of `pins` rises, while the prediction keeps "
        "falling below what any loss can reach. Magnitude, sensitivity and optimal brain damage "
        "predict no decrease and cost little up to larger fractions. `movement` lies on `pins`: "
        "they differ by the small step alone. If the loss were linear, the dashed line and its "
        "solid twin would coincide.",
        lambda run: losses.loss_change(run.field("loss_changes", DEMO)),
    ),
    "predicted-measured": Entry(
        "Predicted against measured change of the loss",
        RUNS,
        "Every decision as a point. On the diagonal the first-order model is right; above it the "
        "loss rose more, or fell less, than predicted. Points leave the diagonal where much is "
        "pruned at once, always upwards: the loss is curved upwards and bounded below. Of a run of "
        "`pins prune` the decisions are shown in the order of training instead, with the ratio of "
        "the two. A point far below the diagonal would say that the gradient was wrong.",
        _predicted,
    ),
    "multiplier-path": Entry(
        "The path from optimal brain damage to PINS",
        DEMO,
        "One decision for each multiplier μ, from μ = 0, which ranks by curvature alone, to μ → ∞, "
        "which ranks by the linear model alone. The prediction falls along the whole path, below "
        "what a loss can reach. On the rows of the gradient the measured loss first falls too, "
        "passes a minimum, and then rises far above its start. On unseen rows the minimum is "
        "shallower, or missing: what the gradient of some rows predicts is partly their noise. The "
        "dotted line is the μ that promises half of the loss, where a trust region of PINS starts "
        "from. On a linear loss both lines would follow the dashed one.",
        _path,
    ),
    "taylor": Entry(
        "Taylor remainders and their slopes",
        DEMO,
        "What the expansion of the real model's loss leaves unexplained, along the directions of a "
        "random step and of two pruning decisions, in float64. On these axes a right derivative of "
        "order k makes a line of slope k+1, and the number beside each line is its slope near 0. "
        "The dashed control has a gradient that is 1 % too large and falls with slope 1 only. In "
        "the grey band remainders are rounding. If a line bent to a smaller slope above that band, "
        "gradient or Hessian would be wrong.",
        _taylor,
    ),
    "scope-map": Entry(
        "Scope of the claims over a course of fine-tuning",
        SCOPE_MAP,
        "The change of the loss by one decision, from panel to panel at more steps of training and "
        "at another learning rate, on the rows of the gradient and on unseen ones. Where the line "
        "of `pins` is the lowest, the paper's claim holds; it ends where the line turns up, at a "
        "fraction that shrinks as the model is trained. Several seeds would give the lines bands.",
        lambda run: scope_map(run.rows("scope_map-*.json", SCOPE_MAP)["rows"]),
    ),
    "layer-sparsity": Entry(
        "Sparsity of each tensor over training",
        RUNS,
        "One ranking of all weights decides how sparse each tensor becomes. Rows are tensors, "
        "grouped by the kind of layer; columns are decisions. Kinds of layers that the criterion "
        "finds less important turn yellow first. With `--scope tensor` every row would have the "
        "same colour in every column; a row that is yellow all over would be a layer that has "
        "collapsed, which `--minimum-kept` prevents.",
        lambda run: runs.sparsity_over_training(run.counted, run.tensors, run.kinds),
    ),
    "schedule": Entry(
        "Schedule and decisions",
        RUNS,
        "The sparsity that the schedule asks for, and the decisions that follow it, each of "
        "exactly the nearest number of weights. Below: how much each one adds. Nearly all of them "
        "prune more than a thousandth of the weights at once, the share beyond which a first-order "
        "model is not to be trusted: in gradual pruning a decision is optimal for its model and "
        "the training that follows repairs the rest. Only with thousands of decisions would the "
        "bars fall below the dashed line.",
        _schedule,
    ),
    "survival": Entry(
        "Weights that are pruned, and that come back",
        f"{PRUNE}, {DEMO}",
        "How many weights each decision prunes, and how many pruned weights it revives. A pruned "
        "weight starts each step from zero, so it comes back only if one step of the optimiser "
        "lifts its score over the threshold. Signed scores, such as those of `pins`, revive it "
        "easily, since half of the weights that are not zero score below every zero: the mask is "
        "half drawn anew each time. With optimal brain damage, or with scores that are averaged "
        "and never negative, almost none comes back, and the upper bars are missing. As the "
        "schedule ends, the bars shrink.",
        lambda run: runs.survival(run.counted),
    ),
    "self-regularisation": Entry(
        "Self-regularisation: score, sparsity and divergence of the teacher",
        PRUNE,
        "A run with self-regularisation. Above, the score on held-out training rows, and the "
        "checkpoints that became the teacher; in the middle, how sparse the model and its teacher "
        "are: the teacher follows, so the model is never held to one much denser than itself. "
        "Below, the divergence from the current teacher: large while the model still learns the "
        "task, and smaller later. With the rule of the released code, which wants the best score "
        "of all, the dashed line would stay near the bottom.",
        _self_regularization,
    ),
    "solver-times": Entry(
        "CBC, HiGHS and the closed form: time against n",
        SOLVERS,
        "Seconds for one decision of n weights, both axes logarithmic. The closed form, a sort, "
        "grows little faster than n; `pins.select`, which is made for whole models, costs about "
        "the same at all of these sizes. CBC lies orders of magnitude above both; HiGHS grows "
        "fastest, and has no answer within the limit at the right end. Absolute times differ from "
        "machine to machine; on a faster one all lines would be lower, with the same slopes.",
        _solver_times,
    ),
    "unscaled": Entry(
        "What unscaled scores do to a solver's answer",
        DEMO,
        "A thousand real weights by the rank of their scores. Above: how large the scores are, "
        "beside the absolute tolerance of CBC and HiGHS. Below: a stroke for each weight that a "
        "solver keeps. Scaled by a power of two, which changes no digit, both find the optimum. "
        "Given the scores as they are, both say “optimal”, and are wrong the more the smaller the "
        "scores: those of PINS here lie near the tolerance and a few weights are wrong, those of "
        "optimal brain damage lie far below it, where all masks are alike. With scores near 1 the "
        "pairs of rows would look the same.",
        lambda run: programs.unscaled(run.field("solver_answers", DEMO)),
    ),
}


def find_figure(name: str) -> Entry:
    """The figure of that name.

    Raises:
        SettingError: there is no such figure; the message lists all names.
    """
    return find(FIGURES, name, "figure", SettingError)
