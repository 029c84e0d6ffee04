"""Pruner: gradual pruning in a plain training loop. Observe a step, decide, apply, keep zeros.

pruner = Pruner(model, optimizer, "obd", CubicSchedule(steps=1000, final_sparsity=0.8))
for batch in batches:
    model(**batch).loss.backward()
    optimizer.step()
    pruner.step()            # after the optimiser's step, before the gradients are cleared
    optimizer.zero_grad()
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pins.constraints import Constraint
from pins.criteria import find_criterion
from pins.criterion import Criterion, Reads
from pins.errors import (
    CriterionError,
    MaskError,
    ObservationError,
    OptimalityError,
    ParameterError,
)
from pins.masks import apply, count
from pins.measurement import Measurement, first_order_change
from pins.moments import has_second_moment
from pins.observations import StepObservations
from pins.optimality import require_same_tensors
from pins.parameters import PrunableParameters, prunable_parameters
from pins.schedules import Schedule
from pins.scope import Scope
from pins.selection import Decision, decide
from pins.smoothing import NoSmoothing, Smoothing
from pins.trials import Choice, Loss, choose, loss_with
from pins.trust_region import RegionDecision, RegionProgram
from pins.trust_region_criterion import TrustRegion

OnDecision = Callable[[int, dict[str, Tensor], Decision], None]
OnRegion = Callable[[dict[str, Tensor], RegionProgram, RegionDecision], None]
CurvatureSource = Callable[[], Mapping[str, Tensor]]


class Pruner:
    """θ ← m⊙θ after every step, where m is the optimal mask of the latest decision.

    At a step of the schedule it scores all prunable weights as they stand after the optimiser's
    step, solves the program for exactly k kept weights, proves the solution and applies it. Between
    decisions pruned weights are set back to zero after each step; what a decision keeps again
    starts from its value after that step.

    Gradient accumulation, clipping, autocast and `torch.compile` need nothing special: the scores
    see the gradient that the optimiser used. A step that the optimiser did not take because a
    gradient overflowed (`GradScaler`) gives no scores; a decision due at it is taken at the next.
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
                without dropout. With it each decision is measured, and a trust region led by what
                its promises were worth; it costs two evaluations a decision, a trust region's four.
            on_decision: called with (step, importance, decision) after each decision.
            on_region: called with (importance, program, decision) at each decision of a trust
                region, before its mask is applied: the program computes s and c from the weights.

        Raises:
            ParameterError: a prunable parameter is frozen or not in the optimiser.
            ObservationError: the criterion reads a curvature and there is no source of one.
            CriterionError: averages are asked for of a criterion whose scores cannot be averaged.
        """
        if parameters is None:
            parameters = prunable_parameters(model)
        if isinstance(parameters, PrunableParameters):
            parameters = parameters.parameters
        if not parameters:
            raise ParameterError("Pruner was given no parameters: leave them out for the default")
        self.parameters = dict(parameters)
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
            name: torch.ones_like(p, dtype=torch.bool) for name, p in self.parameters.items()
        }
        self._optimizer = optimizer
        self._curvature = curvature
        self._loss = loss
        self._on_decision = on_decision
        self._on_region = on_region
        self._before: dict[str, Tensor] = {}
        self._stepped = False  # whether the optimiser took a step since the last call of step()
        self._due = False  # whether a decision waits for a step that the optimiser takes
        self._require_prunable()
        if Reads.LOSS in self.criterion.reads and loss is None:
            raise ObservationError(
                f"criterion {self.criterion.name!r} reads the loss and was given none: give loss= "
                "a function that returns the loss of the step's rows as the weights stand"
            )
        if isinstance(self.criterion, TrustRegion) and self.smoothing.every_step:
            raise CriterionError(
                f"criterion 'trust-region' was given smoothing {self.smoothing.name!r}: what it "
                "reads are averages already, and its multiplier differs from step to step; leave "
                "the smoothing out"
            )
        self.constraint(schedule.last)  # a minimum above the final kept ratio is an error now
        needs_curvature = Reads.CURVATURE in self.criterion.reads
        if needs_curvature and curvature is None and not has_second_moment(optimizer):
            raise ObservationError(
                f"criterion {self.criterion.name!r} reads a diagonal curvature and "
                f"{type(optimizer).__name__} keeps none: use AdamW, or give curvature= a "
                "function that returns one (see pins.empirical_fisher)"
            )
        optimizer.register_step_post_hook(self._remember_step)
        if Reads.BEFORE in self.criterion.reads:
            optimizer.register_step_pre_hook(self._remember_before)

    @property
    def total(self) -> int:
        """n, the number of prunable weights."""
        return sum(parameter.numel() for parameter in self.parameters.values())

    @property
    def sparsity(self) -> float:
        """1 − kept ratio of the masks in force, counted."""
        if self._sparsity is None:
            self._sparsity = count(self.masks).sparsity  # a pass over all weights: once a mask
        return self._sparsity

    @property
    def masks(self) -> dict[str, Tensor]:
        """The masks in force by name, True = keep."""
        return self._masks

    @masks.setter
    def masks(self, masks: dict[str, Tensor]) -> None:
        """Put others in force, without applying them."""
        self._masks, self._sparsity = masks, None

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
        taken, self._stepped = self._stepped or not self.criterion.reads, False
        if not taken:
            self._require_overflow()
        self.steps += 1
        self._due |= self.schedule.decides(self.steps)
        choice = None
        if taken and self._due:
            choice = self._decided()
        elif taken and self._averages():
            self._scores(self.criterion, self._observations())
        self._before = {}
        self._keep_zeros()
        if choice is None:
            return None
        if self._on_decision is not None:
            self._on_decision(self.steps, choice.importance, choice.decision)
        return choice.decision

    def state_dict(self) -> dict[str, Any]:
        """Steps, masks, averages, what the radius has become, and whether a decision is due."""
        return {
            "steps": self.steps,
            "due": self._due,
            "masks": dict(self.masks),
            "smoothing": self.smoothing.state_dict(),
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
        self.smoothing.load_state_dict(state["smoothing"])
        apply(state["masks"], self.parameters)
        self.steps, self._due = int(state["steps"]), bool(state["due"])
        self.radius_factor = float(state["radius_factor"])
        self.masks = dict(state["masks"])

    def _averages(self) -> bool:
        """Whether this step's scores go into an average."""
        return self.smoothing.every_step and self.steps <= self.schedule.last

    def _decided(self) -> Choice:
        """Solve the program of this step; the masks in force are its optimum from now on."""
        constraint, observations = self.constraint(self.steps), self._observations()

        def solve(criterion: Criterion) -> tuple[dict[str, Tensor], Decision]:
            importance = self._scores(criterion, observations)
            return importance, self._decide(importance, constraint)

        def rehearse(masks: Mapping[str, Tensor]) -> float:
            assert self._loss is not None
            return loss_with(masks, self.parameters, self._loss)

        before = None if self._loss is None else self._loss()
        choice = choose(
            self.criterion,
            observations,
            constraint,
            allowance=0.0 if before is None else before / self._steps_left,
            factor=self.radius_factor,
            solve=solve,
            rehearse=None if self._loss is None else rehearse,
        )
        self.masks, self.decision, self._due = choice.decision.masks, choice.decision, False
        self.radius_factor = choice.factor
        self._tell_region(choice)
        predicted = 0.0 if before is None else first_order_change(self.parameters, self.masks)
        self.smoothing.decided()
        self._keep_zeros()
        self._assert_exact(constraint)
        if self._loss is not None and before is not None:
            self.measurement = Measurement(
                predicted, self._loss() - before, choice.multiplier, choice.promise
            )
        return choice

    def _tell_region(self, choice: Choice) -> None:
        if self._on_region is not None and choice.program is not None:
            assert isinstance(choice.decision, RegionDecision), "its decision knows its multiplier"
            self._on_region(choice.importance, choice.program, choice.decision)

    @property
    def _steps_left(self) -> int:
        """Steps to come, this one counted: a trust region's radius is shared out over them."""
        return 1 + max(self.schedule.end - self.steps, 0)

    def constraint(self, step: int) -> Constraint:
        """Which masks are allowed after a step."""
        sizes = {name: parameter.numel() for name, parameter in self.parameters.items()}
        return self.scope.constraint(self.schedule.sparsity(step), sizes)

    def _decide(self, importance: dict[str, Tensor], constraint: Constraint) -> Decision:
        return decide(importance, constraint)

    def _keep_zeros(self) -> None:
        """Apply the masks in force."""
        apply(self.masks, self.parameters)

    def _observations(self) -> StepObservations:
        """What there is to see of this step."""
        curvature = None
        if Reads.CURVATURE in self.criterion.reads and self._curvature is not None:
            curvature = self._curvature()
        return StepObservations(
            self.criterion,
            self.parameters,
            self._optimizer,
            before=self._before,
            curvature=curvature,
        )

    def _scores(self, criterion: Criterion, observations: StepObservations) -> dict[str, Tensor]:
        """Scores of this step, averaged where averages are asked for; at a decision, what to rank.

        One tensor at a time: between decisions no scores are kept but the averages.
        """
        importance = {}
        for name, observation in observations.items():
            self.smoothing.update(name, criterion.importance(observation))
            if self._due:
                importance[name] = self.smoothing.importance(name)
        return importance

    def _remember_before(self, *_: object) -> None:
        """Copy θ before the optimiser's step, on steps whose scores are needed only."""
        step = self.steps + 1
        averaged = self.smoothing.every_step and step <= self.schedule.last
        if averaged or self._due or self.schedule.decides(step):
            self._before = {name: p.detach().clone() for name, p in self.parameters.items()}

    def _remember_step(self, optimizer: Optimizer, *_: object) -> None:
        # fused optimisers are called at an overflow, too, and told by `GradScaler` to stay
        overflow = getattr(optimizer, "found_inf", None)
        self._stepped |= overflow is None or not bool(overflow)

    def _require_overflow(self) -> None:
        """That the optimiser took no step must have a reason: `GradScaler` found an overflow."""
        gradients = [
            parameter.grad
            for group in self._optimizer.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        if all(bool(gradient.isfinite().all()) for gradient in gradients):
            raise ObservationError(
                f"Pruner.step() was called and {type(self._optimizer).__name__} has taken no step "
                "since the last time: call it once after each optimizer.step()"
            )

    def _require_prunable(self) -> None:
        """Each parameter once, trained by the optimiser."""
        names: dict[int, str] = {}
        for name, parameter in self.parameters.items():
            if (other := names.setdefault(id(parameter), name)) != name:
                raise ParameterError(
                    f"{name} is the same tensor as {other}: tied weights are pruned once"
                )
        trained = {id(p) for group in self._optimizer.param_groups for p in group["params"]}
        for name, parameter in self.parameters.items():
            if not parameter.requires_grad or id(parameter) not in trained:
                why = "is not in the optimiser" if parameter.requires_grad else "is frozen"
                raise ParameterError(
                    f"{name} is to be pruned and {why}: leave it out of `parameters`, or train it"
                )

    def _assert_exact(self, constraint: Constraint) -> None:
        kept = count(self.masks).kept
        nonzero = sum(int(p.count_nonzero()) for p in self.parameters.values())
        # a kept weight may happen to be zero, a pruned one may not happen to be anything else
        if kept != constraint.keep or nonzero > constraint.keep:
            raise OptimalityError(
                f"step {self.steps} keeps {kept} ({nonzero} non-zero), not {constraint.keep}"
            )
