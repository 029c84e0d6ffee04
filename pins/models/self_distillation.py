"""Self-regularisation: the model is held to what an earlier, less sparse self of it predicts.

regularizer = SelfRegularizer(model)
for batch in batches:
    regularizer.loss(model(**batch), batch).backward()
    optimizer.step()
    pruner.step()
    optimizer.zero_grad()
    if pruner.steps % 100 == 0:
        regularizer.update(accuracy(model), pruner.sparsity)    # a new teacher, if it is as good
"""

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


class Selection:
    """Which of the checkpoints offered one after the other becomes the teacher.

    latest-best: it does iff no earlier checkpoint of the same or a higher sparsity scored higher.
    Sparsity only grows in a run, so the first at a new sparsity always does, and at the same
    sparsity only one at least as good as all others there: the latest of the best.

    best-ever: it does iff it scored higher than all before, of any sparsity. The authors' released
    code has this rule. Scores fall while a model is pruned, so its teacher stays the best nearly
    dense model.

    A score that is not finite never makes a teacher.
    """

    def __init__(
        self,
        rule: Literal["latest-best", "best-ever"] = "latest-best",
        *,
        higher_is_better: bool = True,
    ) -> None:
        """Start without a checkpoint.

        Raises:
            SettingError: there is no such rule.
        """
        if rule not in RULES:
            raise SettingError(f"there is no rule {rule!r}: {choose_one(rule, RULES)}")
        self.rule = rule
        self.higher_is_better = higher_is_better
        # (sparsity, score) of the checkpoints that no later one was at least as good as in both
        self._best: list[tuple[Fraction, float]] = []

    def offer(self, score: float, sparsity: float | Fraction) -> bool:
        """Whether a checkpoint becomes the teacher; it counts for those that follow.

        Raises:
            ScheduleError: the sparsity is no ratio.
        """
        score, ratio = float(score), exact_ratio(sparsity)
        if not math.isfinite(score):
            return False
        if any(self._keeps_out(earlier, (ratio, score)) for earlier in self._best):
            return False
        self._best = [
            (sparser, best)
            for sparser, best in self._best
            if self.rule == "latest-best" and (sparser > ratio or self._higher(best, score))
        ]
        self._best.append((ratio, score))
        return True

    def _keeps_out(self, earlier: tuple[Fraction, float], offered: tuple[Fraction, float]) -> bool:
        if self.rule == "best-ever":
            return not self._higher(offered[1], earlier[1])
        return earlier[0] >= offered[0] and self._higher(earlier[1], offered[1])

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
        """Go on where another selection of the same rule stood.

        Raises:
            CheckpointError: it is of another rule, or none.
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
    """Mixes the task's loss with the divergence from the latest best checkpoint of the model.

    Attributes:
        head: what the model predicts.
        mixture: how the two are mixed.
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
        dtype: torch.dtype | None = None,
    ) -> None:
        """Take the first teacher.

        Args:
            model: the model in training, where it is to be trained; may be compiled or wrapped.
            teacher: the first teacher, a dense fine-tuned copy of the model, of which the weights
                are copied and nothing is kept; default: the model as it is.
            head: default: `find_head(model)`.
            temperature: as in `Mixture`.
            weight: as in `Mixture`.
            divergence: as in `Mixture`.
            rule: as in `Selection`.
            higher_is_better: how scores compare.
            dtype: of the teacher's matrices; default: bfloat16 where that is faster, as in
                `pins.models.teacher.fast_dtype`, else that of the model.

        Raises:
            ModelError: the teacher is another network, or there is no head.
            SettingError: a setting that makes no sense.
        """
        self.mixture = Mixture(temperature, weight, divergence)
        self._selection = Selection(rule, higher_is_better=higher_is_better)
        self.head = head or find_head(model)
        self._teacher = teacher_of(model, teacher, dtype)

    @property
    def teacher(self) -> nn.Module:
        """The network with the weights of the present teacher; it shares those not trained.

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
            output: what the model returned for the batch. Nothing but its predictions is read, so
                `model(**regularizer.head.inputs(model, batch))` saves computing another loss.
            batch: with its targets, on the device of the model.
            num_items: divides the sum over the predictions, in place of their number.
        """
        return mixed_loss(*self._predictions(output, batch), self.mixture, num_items=num_items)

    @torch.no_grad()
    def divergence(
        self, output: Any, batch: Batch, num_items: Tensor | float | None = None
    ) -> Tensor:
        """The mean of KL(q ‖ p_T) over the predictions of a batch, in nats; of numbers (v − t)².

        Notation as in `pins.models.distillation_loss`, arguments as of `loss`. For reports: there
        is no gradient.
        """
        student, teacher = self._predictions(output, batch)
        alone = Mixture(self.mixture.temperature, weight=1.0)  # α = 1: T²·KL, or (v − t)²
        mean = mixed_loss(student, teacher, alone, num_items=num_items)
        return mean if isinstance(student, Values) else mean / self.mixture.temperature**2

    def _predictions(self, output: Any, batch: Batch) -> tuple[Rows, Rows]:
        """What the model and its teacher predict of a batch."""
        # the teacher first: reading rows waits for the device, which then has both forwards to do,
        # and the student's rows are not held while the teacher computes
        teacher = self.head.rows(self._teacher(self.head, batch), batch)
        return self.head.rows(output, batch), teacher

    def update(self, score: float, sparsity: float | Fraction) -> bool:
        """Offer the model as it is now, with its masks applied; True where it became the teacher.

        It does iff no earlier checkpoint of the same or a higher sparsity scored higher.

        Raises:
            ScheduleError: the sparsity is no ratio.
        """
        chosen = self._selection.offer(score, sparsity)
        if chosen:
            self._teacher.copy_student()
        return chosen

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors, which are not copied, and JSON values.

        What the teacher shares with the model is not among them: it is in the model's own state.
        """
        tensors, shared = self._teacher.state_dict()
        return tensors, {**FORMAT, **self._selection.state_dict(), "shared": shared}

    def load_state_dict(self, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> None:
        """Go on bit for bit where another one of the same model stood; restore the model first.

        Raises:
            CheckpointError: it is the state for another model or another rule, or none.
        """
        shared = scalars.get("shared")
        if {name: scalars.get(name) for name in FORMAT} != FORMAT or not isinstance(shared, list):
            raise CheckpointError(
                "load_state_dict() was given no state of a SelfRegularizer: give what its "
                "state_dict() returned"
            )
        selection = Selection(
            self._selection.rule, higher_is_better=self._selection.higher_is_better
        )
        selection.load_state_dict(scalars)
        self._teacher.load_state_dict(tensors, shared)
        self._selection = selection
