"""PruningCallback: pruning in the Trainer of Hugging Face transformers."""

import warnings
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from pins.distributed.process_group import world
from pins.distributed.sharding import reshard
from pins.errors import CheckpointError, PinsError, ScheduleError, SettingError
from pins.importance.criteria import find_criterion
from pins.importance.criterion import Criterion, Reads
from pins.importance.smoothing import default_smoothing, find_smoothing
from pins.masks import count_broken
from pins.models.parameters import prunable_parameters
from pins.models.self_distillation import SelfRegularizer
from pins.pruning.fingerprint import require_same
from pins.pruning.keep_zeros import KeptZeros
from pins.pruning.keep_zeros import keep_zeros as keep_zeros_of
from pins.pruning.pruner import OnDecision, Pruner
from pins.pruning.schedules import Schedule, find_schedule, paper_phases, schedule_of_run
from pins.selection.allocation import Allocation
from pins.selection.constraints import exact_ratio
from pins.trainer import checkpoint
from pins.trainer.checkpoint import PruningCheckpoint
from pins.trainer.optimizer import torch_optimizer

KEPT = {"criterion": "keep_zeros"}  # the settings in a checkpoint without decisions


class PruningCallback(TrainerCallback):
    """Prunes while a Trainer trains; the Trainer's checkpoints include the state of the pruning.

    When training ends, `masks` have exactly the requested sparsity. A resumed training has the
    settings of its checkpoint, but may have another number of steps; its sparsity does not fall. A
    second training with the same callback and model keeps the zeros, and goes on if the first one
    ended early; to prune further, give a new callback, which starts with the zeros of the model.

    A decision changes the model, so the best checkpoint (`load_best_model_at_end`, early stopping)
    is the best since the last decision: at the end, a checkpoint with the final masks.

    The Trainer's history has the sparsity next to each loss. Reporting callbacks see it only if
    they come after this one: `callbacks=[PruningCallback(...), TensorBoardCallback()]` with
    `report_to="none"`. With `PruningTrainer` all of them see it.

    Attributes:
        pruner: of the current training; None before it, and with `keep_zeros`.
        regularizer: of a `PruningTrainer` in training.
    """

    def __init__(
        self,
        sparsity: float | Fraction | None = None,
        criterion: str | Criterion = "abs-pins",
        *,
        schedule: str | Schedule = "cubic",
        warmup: int | None = None,
        cooldown: int | None = None,
        interval: int = 10,
        smoothing: str | None = None,
        allocation: Allocation | None = None,
        include: str | None = None,
        keep_zeros: bool = False,
        revive_zeros: bool = False,
        on_decision: OnDecision | None = None,
    ) -> None:
        """Configure the pruning; the Trainer gives model, optimiser and number of steps.

        Args:
            sparsity: 1 − kept ratio at the end; an allocation of exactly N:M has its own.
            criterion: a name in `pins.CRITERIA`, or a criterion. A criterion that reads the loss
                needs a `PruningTrainer`.
            schedule: a name in `pins.pruning.schedules.SCHEDULES`; or a schedule, which replaces
                sparsity, warm-up, cool-down and interval.
            warmup: steps before the first decision; default: the paper's share of the run.
            cooldown: steps after the last decision; default: the paper's share of the run.
            interval: steps between two decisions.
            smoothing: a name in `pins.importance.smoothing.SMOOTHINGS`; default: by the criterion.
            allocation: the allowed masks apart from the number of ones.
            include: a pattern for the names of the weights to prune.
            keep_zeros: take no decisions; keep the zeros of the prunable weights.
            revive_zeros: as in `Pruner`; by default the zeros that the model starts with stay zero.
            on_decision: as in `Pruner`.

        Raises:
            SettingError: not exactly one of sparsity, schedule object and keep_zeros; or both
                keep_zeros and revive_zeros.
            ScheduleError: the sparsity is not in [0, 1], or no schedule has this name.
            CardinalityError: the sparsity is not one of the pattern's.
            CriterionError: no criterion or smoothing has this name.
        """
        if sparsity is None and allocation is not None and isinstance(schedule, str):
            sparsity = None if keep_zeros else allocation.sparsity
        given = [sparsity is not None, isinstance(schedule, Schedule), keep_zeros]
        if sum(given) != 1:
            raise SettingError(
                "PruningCallback() takes a sparsity, a schedule object or keep_zeros=True, one of "
                f"them: it was given {sum(given)}"
            )
        if keep_zeros and revive_zeros:
            raise SettingError(
                "PruningCallback() was given keep_zeros and revive_zeros: leave one of them out"
            )
        if isinstance(schedule, str):
            find_schedule(schedule)
        if sparsity is not None:
            exact_ratio(sparsity)
            (allocation or Allocation()).require_final(sparsity)
        elif warmup is not None or cooldown is not None:
            raise SettingError(
                "PruningCallback() was given a warm-up or a cool-down: they go with a sparsity, a "
                "schedule object has its own"
            )
        if isinstance(criterion, str):
            criterion = find_criterion(criterion)
        self.sparsity, self.criterion, self.schedule = sparsity, criterion, schedule
        self.warmup, self.cooldown, self.interval = warmup, cooldown, interval
        self.smoothing = find_smoothing(smoothing or default_smoothing(criterion))
        self.allocation, self.include = allocation, include
        self.keep_zeros, self.revive_zeros = keep_zeros, revive_zeros
        self.on_decision = on_decision
        self.pruner: Pruner | None = None
        self.regularizer: SelfRegularizer | None = None
        # set by a PruningTrainer
        self.teach: Callable[[nn.Module], SelfRegularizer] | None = None
        self.loss: Callable[[nn.Module], float] | None = None
        self._kept: KeptZeros | None = None
        self._resumed: Path | None = None

    @property
    def masks(self) -> Mapping[str, Tensor]:
        """The masks by name, True = keep; empty before training."""
        return (self._kept or {}) if self.pruner is None else self.pruner.masks

    @property
    def current_sparsity(self) -> float:
        """1 − kept ratio of the masks, counted; 0 before training."""
        deciding = self.pruner or self._kept
        return deciding.sparsity if deciding is not None else 0.0

    def resume(self, folder: Path | str, model: nn.Module | None = None) -> None:
        """Resume the next training from a checkpoint.

        Needed for a plain Trainer that resumes from outside its `output_dir`, because it does not
        give its callbacks the folder.

        Args:
            folder: the folder of the checkpoint.
            model: the model of the checkpoint; default: checked when training begins.

        Raises:
            CheckpointError: the checkpoint was written without this callback, or is damaged.
        """
        parameters = None if model is None else prunable_parameters(model, self.include).parameters
        checkpoint.require(Path(folder), parameters)
        self._resumed = Path(folder)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Create the pruner for this model and optimiser; resume if training does."""
        model: nn.Module = given["model"]
        optimizer = torch_optimizer(given["optimizer"], model, deepspeed=bool(args.deepspeed))
        reshard(model)
        parameters = prunable_parameters(model, self.include)
        standing = self._found(args, state, model)
        if standing is not None:
            standing.require_weights(parameters.parameters, state.global_step)
        # not earlier: until now the Trainer may have moved, cast, loaded or created the model
        self.regularizer = None if self.teach is None else self.teach(model)
        earlier = None if standing is not None else self._same_training(parameters.parameters)
        # not the zeros of the model now: what this training pruned may be kept again
        start: Mapping[str, Tensor] | None = None if earlier is None else earlier.start.masks
        if standing is not None:
            start = standing.start
        self._remove_hooks()  # of a training that was stopped by an error
        if self.keep_zeros:
            masks = None if standing is None else standing.masks_on_devices(parameters.parameters)
            self._kept = keep_zeros_of(
                model, given["optimizer"], parameters=parameters, masks=masks
            )
        else:
            self.pruner = Pruner(
                model,
                optimizer,
                self.criterion,
                self._schedule(state.max_steps),
                parameters=parameters,
                smoothing=self.smoothing(),
                allocation=self.allocation,
                loss=self._loss_of(model),
                revive_zeros=self.revive_zeros,
                start=start,
                on_decision=self.on_decision,
            )
            if self.pruner.group.size == 1:  # the Trainer does not show its wrapper of the model
                self.pruner.replicas = world()
        if standing is not None:
            self._go_on(standing)
        elif earlier is not None and self.pruner is not None:
            self.pruner.continue_from(earlier)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Decide if a decision is due, and keep zeros."""
        if self.pruner is not None and self.pruner.step() is not None:
            # the best checkpoint so far has other masks than the model
            state.best_metric = state.best_global_step = state.best_model_checkpoint = None

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Add the exact sparsity to the training logs."""
        logs = given.get("logs") or {}
        if "loss" in logs and "sparsity" not in logs:
            logs["sparsity"] = self.current_sparsity
            if state.log_history:
                state.log_history[-1]["sparsity"] = logs["sparsity"]

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Write the state of the pruning into the Trainer's checkpoint."""
        folder = _checkpoint(args, state)
        if not folder.is_dir():
            return  # a hyperparameter search has other folders and never resumes
        teacher = None if self.regularizer is None else self.regularizer.state_dict()
        if self.pruner is None:
            standing = PruningCheckpoint(state.global_step, self.masks, KEPT, teacher=teacher)
        else:
            standing = PruningCheckpoint(**self.pruner.state_dict(), teacher=teacher)
        if standing.sharded or state.is_world_process_zero:
            standing.save(folder)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Warn if training ended before the last decision."""
        self._remove_hooks()
        if self.pruner is not None and not self.pruner.finished:
            warnings.warn(
                f"training ended after step {state.global_step}, and the last pruning decision is "
                f"due after step {self.pruner.schedule.last}: the model is {self.current_sparsity} "
                "sparse, less than requested",
                stacklevel=2,
            )

    def _schedule(self, steps: int) -> Schedule:
        schedule = self.schedule
        if isinstance(schedule, str):
            assert self.sparsity is not None
            warmup, cooldown = paper_phases(steps)
            schedule = schedule_of_run(
                schedule,
                sparsity=self.sparsity,
                steps=steps,
                warmup=warmup if self.warmup is None else self.warmup,
                cooldown=cooldown if self.cooldown is None else self.cooldown,
                interval=self.interval,
            )
        if (late := schedule.last - steps) > 0:
            raise ScheduleError(
                f"the last pruning decision is due after step {schedule.last}, and the Trainer "
                f"takes {steps}: {late} too few; train longer, or prune earlier"
            )
        return schedule

    def _remove_hooks(self) -> None:
        for each in (self.pruner, self._kept):
            if isinstance(each, Pruner):
                each.close()
            elif each is not None:
                each.remove()

    def _same_training(self, parameters: Mapping[str, Tensor]) -> Pruner | None:
        """The pruner of an earlier training; a model that lacks the zeros of its masks is new."""
        if (earlier := self.pruner) is None:
            return None
        shapes = [
            {n: p.shape for n, p in each.items()} for each in (earlier.parameters, parameters)
        ]
        same = shapes[0] == shapes[1] and not count_broken(earlier.masks, parameters)
        return earlier if same else None

    def _loss_of(self, model: nn.Module) -> Callable[[], float] | None:
        """The loss of a step's rows; None if the criterion does not read it."""
        if Reads.LOSS not in self.criterion.reads:
            return None
        if self.loss is None:
            raise SettingError(
                f"criterion {self.criterion.name!r} reads the loss of each step's rows, which a "
                "plain Trainer does not give its callbacks: use PruningTrainer(pruning=...)"
            )
        return partial(self.loss, model)

    def _found(
        self, args: TrainingArguments, state: TrainerState, model: nn.Module
    ) -> PruningCheckpoint | None:
        """The state in the checkpoint that the Trainer has loaded; None without one."""
        folder, self._resumed = self._resumed, None
        if not state.global_step:
            return None
        return checkpoint.load(folder or _checkpoint(args, state), model)

    def _go_on(self, standing: PruningCheckpoint) -> None:
        """Restore pruner and teacher; the Trainer has restored the model."""
        try:
            if self.pruner is None:
                require_same(standing.settings, KEPT)
            else:
                self.pruner.load_state_dict(standing.pruner_state(self.pruner.parameters))
            if self.regularizer is not None:
                if standing.teacher is None:
                    raise ValueError("it was written without self-regularisation")
                self.regularizer.load_state_dict(*standing.teacher)
        except (PinsError, ValueError) as error:
            raise CheckpointError(
                f"the checkpoint {standing.folder} does not fit this training: {error}"
            ) from error


def _checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    """The folder of the Trainer's checkpoint of this step."""
    return Path(str(args.output_dir), f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}")
