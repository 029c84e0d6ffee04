"""Pruner: gradual pruning in a plain training loop.

pruner = Pruner(model, optimizer, "obd", CubicSchedule(steps=1000, final_sparsity=0.8))
for batch in batches:
    model(**batch).loss.backward()
    optimizer.step()
    pruner.step()            # after the optimiser's step, before the gradients are cleared
    optimizer.zero_grad()
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from pins.distributed.consistency import require_same_masks, require_same_weights
from pins.distributed.process_group import SINGLE_PROCESS, Group, ProcessGroup
from pins.distributed.sharding import loss_of_ranks
from pins.errors import CardinalityError, MaskError
from pins.importance.criteria import find_criterion
from pins.importance.criterion import Criterion, Reads
from pins.importance.smoothing import NoSmoothing, Smoothing, require_averageable
from pins.importance.trust_region.criterion import TrustRegion
from pins.importance.trust_region.program import TrustRegionDecision, TrustRegionProgram
from pins.masks import require_same_tensors
from pins.models.parameters import PrunableParameters, require_trained, views_of
from pins.pruning.acceptance import Solution, accepted_solution, loss_with
from pins.pruning.active_masks import ActiveMasks, resolve_parameters
from pins.pruning.fingerprint import fingerprint, require_same
from pins.pruning.loss_change import LossChange, first_order_change
from pins.pruning.observations import CurvatureSource, Loss, StepObservations, require_sources
from pins.pruning.optimizer_hooks import OptimizerHooks, unwrapped_optimizer
from pins.pruning.schedules import Schedule, sparsity_from
from pins.pruning.sharded_state import local_parts, sharded
from pins.pruning.start import Start
from pins.selection.allocation import Allocation
from pins.selection.blocks import tree_block
from pins.selection.pattern import Pattern
from pins.selection.select import Decision, decide
from pins.selection.transposable.constraint import TransposableNofM
from pins.selection.tree import Node
from pins.utils.lazy_tensors import Computed

TENSORS = ("masks", "start", "smoothing")  # the values of a state that are tensors by name
STATE = {"steps", "due", "finished", "sparsity", "settings", "radius_factor", *TENSORS}

OnDecision = Callable[[int, Mapping[str, Tensor], Decision], None]
OnTrustRegion = Callable[[Mapping[str, Tensor], TrustRegionProgram, TrustRegionDecision], None]


class Pruner:
    """θ ← m⊙θ after every step, with the optimal mask m of the latest decision.

    At a decision step it scores all prunable weights after the optimiser's step, solves the program
    for exactly k kept weights, proves the solution and applies it. Between decisions, pruned
    weights are set to zero after each step; a weight that a decision keeps again has its value
    after that step. The sparsity never falls: a decision takes the largest one scheduled so far.

    The zeros that the model starts with stay zero, unless `revive_zeros`, and the schedule starts
    at their sparsity (`pins.pruning.start`).

    A weight without a gradient in a step (a layer that LayerDrop leaves out, an expert without
    tokens, a layer that was frozen) has g = 0 there; an average skips that step of its tensor.

    Gradient accumulation, clipping, autocast and `torch.compile` work unchanged: the scores use the
    gradient that the optimiser used. A step that the optimiser skips because a gradient overflowed
    (`GradScaler`) gives no scores; a decision due at that step is taken at the next.

    If `fully_shard` distributes the model over ranks, all ranks call `step` together and take the
    same decision as one device. Each rank sees its part of a decision; `masks` are sharded.

    Attributes:
        start: the zeros that stay zero.
        replicas: ranks that train copies of the model, as DistributedDataParallel has them; at each
            decision they compare masks and weights, bit for bit.
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
        allocation: Allocation | None = None,
        curvature: CurvatureSource | None = None,
        loss: Loss | None = None,
        revive_zeros: bool = False,
        start: Mapping[str, Tensor] | None = None,
        on_decision: OnDecision | None = None,
        on_trust_region: OnTrustRegion | None = None,
    ) -> None:
        """Start with the zeros of the model.

        Args:
            model: the model in training.
            optimizer: its optimiser, or what accelerate made of it; must hold every prunable
                parameter.
            criterion: a name in `pins.CRITERIA`, or a criterion.
            schedule: the decision steps and their sparsities.
            parameters: the weights to prune by name; default `prunable_parameters(model)`.
            smoothing: averages the scores of the steps between decisions; default: a decision uses
                the scores of its own step.
            allocation: the allowed masks apart from the number of ones; default: any.
            curvature: called at each decision for h by name; default: AdamW's second moment.
            loss: called at decisions for the mean loss of the step's rows with the current weights,
                without dropout. With it the loss change of each decision is measured, by two
                evaluations; a trust region needs it, for two more and one per rejected trial step.
            revive_zeros: treat the zeros that the model starts with as any other weights: the
                schedule starts at 0, and a decision may keep them.
            start: masks by name that no decision leaves, as `start.masks` of an earlier pruner;
                default: where the weights are not zero now.
            on_decision: called with (step, importance, decision) at each decision, before the mask
                is applied, so `masks` are still the masks of the previous decision. The importance
                is computed from the weights at each access; `dict(importance)` keeps it.
            on_trust_region: called before `on_decision` with (importance, program, decision) if the
                criterion is a trust region; the program computes s and c at each access.

        Raises:
            ParameterError: a prunable parameter is frozen or not in the optimiser.
            SettingError: the optimiser takes no hooks.
            ObservationError: the criterion reads a curvature or the loss, and there is no source.
            CriterionError: the smoothing averages scores that cannot be averaged.
            CardinalityError: the model starts sparser than the schedule ends, or the schedule does
                not end with the pattern.
        """
        optimizer = unwrapped_optimizer(optimizer, "Pruner")
        self.parameters = resolve_parameters(model, parameters)
        require_trained(self.parameters, optimizer)
        self.criterion = find_criterion(criterion) if isinstance(criterion, str) else criterion
        self.schedule = schedule
        self.smoothing = smoothing or NoSmoothing()
        self.allocation = allocation or Allocation()
        self.settings = fingerprint(self.criterion, self.schedule, self.smoothing, self.allocation)
        self.steps = 0
        self.decision: Decision | None = None
        self.loss_change: LossChange | None = None  # of the latest decision
        self.radius_factor = 1.0  # factor on the radius of a trust region
        self.observations: StepObservations | None = None  # of a decision, for the hooks
        self.settings["revive_zeros"] = revive_zeros
        if revive_zeros:
            start = {}
        self.start = Start.of(self.parameters) if start is None else Start(self.parameters, start)
        self._active = ActiveMasks(self.parameters)
        self._keep_free()
        self.group = self._active.group
        self.replicas = _replicas_of(model)
        self._optimizer = optimizer
        self._curvature = curvature
        self._loss = None if loss is None else loss_of_ranks(loss, model, self.parameters)
        self._on_decision = on_decision
        self._on_trust_region = on_trust_region
        self._due = False  # whether a decision waits for a step that the optimiser takes
        self._decided = self.start.sparsity  # the scheduled sparsity of the latest decision
        self._over = False  # whether an earlier training took the last decision
        require_sources(self.criterion, optimizer, curvature, loss)
        require_averageable(self.criterion, self.smoothing)
        self.views = views_of(model, self.parameters)
        self.allocation.require_final(schedule.sparsity(schedule.last))
        # raises now if no mask is allowed at the end
        self._require_room(self._tree(schedule.sparsity(schedule.last)))
        reads_before = Reads.BEFORE in self.criterion.reads
        wanted = (lambda: self._observes(self.steps + 1)) if reads_before else None
        self._hooks = OptimizerHooks(optimizer, self.parameters, wanted)
        if Reads.CURVATURE in self.criterion.reads:
            self.settings["curvature"] = "the optimiser's" if curvature is None else "given"

    @property
    def total(self) -> int:
        """n, the number of prunable weights."""
        return sum(parameter.numel() for parameter in self.parameters.values())

    @property
    def sparsity(self) -> float:
        """1 − kept ratio of the masks, counted."""
        return self._active.sparsity

    @property
    def pattern(self) -> Pattern | None:
        """The N:M at the sparsity that was decided last; None without a pattern."""
        return self.allocation.pattern_at(self._decided)

    @property
    def masks(self) -> dict[str, Tensor]:
        """The masks of the latest decision by name, True = keep: new tensors at each access."""
        return self._active.get()

    @property
    def finished(self) -> bool:
        """Whether the last decision was taken, in this training or in one that it continues."""
        return self._over or (self.steps >= self.schedule.last and not self._due)

    def tree(self, step: int) -> Node | TransposableNofM:
        """The allowed masks after a step."""
        tree = self._tree(self._sparsity(step))
        return tree if isinstance(tree, TransposableNofM) else self.start.inside(tree)

    def _tree(self, sparsity: Fraction) -> Node | TransposableNofM:
        found = self.allocation.constraint(sparsity, self.views)
        return found if isinstance(found, TransposableNofM) else found.tree(self.views)

    def _require_room(self, tree: Node | TransposableNofM) -> None:
        """Check that some mask inside the start is allowed, and that the criterion can find it."""
        if not isinstance(tree, TransposableNofM):
            self.start.require_room(tree)
            return
        tree.require_whole(self.group)
        tree.rows({name: parameter.shape for name, parameter in self.parameters.items()})
        if self.start.zeros:
            raise self.start.not_left_out("a transposable pattern")
        if isinstance(self.criterion, TrustRegion):
            raise CardinalityError(
                f"{self.allocation.pattern} is no tree of bounds, as a trust region needs: choose "
                "another criterion, or another pattern"
            )

    def _sparsity(self, step: int) -> Fraction:
        return max(sparsity_from(self.schedule, self.start.sparsity, step), self._decided)

    def _keep_free(self) -> None:
        """Make the masks those of the start."""
        self._active.set({**self._active.ones(), **self.start.masks})

    def _decides(self, step: int) -> bool:
        return not self._over and self.schedule.decides(step)

    def step(self) -> Decision | None:
        """Decide if a decision is due, and keep zeros; after `optimizer.step()`.

        Returns:
            The decision with its proof, or None.

        Raises:
            ObservationError: there is no gradient (was `zero_grad()` called first?), or the
                optimiser took no step.
            ImportanceError: a score is NaN or infinite.
        """
        # a criterion that reads only the weights needs no step
        taken = self._hooks.step_taken() or not self.criterion.reads
        if not taken:
            self._hooks.require_overflow()
        self.steps += 1
        self._due |= self._decides(self.steps)
        decision = None
        if taken and self._observes(self.steps):
            self.start.apply()  # scores and losses are of a model that has these zeros
            observations = self._observations()
            if self.smoothing.every_step:
                for name in observations.observed:
                    self.smoothing.update(name, self.criterion.importance(observations[name]))
            if self._due:
                decision = self._decide(observations)
        self._hooks.clear()
        if decision is None:
            self._keep_zeros()
        return decision

    def state_dict(self) -> dict[str, Any]:
        """What a training needs to resume: tensors by name in `TENSORS`, else JSON."""
        return {
            "steps": self.steps,
            "due": self._due,
            "finished": self.finished,
            "sparsity": str(self._decided),
            "settings": dict(self.settings),
            "masks": self.masks,
            "start": self.start.masks,
            "smoothing": sharded(self.smoothing.state_dict(), self.parameters),
            "radius_factor": self.radius_factor,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the state of another pruner of the same model with the same settings.

        The schedule may have another number of steps: a longer training goes on. Its sparsity does
        not fall; and if the earlier one took its last decision, these masks stay.

        Raises:
            MaskError: the masks belong to other parameters, or keys are missing, as they are in a
                state of an earlier version.
            CheckpointError: a setting differs.
        """
        if missing := STATE - state.keys():
            raise MaskError(
                f"load_state_dict() was given no {' and no '.join(sorted(missing))}: give the "
                "result of state_dict()"
            )
        require_same_tensors(self.parameters, state["masks"])
        require_same(state["settings"], self.settings)
        decided = Fraction(state["sparsity"])
        start = Start(self.parameters, state["start"])
        self.smoothing.load_state_dict(local_parts(state["smoothing"], self.parameters))
        self.start = start
        self._active.set(state["masks"])
        self._active.apply()
        self.steps, self._over = int(state["steps"]), bool(state["finished"])
        # a shorter schedule may have had its last decision already: the next step takes it
        self._due = not self._over and (bool(state["due"]) or self.steps >= self.schedule.last)
        self._decided = decided
        self.radius_factor = float(state["radius_factor"])

    def continue_from(self, earlier: "Pruner") -> None:
        """Begin at step 0 with the masks of an earlier pruner of the same weights.

        The sparsity does not fall; if the earlier one took its last decision, its masks stay.

        Raises:
            MaskError: the masks belong to other parameters.
        """
        self.start = Start(self.parameters, earlier.start.masks)
        self._active.set(earlier.masks)
        self._active.apply()
        self._decided, self._over = earlier._decided, earlier.finished

    def close(self) -> None:
        """Remove the hooks from the optimiser, after the last step."""
        self._hooks.remove()

    def _observes(self, step: int) -> bool:
        """Whether the scores of this step are needed, for an average or for a decision."""
        averaged = self.smoothing.every_step and not self._over and step <= self.schedule.last
        return averaged or self._due or self._decides(step)

    def _observations(self) -> StepObservations:
        reads = Reads.CURVATURE in self.criterion.reads
        curvature = self._curvature() if reads and self._curvature is not None else None
        return StepObservations(
            self.criterion,
            self.parameters,
            self._optimizer,
            before=self._hooks.before,
            curvature=curvature,
        )

    def _decide(self, observations: StepObservations) -> Decision:
        """Solve the program of this step, report the solution and apply its masks."""
        tree = self.tree(self.steps)
        before = None if self._loss is None else self._loss()
        solution = self._solution(observations, tree, before)
        decision = solution.decision
        self._due, self._decided = False, self._sparsity(self.steps)
        self.radius_factor = solution.factor
        predicted = 0.0 if before is None else first_order_change(self.parameters, decision.masks)
        self.observations = observations
        if self._on_trust_region is not None and solution.program is not None:
            assert isinstance(decision, TrustRegionDecision), "a trust region has a program"
            self._on_trust_region(solution.importance, solution.program, decision)
        if self._on_decision is not None:
            self._on_decision(self.steps, solution.importance, decision)
        self.observations = None
        self._active.set_local(decision.masks)
        # packed: without the n bytes of bools
        self.decision = replace(decision, masks=self._active.packed)
        self.smoothing.decided()
        self._keep_zeros()
        weights = decision.proof.keep * tree_block(decision.tree)
        self._active.require_exactly(weights, self.steps)
        require_same_masks(self._active.packed, self.steps, self.replicas)
        require_same_weights(self._active.local_parameters(), self.steps, self.replicas)
        if self._loss is not None and before is not None:
            after = self._loss() if solution.loss is None else solution.loss
            self.loss_change = LossChange(
                predicted, after - before, solution.multiplier, solution.reduction
            )
        return decision

    def _solution(
        self,
        observations: StepObservations,
        tree: Node | TransposableNofM,
        loss: float | None,
    ) -> Solution:
        if isinstance(self.criterion, TrustRegion):
            assert isinstance(tree, Node), "others are refused at the start"
            trial, weights = self._loss, self._active.local_parameters()
            assert trial is not None, "a trust region reads the loss"
            assert loss is not None, "a trust region reads the loss"
            return accepted_solution(
                self.criterion,
                observations,
                tree,
                tolerance=loss / (1 + max(self.schedule.end - self.steps, 0)),
                factor=self.radius_factor,
                trial_loss=lambda masks: loss_with(masks, weights, trial),
            )
        importance = Computed(
            observations.shapes,
            lambda name: (
                self.smoothing.importance(name)
                if self.smoothing.every_step
                and (name in observations.observed or self.smoothing.has(name))
                else self.criterion.importance(observations[name])
            ),
        )
        return Solution(importance, self._solve(importance, tree), self.radius_factor)

    def _solve(self, importance: Mapping[str, Tensor], tree: Node | TransposableNofM) -> Decision:
        return decide(importance, tree, self.group)

    def _keep_zeros(self) -> None:
        self._active.apply()


def _replicas_of(model: nn.Module) -> Group:
    """The ranks of DistributedDataParallel; without it this process alone."""
    for module in model.modules():
        if isinstance(module, nn.parallel.DistributedDataParallel):
            return ProcessGroup(module.process_group)
    return SINGLE_PROCESS
