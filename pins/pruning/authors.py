"""The released code of Ren & Zhu (2023), quirk by quirk, so the effect of each can be measured.

With all quirks the weights equal those of the released code; without quirks this is `Pruner` with
the criterion "pins". Two behaviours are not reproduced: a rank outside the range of the threshold
is a CardinalityError here, and scores that are not finite are an ImportanceError.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pins.distributed.process_group import SINGLE_PROCESS, Group
from pins.errors import CardinalityError, ParameterError, ScheduleError, SettingError
from pins.importance.criteria import find_criterion
from pins.importance.criterion import Criterion, Observation, Reads
from pins.importance.smoothing import ExponentialAverage, Smoothing, Uncertainty
from pins.models.parameters import PrunableParameters
from pins.pruning.authors_smoothing import BETA1, BETA2, INTERVAL, LaggingAverages
from pins.pruning.pruner import OnDecision, Pruner
from pins.pruning.schedules import CubicSchedule, GradualSchedule, Schedule
from pins.selection.constraints import Cardinality, exact_ratio
from pins.selection.optimality import optimality
from pins.selection.reach import total_reach
from pins.selection.select import Decision, decide, tree_of
from pins.selection.transposable.constraint import TransposableNofM
from pins.selection.tree import Node
from pins.utils.lazy_tensors import shapes_of
from pins.utils.lookup import choose_one

# substrings of the names of pruned parameters; the third contains the second
NAME_PARTS = ("attention.self", "attention.output.dense", "output.dense", "intermediate.dense")
NEAR = Fraction(1, 100)  # distance of kept ratios that the released code calls final


@dataclass(frozen=True, kw_only=True)
class Quirks:
    """The differences between the released code and PINS; True = as released.

    Attributes:
        absolute: ranks |s|. PINS ranks s, whose k largest are the optimum of the program.
        nominal_step: s = −gθ + ηg² with θ before the step and the first learning rate as η,
            although AdamW takes another step and the mask is applied to θ+u. PINS: s = −g(θ+u).
        loose_threshold: prunes scores strictly below the ⌊n(1−r)⌋-th smallest, with r a float: it
            keeps one or two weights too many and all ties, and prunes nothing if all scores are
            equal. PINS keeps exactly the integer nearest to rn.
        calendar: counts steps from 0 and decides if the count is a multiple of ΔT, and after every
            step of the cool-down. PINS counts from the end of the warm-up, decides at the last step
            before the cool-down, and not in it.
        dense_between: sets pruned weights to zero once, at the decision; the optimiser changes them
            until the next decision. PINS keeps zeros.
        dense_start: knows no zeros of the model that it starts with: the schedule begins at 0, and
            zeros may become weights again. PINS: they stay zero, and the schedule begins at them.
        lagging_averages: averages a window when the next one begins, so a decision does not see its
            own window; averages start at zero and are biased to it. PINS averages the window that
            the decision ends, without bias.
        biases: prunes all parameters whose name contains one of `NAME_PARTS`, including biases and
            a task head of such a name, and none in models with other names. PINS:
            `prunable_parameters`.
        cross_entropy_as_kl: the divergence of the self-regularisation is −Σ q log p, which is
            greater than 0 at q = p; its gradient is the same. PINS: Σ q log(q/p). Read by the
            training, not here.
        frozen_teacher: the teacher is the best model of the whole run, mostly an early dense one.
            PINS: the best model of the latest sparsity. Read by the training, not here.
        near_final: reports the best of all checkpoints whose scheduled kept ratio is within 0.01 of
            the target. PINS reports the last step, exactly at the target; a run with this quirk
            adds the result that would have been reported (`reported_as_final`).
        scheduler_first: moves the linear schedule of the learning rate before the optimiser's step,
            with W = warm-up of T steps: t/W at step t ≤ W, then (T−t)/(T−W) of the highest rate,
            which is 0 at the last step. PINS: t/(W+1), then (T−t+1)/(T−W). Read by the training.
        adamw: the AdamW of earlier transformers: it adds ε to √v before the correction of the bias,
            decays weights after the step, and leaves out of it what has "bias" or
            "LayerNorm.weight" in its name. PINS: torch's AdamW, and parameters of one dimension
            are left out. Read by the training.
    """

    absolute: bool = True
    nominal_step: bool = True
    loose_threshold: bool = True
    calendar: bool = True
    dense_between: bool = True
    dense_start: bool = True
    lagging_averages: bool = True
    biases: bool = True
    cross_entropy_as_kl: bool = True
    frozen_teacher: bool = True
    near_final: bool = True
    scheduler_first: bool = True
    adamw: bool = True

    @classmethod
    def without(cls, *names: str) -> "Quirks":
        """All quirks except the named ones.

        Raises:
            SettingError: no quirk has this name; the message lists the names.
        """
        known = [field.name for field in fields(cls)]
        for name in names:
            if name not in known:
                raise SettingError(f"there is no quirk {name!r}: {choose_one(name, known)}")
        return cls(**dict.fromkeys(names, False))

    @classmethod
    def platon(cls) -> "Quirks":
        """The released code of PLATON for SQuAD: |gθ| with the same averages and threshold.

        Without its first-order term in the step, ηg², the released score of PINS is that of PLATON,
        bit for bit (Zhang et al., ICML 2022); it moves its scheduler after the optimiser. Two
        differences are left: PLATON counts steps from 1, so it decides one step earlier, and its
        learning rate has a warm-up of its own, by default none.
        """
        return cls.without("nominal_step", "scheduler_first")

    @classmethod
    def none(cls) -> "Quirks":
        """No quirk: every switch is False."""
        return cls.without(*(field.name for field in fields(cls)))


class NominalPins(Criterion):
    """sᵢ = −gᵢθᵢ + ηgᵢ², or its absolute value: PINS with the step of plain SGD."""

    name = "nominal-pins"
    program = "the first-order loss change of mask and step, were the step −ηg"
    reads = frozenset({Reads.GRADIENT, Reads.BEFORE})

    def __init__(self, optimizer: Optimizer, *, absolute: bool) -> None:
        """η is the learning rate of the optimiser's first group, as it is at each step."""
        self._optimizer, self._absolute = optimizer, absolute

    def importance(self, observation: Observation) -> Tensor:
        """−g ⊙ θ + η g ⊙ g."""
        gradient = observation.gradient
        rate = float(self._optimizer.param_groups[0]["lr"])
        scores = -observation.before * gradient + rate * gradient * gradient
        return scores.abs() if self._absolute else scores


@dataclass(frozen=True)
class AuthorsSchedule(CubicSchedule):
    """The cubic schedule at t = step − 1, with decisions if ΔT | t and throughout the cool-down.

    The released code gives warm-up and cool-down as multiples of W, the warm-up steps of the
    learning rate; for RTE W = 200, warm-up W, cool-down 6W.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cooldown < 2:
            raise ScheduleError(
                f"cooldown is {self.cooldown}: the authors' calendar reaches the final sparsity in "
                f"a cool-down of at least 2 steps, {2 - self.cooldown} too few; or leave the quirk "
                "'calendar' out"
            )

    @property
    def last(self) -> int:
        """The last training step."""
        return self.steps

    def decides(self, step: int) -> bool:
        """True if t > warm-up is a multiple of the interval or in the cool-down."""
        count = step - 1
        if not self.warmup < count < self.steps:
            return False
        return count > self.steps - self.cooldown or count % self.interval == 0

    def sparsity(self, step: int) -> Fraction:
        """1 − v(step − 1), exactly."""
        return super().sparsity(step - 1)

    def kept_ratio(self, step: int) -> float:
        """v(step − 1) with the rounding of the released code."""
        initial = float(1 - exact_ratio(self.initial_sparsity))
        final = float(1 - exact_ratio(self.final_sparsity))
        count = step - 1
        if count <= self.warmup:
            return initial
        if count > self.steps - self.cooldown:
            return final
        left = 1 - (count - self.warmup) / (self.steps - (self.cooldown + self.warmup))
        return final + (initial - final) * left**3


def reported_as_final(
    evaluations: Sequence[Mapping[str, Any]], schedule: Schedule, *, higher_is_better: bool
) -> Mapping[str, Any] | None:
    """The evaluation that the released code reports: the best within 0.01 of the target.

    Args:
        evaluations: the evaluations of a run, with `step` and `score`.
        schedule: the schedule of the run.
        higher_is_better: whether a higher score is better.

    Returns:
        The evaluation, the earliest among equals; None if none is within 0.01.
    """
    target = schedule.sparsity(schedule.last)
    near = [e for e in evaluations if abs(schedule.sparsity(e["step"]) - target) <= NEAR]
    if not near:
        return None
    return (max if higher_is_better else min)(near, key=lambda e: e["score"])


def named_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """All parameters whose name contains one of `NAME_PARTS`, including biases.

    Raises:
        ParameterError: no parameter has such a name.
    """
    found = {
        name: parameter
        for name, parameter in model.named_parameters()
        if any(part in name for part in NAME_PARTS)
    }
    if not found:
        raise ParameterError(
            f"no parameter of {type(model).__name__} has {', '.join(NAME_PARTS)} in its name: the "
            "released code knows BERT's names only; leave the quirk 'biases' out"
        )
    return found


def loose_decision(
    importance: Mapping[str, Tensor],
    kept_ratio: float,
    group: Group = SINGLE_PROCESS,
    tree: Node | None = None,
) -> Decision:
    """Keep all scores s ≥ τ, the j-th smallest of n, j = ⌊n(1−r)⌋: n−j+1 scores and ties with τ.

    Args:
        importance: scores s by tensor name.
        kept_ratio: r.
        group: as `decide`.
        tree: whose frozen zeros are not kept; default: there are none.

    Returns:
        The decision: an optimum, but not for the requested number of kept weights.

    Raises:
        CardinalityError: j = 0.
        ImportanceError: as `decide`.
    """
    own = sum(shape.numel() for shape in shapes_of(importance).values())
    total = int(group.total(torch.tensor(own)))
    rank = int(total * (1 - kept_ratio))
    if rank < 1:
        raise CardinalityError(
            f"the released code takes score number {rank} of {total} as its threshold to keep "
            f"{kept_ratio}, and numbers begin with 1: begin to prune later, or leave the quirk "
            "'loose_threshold' out"
        )
    tree = tree or tree_of(Cardinality(0), importance, group)
    loose = replace(tree, minimum=0, maximum=None)
    keep = min(total - rank + 1, int(total_reach(loose, group).high[0]))
    threshold = decide(importance, Cardinality(keep).tighten(loose), group).proof.kept_min
    assert threshold is not None  # at least one weight is kept
    masks = {name: scores >= threshold for name, scores in importance.items()}
    masks |= {name: masks[name] & ~frozen for name, frozen in tree.zeros.items()}
    kept = int(group.total(torch.tensor(sum(int(mask.sum()) for mask in masks.values()))))
    tree = Cardinality(kept).tighten(loose)
    return Decision(masks, optimality(importance, masks, group, tree=tree), tree)


class AuthorsPruner(Pruner):
    """`Pruner` with quirks of the released code."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        schedule: Schedule,
        quirks: Quirks | None = None,
        *,
        beta1: float = BETA1,
        beta2: float = BETA2,
        parameters: Mapping[str, nn.Parameter] | PrunableParameters | None = None,
        on_decision: OnDecision | None = None,
    ) -> None:
        """Start as `Pruner`, with or without the quirk `dense_start`.

        Args:
            model: the model in training.
            optimizer: its optimiser.
            schedule: must be cubic with the quirk `calendar`.
            quirks: default: all.
            beta1: decay of the average of importance.
            beta2: decay of the average of its uncertainty; 1 disables uncertainty.
            parameters: the weights to prune by name; overrides `biases`.
            on_decision: as `Pruner`.

        Raises:
            ScheduleError: the quirk `calendar` is set and the schedule is not cubic.
            ParameterError, CriterionError: as `Pruner`, `named_parameters`, `LaggingAverages`.
        """
        self.quirks = quirks or Quirks()
        self._decided_at = 0
        absolute = self.quirks.absolute
        super().__init__(
            model,
            optimizer,
            NominalPins(optimizer, absolute=absolute)
            if self.quirks.nominal_step
            else find_criterion("abs-pins" if absolute else "pins"),
            _authors_schedule(schedule) if self.quirks.calendar else schedule,
            parameters=named_parameters(model)
            if parameters is None and self.quirks.biases
            else parameters,
            smoothing=_smoothing(schedule, self.quirks, beta1, beta2),
            revive_zeros=self.quirks.dense_start,
            on_decision=on_decision,
        )
        self.settings |= {f"quirk {name}": value for name, value in vars(self.quirks).items()}

    def _solve(self, importance: Mapping[str, Tensor], tree: Node | TransposableNofM) -> Decision:
        self._decided_at = self.steps
        if not self.quirks.loose_threshold:
            return super()._solve(importance, tree)
        kept_ratio = float(1 - self._sparsity(self.steps))
        scheduled = self._sparsity(self.steps) == self.schedule.sparsity(self.steps)
        if isinstance(self.schedule, AuthorsSchedule) and scheduled:
            kept_ratio = self.schedule.kept_ratio(self.steps)
        assert isinstance(tree, Node), "the released code ranks all weights together"
        return loose_decision(importance, kept_ratio, self.group, tree)

    def _keep_zeros(self) -> None:
        if self.quirks.dense_between and self._decided_at != self.steps and not self.finished:
            self._keep_free()  # until the next decision
        super()._keep_zeros()


def _authors_schedule(schedule: Schedule) -> AuthorsSchedule:
    if not isinstance(schedule, CubicSchedule):
        raise ScheduleError(
            f"the schedule is a {type(schedule).__name__}, and the authors' calendar is cubic: "
            "give a CubicSchedule, or leave the quirk 'calendar' out"
        )
    return AuthorsSchedule(**vars(schedule))


def _smoothing(schedule: Schedule, quirks: Quirks, beta1: float, beta2: float) -> Smoothing:
    """The lagging averages, or the averages of PINS without lag and bias."""
    if quirks.lagging_averages:
        interval = schedule.interval if isinstance(schedule, GradualSchedule) else INTERVAL
        return LaggingAverages(beta1, beta2, interval)
    if beta2 == 1:
        return ExponentialAverage(beta1, window=True)
    return Uncertainty(beta1, beta2, window=True)
