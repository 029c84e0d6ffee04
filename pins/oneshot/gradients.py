"""Derivatives of the calibration loss at the dense weights, and the memory that they need.

    ℓ_b = mean of −log p over the predicted tokens of window b,    L = mean over windows of ℓ_b
    g   = ∇L,    h = mean over windows of (∇ℓ_b)²

h is the diagonal of the empirical Fisher information whose examples are windows: the gradient is
taken of a window's mean loss, then squared. The Fisher of single tokens is greater, about by the
number of tokens in a window where their gradients are independent.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn

from pins.errors import CalibrationError
from pins.importance.criterion import Reads
from pins.models.batches import Batch
from pins.models.heads import CAUSAL
from pins.models.task_loss import example_losses
from pins.selection.tree import View

GRADIENT = frozenset({Reads.GRADIENT, Reads.MOMENTUM})  # without a step the momentum is g itself
# backward passes keep up to so many times the inputs and outputs of the linear layers (a heuristic:
# 1.0 of a Llama, 1.9 of a GPT-2), and so many numbers for each logit
STEPS, LOGITS = 2, 4


@dataclass(frozen=True, eq=False)
class Gradients:
    """L, and g and h by parameter name in float32; what was not asked for is empty."""

    loss: float
    gradient: Mapping[str, Tensor]
    fisher: Mapping[str, Tensor]


def batches(windows: Sequence[Tensor]) -> list[Batch]:
    """Windows of tokens, of shape (1, length) each, as batches that predict themselves."""
    return [
        {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": tokens}
        for tokens in windows
    ]


def gradients(
    model: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    windows: Sequence[Tensor],
    reads: frozenset[Reads],
    advance: Callable[[], Any] = lambda: None,
) -> Gradients:
    """L, g and h, a forward and a backward pass for each window, without dropout.

    Sums over the windows are in float32, in the order of the windows. Beside them one gradient is
    in memory at a time: each is added up, and freed, where the backward pass has computed it. On a
    GPU the last bits may differ between two calls.

    Args:
        model: a causal language model in float32; afterwards only `parameters` require gradients.
        parameters: of it, by name.
        windows: int64 tokens of shape (1, length) each, of one length.
        reads: which of g and h are asked for.
        advance: called after each window.

    Raises:
        CalibrationError: the loss of a window is NaN or infinite.
    """
    zeros = [
        {name: torch.zeros_like(p) for name, p in parameters.items()} if wanted else {}
        for wanted in (reads & GRADIENT, Reads.CURVATURE in reads)
    ]
    first, second = zeros

    def adding(name: str) -> Callable[[Tensor], None]:
        def add(parameter: Tensor) -> None:
            found, parameter.grad = parameter.grad, None
            assert found is not None, "called when it is there"
            if first:
                first[name] += found
            if second:
                second[name] += found.square_()

        return add

    model.requires_grad_(False)
    hooks: list[Any] = []
    for name, parameter in parameters.items():
        register: Any = parameter.requires_grad_().register_post_accumulate_grad_hook
        hooks.append(register(adding(name)))
    losses = []
    try:
        for loss in example_losses(model, batches(windows), CAUSAL):
            losses.append(loss.item())
            if not isfinite(losses[-1]):
                raise CalibrationError(
                    f"the loss of calibration window {len(losses)} of {len(windows)} is "
                    f"{losses[-1]}: the model is damaged, or its numbers are too large"
                )
            loss.backward()  # type: ignore[no-untyped-call]
            advance()
    finally:
        for hook in hooks:
            hook.remove()
    for sums in zeros:
        for total in sums.values():
            total /= len(losses)
    return Gradients(sum(losses) / len(losses), first, second)


def needed_bytes(
    model: nn.Module, views: Mapping[str, View], length: int, reads: frozenset[Reads]
) -> int:
    """An estimate of the memory for gradients of a window, and for scores and masks afterwards.

    Weights, g and h take 4 bytes a number. On top come, first, the activations of one window: per
    token `STEPS` times the inputs and outputs of the linear layers and `LOGITS` times the
    vocabulary; afterwards two more numbers for each ranked weight (scores and costs, or a copy of
    the weights while other masks are tried), and a byte for its mask.

    Args:
        model: an outline, without its weights.
        views: of the weights to rank, by name.
        length: tokens of a window.
        reads: which of g and h are computed.
    """
    config: Any = model.config
    weights = sum(parameter.numel() for parameter in model.parameters())
    ranked = sum(view.size for view in views.values())
    kept = bool(reads & GRADIENT) + (Reads.CURVATURE in reads)
    widths = sum(view.groups * (view.outputs + view.inputs) for view in views.values())
    vocabulary: int = config.get_text_config().vocab_size
    activations = 4 * length * (STEPS * widths + LOGITS * vocabulary)
    return 4 * (weights + kept * ranked) + max(activations, 9 * ranked)
