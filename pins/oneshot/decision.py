"""The decision of a method by gradients, over the layers of all blocks at once."""

import time
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pins.errors import ModelError
from pins.importance.criterion import Observation
from pins.models.decoder import Decoder
from pins.models.heads import CAUSAL
from pins.models.task_loss import step_loss
from pins.oneshot.gradients import batches, gradients, needed_bytes
from pins.oneshot.methods.gradient_method import GradientMethod
from pins.pruning.acceptance import loss_with
from pins.selection.tree import Node, View
from pins.utils.memory import free_bytes


@dataclass(frozen=True, eq=False)
class ModelDecision:
    """Masks of all layers, and why, in the stored orientation of the weights.

    Attributes:
        masks: bool by weight name, True = keep.
        scores: s by weight name.
        costs: c by weight name if a trust region ranked by s and c together; else None.
        report: `loss`, dense; `predicted`, the change of it by the method's model; `seconds`; of a
            trust region also `multiplier`, and `promised` and `kept`, the reduction beyond optimal
            brain damage that was predicted and measured, where one was tried.
    """

    masks: Mapping[str, Tensor]
    scores: Mapping[str, Tensor]
    costs: Mapping[str, Tensor] | None
    report: Mapping[str, float | None]


def decide_model(
    method: GradientMethod,
    decoder: Decoder,
    windows: tuple[Tensor, ...],
    views: Mapping[str, View],
    constrain: Callable[[Container[str]], Node],
    *,
    rate: float,
    advance: Callable[[], Any],
) -> ModelDecision:
    """Decide with all blocks in memory.

    Weights whose derivatives are all 0, as of an expert without tokens, have no part in it.

    Args:
        method: the method.
        decoder: the model.
        windows: of the calibration text.
        views: outputs and inputs of the layers' weights, by their names.
        constrain: gives the masks allowed for some of them.
        rate: η of the step u = −ηg that the scores look ahead.
        advance: called after each window.

    Raises:
        CalibrationError: the loss is NaN or infinite.
        ImportanceError, ObservationError: a score is.
    """
    begin = time.monotonic()
    with decoder.whole() as network:
        known = dict(network.named_parameters())
        weights = {name: known[name] for name in views}
        found = gradients(network, weights, windows, method.criterion.reads, advance)
        read = found.gradient or found.fisher
        weights = {name: each for name, each in weights.items() if bool(read[name].any())}
        observed = {
            name: Observation(
                after=weight - rate * found.gradient[name] if rate else weight,
                gradient=found.gradient.get(name),
                before=weight,
                curvature=found.fisher.get(name),
            )
            for name, weight in weights.items()
        }

        def loss() -> float:
            return step_loss(network, batches(windows), CAUSAL)

        def trial_loss(masks: Mapping[str, Tensor]) -> float:
            return loss_with(masks, weights, loss)

        with torch.no_grad():
            solution = method.solve(observed, constrain(weights), found.loss, trial_loss)
            predicted = method.predicted(observed, solution)
    scores, costs = dict(solution.importance), None
    if solution.program is not None and solution.multiplier:
        terms = solution.program.terms
        scores = {name: each.importance for name, each in terms.items()}
        costs = {name: each.cost for name, each in terms.items()}
    report: dict[str, float | None] = {
        "loss": found.loss, "predicted": predicted, "seconds": round(time.monotonic() - begin, 3),
    }  # fmt: skip
    if (reduction := solution.reduction) is not None:
        report |= {"promised": reduction.predicted, "kept": reduction.actual}
    if solution.multiplier is not None:
        report["multiplier"] = solution.multiplier
    return ModelDecision(solution.decision.masks, scores, costs, report)


def require_memory(
    method: GradientMethod,
    outline: torch.nn.Module,
    views: Mapping[str, View],
    length: int,
    device: torch.device,
) -> None:
    """Check that a decision fits into the free memory, as far as the system tells of it.

    Raises:
        ModelError: it does not.
    """
    needed = needed_bytes(outline, views, length, method.criterion.reads)
    free = free_bytes(device)
    if free is not None and needed > free:
        raise ModelError(
            f"{method.name} needs the whole model and its gradients in memory, about {needed:,} "
            f"bytes, and {device.type} has {free:,} free: give shorter windows, or a method that "
            "passes block by block, as wanda"
        )
