"""Pruner: gradual pruning in a plain training loop. Observe a step, decide, apply, keep zeros.

pruner = Pruner(model, optimizer, "obd", CubicSchedule(steps=1000, final_sparsity=0.8))
for batch in batches:
    model(**batch).loss.backward()
    optimizer.step()
    pruner.step()            # after the optimiser's step, before the gradients are cleared
    optimizer.zero_grad()
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pins.distributed.sharding import group_of, like_sharding, local, loss_of_ranks, part
from pins.errors import MaskError, OptimalityError
from pins.importance.criteria import find_criterion
from pins.importance.criterion import Criterion, Reads
from pins.importance.smoothing import NoSmoothing, Smoothing, require_averageable
from pins.importance.trust_region.program import RegionDecision, RegionProgram
from pins.masks import PackedMasks, apply, count, require_same_tensors
from pins.models.parameters import PrunableParameters, prunable_parameters, require_trained
from pins.pruning.acceptance import Choice, choose, loss_with
from pins.pruning.loss_change import Measurement, first_order_change
from pins.pruning.observations import CurvatureSource, Loss, StepObservations, require_sources
from pins.pruning.optimizer_hooks import StepWatch
from pins.pruning.schedules import Schedule
from pins.pruning.sharded_state import local_parts, sharded
from pins.selection.allocation import Scope
from pins.selection.constraints import Constraint
from pins.selection.select import Decision, decide
from pins.utils.lazy_tensors import Computed, Scores

OnDecision = Callable[[int, Mapping[str, Tensor], Decision], None]
OnRegion = Callable[[Mapping[str, Tensor], RegionProgram, RegionDecision], None]


class Pruner:
    """θ ← m⊙θ after every step, where m is the optimal mask of the latest decision.

    At a step of the schedule it scores all prunable weights as they stand after the optimiser's
    step, solves the program for exactly k kept weights, proves the solution and applies it. Between
    decisions pruned weights are set back to zero after each step; what a decision keeps again
    starts from its value after that step.

    Gradient accumulation, clipping, autocast and `torch.compile` need nothing special: the scores
    see the gradient that the optimiser used. A step that the optimiser did not take because a
    gradient overflowed (`GradScaler`) gives no scores; a decision due at it is taken at the next.

    Of a model that `fully_shard` spread over ranks, all of them call `step` together and decide as
    one device would. What they see of a decision is the part of each; `masks` are sharded.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        criterion: str | Criterion,
        schedule: Schedule,
        *,
        parameters: Mapping[str, nn.Parameter] | PrunableParameters | None = None,
        smoothing: Smoothing | None = None,
        scope: Scope | None = None,
        curvature: CurvatureSource | None = None,
        loss: Loss | None = None,
        on_decision: OnDecision | None = None,
        on_region: OnRegion | None = None,
    ) -> None:
        """Start dense.

        Args:
            model: the model in training.
            optimizer: its optimiser; must hold every prunable parameter.
            criterion: a name of `pins.CRITERIA`, or a criterion.
            schedule: when to decide and how many weights to keep.
            parameters: the weights to prune by name; default `prunable_parameters(model)`.
            smoothing: average the scores of the steps between decisions; default: a decision sees
                the scores of its own step.
            scope: which masks are allowed beside the number of ones; default: any.
            curvature: called at each decision for h by name; default AdamW's second moment.
            loss: called at decisions for the mean loss of the step's rows as the weights stand,
                without dropout. With it each decision is measured, by two evaluations; a trust
                region needs it, for two more and one for each promise that it breaks.
            on_decision: called with (step, importance, decision) at each decision, before its mask
                is applied and in force, so that `masks` are still those of the decision before: the
                importance of a tensor is computed from the weights when asked for, so
                `dict(importance)` keeps it.
            on_region: called before it, of a trust region, with (importance, program, decision);
                the program computes s and c likewise.

        Raises:
            ParameterError: a prunable parameter is frozen or not in the optimiser.
            ObservationError: the criterion reads a curvature, or the loss, and there is no source.
            CriterionError: averages are asked for of a criterion whose scores cannot be averaged.
        """
        if parameters is None:
            parameters = prunable_parameters(model)
        if isinstance(parameters, PrunableParameters):
            parameters = parameters.parameters
        require_trained(parameters, optimizer)
        self.parameters = dict(parameters)
        self.group = group_of(self.parameters)
        self.criterion = find_criterion(criterion) if isinstance(criterion, str) else criterion
        self.schedule = schedule
        self.smoothing = smoothing or NoSmoothing()
        self.scope = scope or Scope()
        self.steps = 0
        self.decision: Decision | None = None
        self.measurement: Measurement | None = None  # of the latest decision
        self.radius_factor = 1.0  # on a trust region's radius, from the promises so far
        self._sparsity: float | None = None
        self.masks = {
            name: like_sharding(torch.ones_like(local(p), dtype=torch.bool), p)
            for name, p in self.parameters.items()
        }
        self._optimizer = optimizer
        self._curvature = curvature
        self._loss = None if loss is None else loss_of_ranks(loss, model, self.parameters)
        self._on_decision = on_decision
        self._on_region = on_region
        self._due = False  # whether a decision waits for a step that the optimiser takes
        require_sources(self.criterion, optimizer, curvature, loss)
        require_averageable(self.criterion, self.smoothing)
        self.constraint(schedule.last)  # a minimum above the final kept ratio is an error now
        reads_before = Reads.BEFORE in self.criterion.reads
        wanted = (lambda: self._observes(self.steps + 1)) if reads_before else None
        self._watch = StepWatch(optimizer, self.parameters, wanted)

    @property
    def total(self) -> int:
        """n, the number of prunable weights."""
        return sum(parameter.numel() for parameter in self.parameters.values())

    @property
    def _held(self) -> dict[str, Tensor]:
        """What this rank holds of θ."""
        return {name: local(parameter) for name, parameter in self.parameters.items()}

    @property
    def sparsity(self) -> float:
        """1 − kept ratio of the masks in force, counted."""
        if self._sparsity is None:
            self._sparsity = count(self.masks).sparsity  # a pass over all weights: once a mask
        return self._sparsity

    @property
    def masks(self) -> dict[str, Tensor]:
        """The masks in force by name, True = keep: made anew from the bits that are held."""
        return {
            name: like_sharding(mask, self.parameters[name]) for name, mask in self._masks.items()
        }

    @masks.setter
    def masks(self, masks: Mapping[str, Tensor]) -> None:
        """Put others in force, without applying them."""
        self._put_in_force({name: part(masks[name], p) for name, p in self.parameters.items()})

    @property
    def finished(self) -> bool:
        """Whether the last decision of the schedule was taken."""
        return self.steps >= self.schedule.last and not self._due

    def step(self) -> Decision | None:
        """After `optimizer.step()`, before `zero_grad()`: decide when it is time, keep zeros.

        Returns:
            The decision, with its proof, when one was taken.

        Raises:
            ObservationError: there is no gradient (was `zero_grad()` called first?), or the
                optimiser took no step.
            ImportanceError: a score is NaN or infinite.
        """
        # what reads nothing of a step needs none
        taken = self._watch.taken() or not self.criterion.reads
        if not taken:
            self._watch.require_overflow()
        self.steps += 1
        self._due |= self.schedule.decides(self.steps)
        choice = None
        if taken and self._due:
            choice = self._decided()
        elif taken and self._observes(self.steps):
            self._average(self._observations())
        self._watch.forget()
        self._keep_zeros()
        return None if choice is None else choice.decision

    def state_dict(self) -> dict[str, Any]:
        """Steps, masks, averages, what the radius has become, and whether a decision is due."""
        return {
            "steps": self.steps,
            "due": self._due,
            "masks": self.masks,
            "smoothing": sharded(self.smoothing.state_dict(), self.parameters),
            "radius_factor": self.radius_factor,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another pruner of the same model stood.

        Raises:
            MaskError: the masks are of other parameters, or it is no state of a pruner.
        """
        if missing := {"steps", "masks", "due", "smoothing", "radius_factor"} - state.keys():
            raise MaskError(
                f"load_state_dict() was given no {' and no '.join(sorted(missing))}: give what "
                "state_dict() returned"
            )
        require_same_tensors(self.parameters, state["masks"])
        self.smoothing.load_state_dict(local_parts(state["smoothing"], self.parameters))
        apply(state["masks"], self.parameters)
        self.steps, self._due = int(state["steps"]), bool(state["due"])
        self.radius_factor = float(state["radius_factor"])
        self.masks = dict(state["masks"])

    def _observes(self, step: int) -> bool:
        """Whether the scores of that step are needed: for an average, or for a decision."""
        averaged = self.smoothing.every_step and step <= self.schedule.last
        return averaged or self._due or self.schedule.decides(step)

    def _decided(self) -> Choice:
        """Solve the program of this step; the masks in force are its optimum from now on."""
        constraint, observations = self.constraint(self.steps), self._observations()
        if self.smoothing.every_step:
            self._average(observations)

        def solve(criterion: Criterion) -> tuple[Scores, Decision]:
            importance = self._importance(criterion, observations)
            return importance, self._decide(importance, constraint)

        def rehearse(masks: Mapping[str, Tensor]) -> float:
            assert self._loss is not None
            return loss_with(masks, self._held, self._loss)

        before = None if self._loss is None else self._loss()
        steps_left = max(self.schedule.end - self.steps, 0)
        choice = choose(
            self.criterion,
            observations,
            constraint,
            allowance=0.0 if before is None else before / (1 + steps_left),
            factor=self.radius_factor,
            solve=solve,
            rehearse=None if self._loss is None else rehearse,
        )
        masks = choice.decision.masks
        self._due = False
        self.radius_factor = choice.factor
        predicted = 0.0 if before is None else first_order_change(self.parameters, masks)
        self._tell(choice)
        self._put_in_force(masks)
        self.decision = replace(choice.decision, masks=self._masks)  # without the n bytes of bools
        self.smoothing.decided()
        self._keep_zeros()
        self._assert_exact(constraint, masks)
        if self._loss is not None and before is not None:
            after = self._loss() if choice.loss is None else choice.loss
            self.measurement = Measurement(
                predicted, after - before, choice.multiplier, choice.promise
            )
        return choice

    def _put_in_force(self, masks: Mapping[str, Tensor]) -> None:
        """Of what this rank holds."""
        self._masks = PackedMasks(masks)
        # over several ranks while all of them are here
        self._sparsity = None if self.group.size == 1 else count(self.masks).sparsity

    def _tell(self, choice: Choice) -> None:
        """What was decided, while the weights are still those that it was decided from."""
        if self._on_region is not None and choice.program is not None:
            assert isinstance(choice.decision, RegionDecision), "its decision knows its multiplier"
            self._on_region(choice.importance, choice.program, choice.decision)
        if self._on_decision is not None:
            self._on_decision(self.steps, choice.importance, choice.decision)

    def constraint(self, step: int) -> Constraint:
        """Which masks are allowed after a step."""
        sizes = {name: parameter.numel() for name, parameter in self.parameters.items()}
        return self.scope.constraint(self.schedule.sparsity(step), sizes)

    def _decide(self, importance: Mapping[str, Tensor], constraint: Constraint) -> Decision:
        return decide(importance, constraint, self.group)

    def _keep_zeros(self) -> None:
        """Apply the masks in force."""
        self._masks.apply(self._held)

    def _observations(self) -> StepObservations:
        """What there is to see of this step."""
        curvature = None
        if Reads.CURVATURE in self.criterion.reads and self._curvature is not None:
            curvature = self._curvature()
        return StepObservations(
            self.criterion,
            self.parameters,
            self._optimizer,
            before=self._watch.before,
            curvature=curvature,
        )

    def _average(self, observations: StepObservations) -> None:
        """Take the scores of this step into the averages, one tensor at a time."""
        for name, observation in observations.items():
            self.smoothing.update(name, self.criterion.importance(observation))

    def _importance(self, criterion: Criterion, observations: StepObservations) -> Scores:
        """What to rank: the averages, or the scores of this step, computed when asked for."""
        if self.smoothing.every_step:
            return Computed(observations.shapes, self.smoothing.importance)
        return Computed(observations.shapes, lambda name: criterion.importance(observations[name]))

    def _assert_exact(self, constraint: Constraint, masks: Mapping[str, Tensor]) -> None:
        own = [count(masks).kept, sum(int(p.count_nonzero()) for p in self._held.values())]
        kept, nonzero = self.group.total(torch.tensor(own)).tolist()
        # a kept weight may happen to be zero, a pruned one may not happen to be anything else
        if kept != constraint.keep or nonzero > constraint.keep:
            raise OptimalityError(
                f"step {self.steps} keeps {kept} ({nonzero} non-zero), not {constraint.keep}"
            )
