"""Self-regularisation: the model is trained towards the predictions of its earlier, denser self.

regularizer = SelfRegularizer(model)
for batch in batches:
    regularizer.loss(model(**batch), batch).backward()
    optimizer.step()
    pruner.step()
    optimizer.zero_grad()
    if pruner.steps % 100 == 0:
        regularizer.update(accuracy(model), pruner.sparsity)    # a new teacher, if it is as good
"""

import copy
import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pins.errors import CheckpointError, ModelError, SettingError
from pins.models.batches import Batch
from pins.models.distillation_loss import Mixture, Rows, mixed_loss
from pins.models.heads import Head, Values, find_head
from pins.models.sharded_teacher import ShardedTeacher, teacher_of
from pins.selection.constraints import exact_ratio
from pins.utils.lookup import choose_one

FORMAT = {"format": "pins-self-regularizer", "version": 1}
RULES = ("latest-best", "best-ever")
MAX_DROP = 0.25  # of the best score: below, a model has collapsed and teaches nothing


class Selection:
    """The rule that makes offered checkpoints the teacher, or not.

    latest-best: yes iff no earlier checkpoint of the same or a higher sparsity scored higher, and
    |v − s| ≤ d|v| or s is better than v, where v is the best earlier score of any sparsity and d is
    `max_drop`. Sparsity only grows in a run: the first checkpoint of a new sparsity is chosen
    unless the model has collapsed, and at the same sparsity one that is at least as good as all
    earlier ones.

    best-ever: yes iff it scored higher than all earlier ones, of any sparsity. This is the rule of
    the authors' released code. Scores fall while a model is pruned, so the teacher stays the best
    nearly dense model.

    A checkpoint whose score is not finite is never chosen.
    """

    def __init__(
        self,
        rule: Literal["latest-best", "best-ever"] = "latest-best",
        *,
        higher_is_better: bool = True,
        max_drop: float = MAX_DROP,
        expert: bool = False,
    ) -> None:
        """Start without a checkpoint.

        Args:
            rule: the rule.
            higher_is_better: how scores compare.
            max_drop: d, ≥ 0; inf: a collapsed model is chosen too.
            expert: the first teacher is not the model: the first score that is offered is the
                teacher's own, or is not known to be better, and is not chosen; later ones are
                compared with it.

        Raises:
            SettingError: there is no such rule, or d is negative or NaN.
        """
        if rule not in RULES:
            raise SettingError(f"there is no rule {rule!r}: {choose_one(rule, RULES)}")
        if not max_drop >= 0:
            raise SettingError(f"max_drop is {max_drop}: it is a share of the best score, from 0")
        self.rule = rule
        self.higher_is_better = higher_is_better
        self._max_drop, self._expert = max_drop, expert
        # (sparsity, score) of the checkpoints that no later one equals or exceeds in both
        self._best: list[tuple[Fraction, float]] = []

    def offer(self, score: float, sparsity: float | Fraction) -> bool:
        """Whether a checkpoint becomes the teacher; later ones are compared with it.

        Raises:
            ScheduleError: the sparsity is not in [0, 1].
        """
        score, ratio = float(score), exact_ratio(sparsity)
        if not math.isfinite(score):
            return False
        if any(self._keeps_out(earlier, (ratio, score)) for earlier in self._best):
            return False
        chosen = bool(self._best) or not self._expert
        self._best = [
            (sparser, best)
            for sparser, best in self._best
            if self.rule == "latest-best" and (sparser > ratio or self._higher(best, score))
        ]
        self._best.append((ratio, score))
        return chosen

    def _keeps_out(self, earlier: tuple[Fraction, float], offered: tuple[Fraction, float]) -> bool:
        (before, best), (ratio, score) = earlier, offered
        if self.rule == "best-ever":
            return not self._higher(score, best)
        collapsed = abs(best - score) > self._max_drop * abs(best)
        return self._higher(best, score) and (before >= ratio or collapsed)

    def _higher(self, first: float, second: float) -> bool:
        return first > second if self.higher_is_better else first < second

    def state_dict(self) -> dict[str, Any]:
        """JSON values: the rule, and the checkpoints that later ones are compared with."""
        return {
            "rule": self.rule,
            "higher_is_better": self.higher_is_better,
            "best": [[str(sparsity), score] for sparsity, score in self._best],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state of a selection with the same rule.

        Raises:
            CheckpointError: the state has another rule, or is damaged.
        """
        try:
            for name in ("rule", "higher_is_better"):
                if state[name] != getattr(self, name):
                    raise CheckpointError(
                        f"the state is of a teacher with {name} {state[name]!r}, this one has "
                        f"{getattr(self, name)!r}: give the same"
                    )
            self._best = [(Fraction(sparsity), float(score)) for sparsity, score in state["best"]]
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise CheckpointError(
                f"the state of the teacher is damaged ({type(error).__name__}: {error}): give what "
                "state_dict() returned"
            ) from error


class SelfRegularizer:
    """The loss of the task mixed with the divergence from the latest best checkpoint of the model.

    Attributes:
        head: of the model.
        mixture: the parameters of the mixed loss.
    """

    def __init__(
        self,
        model: nn.Module,
        teacher: nn.Module | None = None,
        head: Head | None = None,
        *,
        temperature: float = 2.0,
        weight: float | Literal["adaptive"] = "adaptive",
        divergence: Literal["kl", "cross-entropy"] = "kl",
        rule: Literal["latest-best", "best-ever"] = "latest-best",
        higher_is_better: bool = True,
        max_drop: float = MAX_DROP,
        teacher_score: float | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Take the first teacher.

        Args:
            model: the model in training, on its device; may be compiled or wrapped.
            teacher: the first teacher, a dense fine-tuned copy of the model, whose weights are
                copied; default: the model itself.
            head: default: `find_head(model)`.
            temperature: as in `Mixture`.
            weight: as in `Mixture`.
            divergence: as in `Mixture`.
            rule: as in `Selection`.
            higher_is_better: how scores compare.
            max_drop: as in `Selection`.
            teacher_score: of a `teacher` that is given, at sparsity 0. Without it the first
                checkpoint does not replace that teacher: later ones are compared with it.
            dtype: of the teacher's matrices; default: `pins.models.teacher.fast_dtype`, bfloat16 if
                that is faster.

        Raises:
            ModelError: the teacher is another network, or the model has no known head.
            SettingError: an invalid setting.
        """
        self.mixture = Mixture(temperature, weight, divergence)
        self._selection = Selection(
            rule,
            higher_is_better=higher_is_better,
            max_drop=max_drop,
            expert=teacher is not None,
        )
        if teacher_score is not None:
            self._selection.offer(teacher_score, 0)
        self.head = head or find_head(model)
        self._teacher = teacher_of(model, teacher, dtype)

    @property
    def teacher(self) -> nn.Module:
        """The network with the weights of the current teacher; it shares those not trained.

        Raises:
            ModelError: the model is sharded, and its teacher has no network of its own.
        """
        if isinstance(self._teacher, ShardedTeacher):
            raise ModelError(
                "SelfRegularizer.teacher was asked for where the model is sharded: the teacher has "
                "no network of its own there; state_dict() has its weights"
            )
        return self._teacher.model

    def loss(self, output: Any, batch: Batch, num_items: Tensor | float | None = None) -> Tensor:
        """The mixed loss of a batch: see `pins.models.distillation_loss`.

        Args:
            output: of the model for the batch. Only its predictions are read, so
                `model(**regularizer.head.inputs(model, batch))` avoids computing another loss.
            batch: with its targets, on the device of the model.
            num_items: divides the sum over the predictions, instead of their number.
        """
        return mixed_loss(*self._predictions(output, batch), self.mixture, num_items=num_items)

    @torch.no_grad()
    def divergence(
        self, output: Any, batch: Batch, num_items: Tensor | float | None = None
    ) -> Tensor:
        """The mean of KL(q ‖ p_T) over the predictions of a batch, in nats; for numbers (v − t)².

        Notation as in `pins.models.distillation_loss`, arguments as in `loss`. Without gradient.
        """
        student, teacher = self._predictions(output, batch)
        alone = Mixture(self.mixture.temperature, weight=1.0)  # α = 1: T²·KL, or (v − t)²
        mean = mixed_loss(student, teacher, alone, num_items=num_items)
        return mean if isinstance(student, Values) else mean / self.mixture.temperature**2

    def _predictions(self, output: Any, batch: Batch) -> tuple[Rows, Rows]:
        """The predictions of the model and of its teacher for a batch."""
        # the teacher first: reading rows waits for the device, which then has both passes queued,
        # and the student's rows take no memory while the teacher computes
        teacher = self.head.rows(self._teacher(self.head, batch), batch)
        return self.head.rows(output, batch), teacher

    def update(self, score: float, sparsity: float | Fraction) -> bool:
        """Offer the current model, with its masks applied; return whether it became the teacher.

        See `Selection` for the rules.

        Raises:
            ScheduleError: the sparsity is not in [0, 1].
        """
        chosen = self._selection.offer(score, sparsity)
        if chosen:
            self._teacher.copy_student()
        return chosen

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors, not copied, and JSON values.

        Tensors that the teacher shares with the model are left out: they are in the model's state.
        """
        tensors, shared = self._teacher.state_dict()
        return tensors, {**FORMAT, **self._selection.state_dict(), "shared": shared}

    def load_state_dict(self, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> None:
        """Restore a state of the same model, bit for bit; restore the model first.

        Raises:
            CheckpointError: the state is damaged, or belongs to another model or another rule.
        """
        shared = scalars.get("shared")
        if {name: scalars.get(name) for name in FORMAT} != FORMAT or not isinstance(shared, list):
            raise CheckpointError(
                "load_state_dict() was given no state of a SelfRegularizer: give what its "
                "state_dict() returned"
            )
        selection = copy.copy(self._selection)
        selection.load_state_dict(scalars)
        self._teacher.load_state_dict(tensors, shared)
        self._selection = selection
