"""The loss change L(m⊙(θ+u)) − L(θ) of one pruning decision: predicted and measured.

An SGD step u = −ηg from θ, then the mask m of a criterion. The first-order and the diagonal
second-order model predict the change; it is measured on the rows of the gradient and on unseen
rows. The models are accurate only near θ, and the measurements show how near. A trust region tests
its prediction (`pins.pruning.acceptance`) on training rows that are not the rows of the gradient,
since a prediction is optimistic on the rows it was made from. Unseen rows influence no decision.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pins.importance.criteria import find_criterion
from pins.importance.curvature.fisher import empirical_fisher
from pins.importance.taylor_models import DiagonalSecondOrderModel, FirstOrderModel
from pins.importance.trust_region.criterion import OF_FEW_ROWS, TrustRegion
from pins.masks import apply, count
from pins.models.batches import Encoded
from pins.pruning.acceptance import accepted_solution, loss_with
from pins.selection.constraints import Cardinality, keep_count
from pins.selection.select import select
from verification.experiments.model_snapshot import LEARNING_RATE, ModelSnapshot
from verification.experiments.training import evaluate, loss_gradient, per_example_losses

STEP_ALONE = "step alone"  # the row without a mask
EVALUATION_BATCH = 32


def two_samples(encoded: Encoded, rows: int, generator: torch.Generator) -> tuple[Encoded, Encoded]:
    """Two disjoint samples of `rows` rows; the second is smaller if there are fewer than 2·rows."""
    both = encoded.sample(2 * rows, generator)
    return both.take(range(min(rows, len(both)))), both.take(range(rows, len(both)))


@dataclass(frozen=True)
class LossChange:
    """One criterion at one fraction; all changes are from L(θ), a mean over rows.

    Attributes:
        criterion: its name, or "step alone" for the step without pruning.
        fraction: share of the prunable weights that this decision prunes.
        pruned: the exact number of pruned weights.
        predicted: by the first-order model on the gradient's rows.
        predicted_second_order: by the diagonal second-order model.
        measured: on the gradient's rows.
        measured_unseen: on unseen rows.
    """

    criterion: str
    fraction: float
    pruned: int
    predicted: float
    predicted_second_order: float
    measured: float
    measured_unseen: float


Measure = Callable[[str, float, Mapping[str, Tensor]], LossChange]
"""(criterion, fraction, masks) ↦ the loss change of the masks."""


class Losses(NamedTuple):
    """Mean losses of the current model: on the gradient's rows, and on unseen rows."""

    rows: float
    unseen: float


@dataclass(frozen=True)
class Experiment:
    """A model at θ, and the rows on which its loss is measured.

    Attributes:
        model: the model at θ.
        parameters: the prunable parameters by name.
        rows: the rows of the gradient.
        unseen: rows that influence no decision.
        trial_rows: the rows on which a trust region tests its predictions.
        learning_rate: η of the step before the mask.
    """

    model: nn.Module
    parameters: Mapping[str, nn.Parameter]
    rows: Encoded
    unseen: Encoded
    trial_rows: Encoded
    learning_rate: float = LEARNING_RATE

    def observe(self, description: str, *, fisher_rows: int, seed: int) -> ModelSnapshot:
        """θ, g on all rows and the empirical Fisher of `fisher_rows` of them."""
        batches = self.rows.batches(EVALUATION_BATCH)
        some = self.rows.sample(fisher_rows, torch.Generator().manual_seed(seed))
        losses = per_example_losses(self.model, some.batches(EVALUATION_BATCH))
        return ModelSnapshot(
            description=description,
            before={name: p.detach().clone() for name, p in self.parameters.items()},
            gradient=loss_gradient(self.model, batches, self.parameters),
            learning_rate=self.learning_rate,
            curvature=empirical_fisher(self.parameters, losses),
        )

    def losses(self) -> Losses:
        """The current loss on the gradient's rows and on unseen rows."""
        return Losses(self._loss(self.rows), self._loss(self.unseen))

    def trial_loss(self) -> float:
        """The current loss on the rows on which a trust region tests its predictions."""
        return self._loss(self.trial_rows)

    def _loss(self, rows: Encoded) -> float:
        return evaluate(self.model, rows.batches(EVALUATION_BATCH)).loss


@contextmanager
def measuring(experiment: Experiment, observed: ModelSnapshot, start: Losses) -> Iterator[Measure]:
    """Inside the block the weights are θ+u, and each call measures the loss change of masks.

    After the block the weights are θ again.

    Args:
        experiment: the model at θ.
        observed: `experiment.observe(…)` at θ.
        start: `experiment.losses()` at θ.
    """
    # convert to float64, in which the models predict, once for all masks
    terms = [
        {name: tensor.double() for name, tensor in each.items()}
        for each in (observed.gradient, observed.before, observed.after, observed.curvature or {})
    ]
    first, second = FirstOrderModel(*terms[:3]), DiagonalSecondOrderModel(*terms)

    def measure(criterion: str, fraction: float, masks: Mapping[str, Tensor]) -> LossChange:
        with _restored(experiment.parameters):
            apply(masks, experiment.parameters)
            now, kept = experiment.losses(), count(masks)
        return LossChange(
            criterion=criterion,
            fraction=fraction,
            pruned=kept.total - kept.kept,
            predicted=first.predicted_change(masks),
            predicted_second_order=second.predicted_change(masks),
            measured=now.rows - start.rows,
            measured_unseen=now.unseen - start.unseen,
        )

    with _restored(experiment.parameters):
        _set(experiment.parameters, observed.after)
        yield measure


def loss_changes(
    experiment: Experiment,
    observed: ModelSnapshot,
    criteria: Sequence[str],
    fractions: Sequence[float],
    start: Losses,
) -> Iterator[LossChange]:
    """A row for the step alone, then one for each criterion and fraction; restores the weights.

    Args:
        experiment: the model at θ.
        observed: `experiment.observe(…)` at θ.
        criteria: names of criteria.
        fractions: shares of the prunable weights, each pruned in one decision from θ.
        start: `experiment.losses()` at θ.
    """
    total = sum(weight.numel() for weight in observed.before.values())
    everything = {name: torch.ones_like(w, dtype=torch.bool) for name, w in observed.before.items()}

    def trust_region_masks(keep: int) -> Mapping[str, Tensor]:
        """The masks of a trust region, accepted by the loss on its own rows."""
        solution = accepted_solution(
            TrustRegion(damping=OF_FEW_ROWS),
            observed.observations,
            Cardinality(keep),
            tolerance=start.rows,
            factor=1.0,
            trial_loss=lambda m: loss_with(m, experiment.parameters, experiment.trial_loss),
        )
        return solution.decision.masks

    with measuring(experiment, observed, start) as measure:
        yield measure(STEP_ALONE, 0.0, everything)
        for name in criteria:
            criterion = find_criterion(name)
            scores = None if criterion.adaptive else observed.importance(criterion)
            for fraction in fractions:
                keep = keep_count(fraction, total)
                masks = trust_region_masks(keep) if scores is None else select(scores, keep)
                yield measure(name, fraction, masks)


Row = Mapping[str, Any]  # a LossChange as JSON values, as results files hold it


def by_fraction(rows: Sequence[Row]) -> dict[float, dict[str, Row]]:
    """Fraction, ascending → criterion → its row, without the step alone."""
    pruned = sorted((row for row in rows if row["fraction"] > 0), key=lambda row: row["fraction"])
    table: dict[float, dict[str, Row]] = {}
    for row in pruned:
        table.setdefault(row["fraction"], {})[row["criterion"]] = row
    return table


def step_alone(rows: Sequence[Row]) -> Row:
    """The row of the step without a mask."""
    return next(row for row in rows if row["criterion"] == STEP_ALONE)


def pins_lowers_most(cells: Mapping[str, Row], field: str) -> bool:
    """The paper's claim at one fraction: pins is below magnitude and sensitivity."""
    return bool(cells["pins"][field] < min(cells[n][field] for n in ("magnitude", "sensitivity")))


def lowest_of_all(cells: Mapping[str, Row], criterion: str, field: str) -> bool:
    """True if the value of a criterion is strictly the lowest at its fraction."""
    return all(cells[criterion][field] < cells[name][field] for name in cells.keys() - {criterion})


@torch.no_grad()
def _set(parameters: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    for name, parameter in parameters.items():
        parameter.copy_(values[name])


@contextmanager
def _restored(parameters: Mapping[str, Tensor]) -> Iterator[None]:
    """Restore the weights after the block."""
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    try:
        yield
    finally:
        _set(parameters, before)
