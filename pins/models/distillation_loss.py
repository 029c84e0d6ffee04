"""The mixed loss of self-regularisation: the loss of the task and the divergence from a teacher.

For a prediction with logits z ∈ ℝᶜ, the teacher's logits t, the target y, temperature T:

    ℓ = (1 − α)·CE + α·T²·KL(q ‖ p_T)       p = softmax(z)   p_T = softmax(z/T)   q = softmax(t/T)
    CE = −log p_y                           KL(q ‖ p_T) = Σ q (log q − log p_T)
    α = 1 − H(p)/log C                      H(p) = −Σ p log p; α counts as a constant in
    ∇ℓ = (1 − α)(p − e_y) + α·T·(p_T − q)

C is the number of possible outcomes (logits above −∞); α = 0 if C = 1. A confident student follows
its teacher, an unsure one follows the targets. For a predicted number v with target y and the
teacher's number t, entropy is undefined and a is fixed: ℓ = (1 − a)(v − y)² + a(v − t)².
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pins.errors import ModelError, SettingError
from pins.models.heads import Distributions, Values
from pins.utils.lookup import choose_one
from pins.utils.tensors import upcast_half

DIVERGENCES = ("kl", "cross-entropy")
NUMBERS_WEIGHT = 0.5  # a, if α is adaptive
BLOCK = 1 << 21  # logits computed with at a time: a heuristic between memory and calls

Rows = Distributions | Values


@dataclass(frozen=True)
class Mixture:
    """The parameters of the mixed loss.

    Attributes:
        temperature: T.
        weight: "adaptive", or a fixed α in [0, 1].
        divergence: "kl"; "cross-entropy" is −Σ q log p_T, which the authors' released code uses:
            the gradient is the same, the value is larger by H(q).

    Raises:
        SettingError: an invalid temperature, weight or divergence.
    """

    temperature: float = 2.0
    weight: float | Literal["adaptive"] = "adaptive"
    divergence: Literal["kl", "cross-entropy"] = "kl"

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise SettingError(f"temperature is {self.temperature}: it is a number greater than 0")
        fixed = isinstance(self.weight, float | int) and 0 <= self.weight <= 1
        if self.weight != "adaptive" and not fixed:
            raise SettingError(
                f"weight is {self.weight!r}: it is 'adaptive', or a number from 0 (the task's loss "
                "alone) to 1 (the teacher alone)"
            )
        if self.divergence not in DIVERGENCES:
            raise SettingError(
                f"divergence is {self.divergence!r}: {choose_one(self.divergence, DIVERGENCES)}"
            )


def mixed_loss(
    student: Rows,
    teacher: Rows | None,
    mixture: Mixture | None = None,
    *,
    num_items: Tensor | float | None = None,
) -> Tensor:
    """The mean of ℓ over the student's rows.

    16-bit logits are converted to float32, block by block. The only allocation of the size of all
    logits is their gradient, in their dtype (float32 for float16, in which small ones underflow).

    Args:
        student: predictions of the student for a batch, with gradient.
        teacher: predictions of the teacher for it, a constant; None: the loss of the task, α = 0.
        mixture: default: as in the paper.
        num_items: divides the sum of ℓ instead of the number of rows, so that the losses of the
            microbatches of a step add up to the loss of the step.

    Returns:
        A float32 scalar (float64 for float64 predictions); 0 if there are no rows.

    Raises:
        ModelError: the predictions of teacher and student have different types or shapes.
    """
    mixture = mixture or Mixture()
    predicted, given = _predictions(student), None
    if teacher is not None:
        given = _predictions(teacher).detach()
        if type(teacher) is not type(student) or given.shape != predicted.shape:
            raise ModelError(
                f"the teacher predicts {type(teacher).__name__} {tuple(given.shape)}, the student "
                f"{type(student).__name__} {tuple(predicted.shape)}: give what both predict of the "
                "same batch"
            )
    if isinstance(student, Values):
        losses = _losses_of_values(student, given, mixture)
    else:
        keep_gradient = torch.is_grad_enabled() and predicted.requires_grad
        losses = _row_losses(predicted, given, student.targets, mixture, keep_gradient)
    if not len(losses):
        return losses.sum()  # 0, also for 0 items
    return losses.sum() / (len(losses) if num_items is None else num_items)


def _predictions(rows: Rows) -> Tensor:
    return rows.values if isinstance(rows, Values) else rows.logits


def _adaptive(probabilities: Tensor, possible: Tensor) -> Tensor:
    entropy = torch.special.entr(probabilities).sum(-1)
    outcomes = possible.sum(-1)
    alpha: Tensor = 1 - entropy / outcomes.to(entropy.dtype).log()
    # rounded, the entropy can be slightly above log C
    return alpha.clamp_(0, 1).masked_fill_(outcomes == 1, 0.0)


def _losses_of_values(student: Values, teacher: Tensor | None, mixture: Mixture) -> Tensor:
    values = upcast_half(student.values)
    to_target = (values - student.targets.to(values.dtype)).square()
    if teacher is None:
        return to_target
    weight = NUMBERS_WEIGHT if mixture.weight == "adaptive" else mixture.weight
    return to_target.lerp((values - teacher.to(values.dtype)).square(), weight)


class _RowLosses(torch.autograd.Function):
    """ℓ of every row and its gradient, block by block of rows.

    Autograd of ℓ would keep about eight tensors of the size of the logits.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        teacher: Tensor | None,
        targets: Tensor,
        mixture: Mixture,
        keep_gradient: bool,
    ) -> Tensor:
        wide = torch.promote_types(logits.dtype, torch.float32)
        losses = logits.new_empty(len(logits), dtype=wide)
        gradient = None
        if keep_gradient:
            narrow = logits.dtype == torch.bfloat16
            gradient = torch.empty_like(logits, dtype=logits.dtype if narrow else wide)
        for block in _blocks(logits):
            losses[block] = _block(
                logits[block].to(wide),
                None if teacher is None else teacher[block].to(wide),
                targets[block].unsqueeze(-1),
                mixture,
                None if gradient is None else gradient[block],
            )
        ctx.dtype = logits.dtype
        ctx.save_for_backward(gradient)
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        product = torch.empty_like(gradient, dtype=ctx.dtype)
        for block in _blocks(gradient):
            product[block] = gradient[block] * upstream[block].unsqueeze(-1)
        return product, None, None, None, None


_row_losses: Callable[..., Tensor] = _RowLosses.apply


def _blocks(logits: Tensor) -> Iterator[slice]:
    rows = max(BLOCK // max(logits.shape[-1], 1), 1)
    return (slice(start, start + rows) for start in range(0, len(logits), rows))


def _block(
    logits: Tensor, teacher: Tensor | None, target: Tensor, mixture: Mixture, out: Tensor | None
) -> Tensor:
    """ℓ (N,) of logits (N, C) with targets (N, 1); writes ∇ℓ to `out` (N, C)."""
    possible = logits != -torch.inf
    log_p = logits.log_softmax(-1)
    losses = -log_p.gather(-1, target).squeeze(-1)
    p = log_p.exp_()
    if teacher is None:
        if out is not None:
            out.copy_(_minus_one_at(target, p))
        return losses
    temperature = mixture.temperature
    if mixture.weight == "adaptive":
        alpha = _adaptive(p, possible)
    else:
        alpha = torch.full_like(losses, mixture.weight)
    log_q = (teacher.masked_fill(~possible, -torch.inf) / temperature).log_softmax(-1)
    q = log_q.exp()
    log_p_tempered = (logits / temperature).log_softmax(-1)
    terms = log_q.sub_(log_p_tempered) if mixture.divergence == "kl" else -log_p_tempered
    divergence = terms.mul_(q).masked_fill_(q == 0, 0.0).sum(-1)  # 0·log 0 = 0
    losses = (1 - alpha) * losses + alpha * temperature**2 * divergence
    if out is not None:
        gradient = _minus_one_at(target, p).mul_((1 - alpha).unsqueeze(-1))
        to_teacher = log_p_tempered.exp_().sub_(q)
        out.copy_(gradient.addcmul_(to_teacher, (alpha * temperature).unsqueeze(-1)))
    return losses


def _minus_one_at(target: Tensor, p: Tensor) -> Tensor:
    """p − e_y, in place."""
    return p.scatter_add_(-1, target, p.new_full(target.shape, -1.0))
