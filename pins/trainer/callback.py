"""PruningCallback: prune while the Trainer of Hugging Face transformers trains."""

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from pins.distributed.sharding import reshard
from pins.errors import CheckpointError, PinsError, ScheduleError, SettingError
from pins.importance.criteria import find_criterion
from pins.importance.criterion import Criterion, Reads
from pins.importance.smoothing import default_smoothing, find_smoothing
from pins.masks import count
from pins.models.parameters import prunable_parameters
from pins.models.self_distillation import SelfRegularizer
from pins.pruning.keep_zeros import keep_zeros as keep_zeros_of
from pins.pruning.pruner import OnDecision, Pruner
from pins.pruning.schedules import Schedule, find_schedule, paper_phases, schedule_of_run
from pins.selection.allocation import Scope
from pins.selection.constraints import exact_ratio
from pins.trainer import checkpoint
from pins.trainer.checkpoint import PruningCheckpoint
from pins.trainer.optimizer import torch_optimizer


class PruningCallback(TrainerCallback):
    """Prunes while a Trainer trains; its checkpoints hold what is needed to go on.

    The masks in force are `masks`, and exactly as sparse as asked for when training ends. A
    decision changes the model, so the best checkpoint (`load_best_model_at_end`, early stopping) is
    the best since the last decision: in the end, one with the final masks.

    The sparsity stands in the Trainer's history beside each loss. Of the callbacks that report,
    those after this one see it: `callbacks=[PruningCallback(...), TensorBoardCallback()]` with
    `report_to="none"`. With `PruningTrainer` all do.

    Attributes:
        pruner: of the training; None before it, and where zeros are kept.
        regularizer: of a `PruningTrainer` in training.
    """

    def __init__(
        self,
        sparsity: float | None = None,
        criterion: str | Criterion = "abs-pins",
        *,
        schedule: str | Schedule = "cubic",
        warmup: int | None = None,
        cooldown: int | None = None,
        interval: int = 10,
        smoothing: str | None = None,
        scope: Scope | None = None,
        include: str | None = None,
        keep_zeros: bool = False,
        on_decision: OnDecision | None = None,
    ) -> None:
        """Say what to do; the Trainer brings model, optimiser and number of steps.

        Args:
            sparsity: 1 − kept ratio to reach.
            criterion: of `pins.CRITERIA`, or a criterion. One that reads the loss needs a
                `PruningTrainer`.
            schedule: of `pins.pruning.schedules.SCHEDULES`; or a schedule, which says all the rest.
            warmup: steps before the first decision; default: the paper's share of the run.
            cooldown: steps after the last decision; default: the paper's share of the run.
            interval: steps from one decision to the next.
            smoothing: of `pins.importance.smoothing.SMOOTHINGS`; default: that of the criterion.
            scope: which masks are allowed beside the number of ones.
            include: a pattern for the names of the weights to prune.
            keep_zeros: take no decisions; keep the zeros that the prunable weights have.
            on_decision: as in `Pruner`.

        Raises:
            SettingError: neither a sparsity, nor a schedule, nor zeros to keep; or too many.
            ScheduleError: the sparsity is no ratio, or there is no such schedule.
            CriterionError: there is no such criterion or smoothing.
        """
        given = [sparsity is not None, isinstance(schedule, Schedule), keep_zeros]
        if sum(given) != 1:
            raise SettingError(
                "PruningCallback() takes a sparsity, a schedule object or keep_zeros=True, one of "
                f"them: it was given {sum(given)}"
            )
        if isinstance(schedule, str):
            find_schedule(schedule)
        if sparsity is not None:
            exact_ratio(sparsity)
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
        self.scope, self.include = scope, include
        self.keep_zeros = keep_zeros
        self.on_decision = on_decision
        self.pruner: Pruner | None = None
        self.regularizer: SelfRegularizer | None = None
        # of a PruningTrainer
        self.teach: Callable[[nn.Module], SelfRegularizer] | None = None
        self.loss: Callable[[nn.Module], float] | None = None
        self._kept: Mapping[str, Tensor] = {}
        self._kept_sparsity = 0.0
        self._resumed: Path | None = None

    @property
    def masks(self) -> Mapping[str, Tensor]:
        """The masks in force, True = keep; none before training."""
        return self._kept if self.pruner is None else self.pruner.masks

    @property
    def current_sparsity(self) -> float:
        """1 − kept ratio of the masks in force, counted; 0 before training."""
        return self._kept_sparsity if self.pruner is None else self.pruner.sparsity

    def resume(self, folder: Path | str, model: nn.Module | None = None) -> None:
        """Read where the pruning stood at a checkpoint; the training that resumes goes on there.

        Needed for a plain Trainer that resumes from outside its `output_dir`: it does not tell its
        callbacks from where.

        Args:
            folder: of the checkpoint.
            model: whose weights they must be; default: that is seen when training begins.

        Raises:
            CheckpointError: the checkpoint was written without this callback, or is damaged.
        """
        parameters = None if model is None else prunable_parameters(model, self.include).parameters
        checkpoint.require(Path(folder), parameters)
        self._resumed = Path(folder)

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        model: nn.Module | None = None,
        optimizer: Any = None,
        **_: Any,
    ) -> None:
        """Take model, optimiser and number of steps; go on from a checkpoint, if training does."""
        assert model is not None, "the Trainer gives its model"
        optimizer = torch_optimizer(optimizer, model, deepspeed=bool(args.deepspeed))
        reshard(model)
        parameters = prunable_parameters(model, self.include)
        standing = self._found(args, state, model)
        if standing is not None:
            standing.require_weights(parameters.parameters, state.global_step)
        # not before: until now the model may have been moved, cast, loaded or made anew
        self.regularizer = None if self.teach is None else self.teach(model)
        if self.keep_zeros:
            masks = None if standing is None else standing.masks_on_devices(parameters.parameters)
            self._kept = keep_zeros_of(model, optimizer, parameters=parameters, masks=masks)
            self._kept_sparsity = count(self._kept).sparsity
        else:
            self.pruner = Pruner(
                model,
                optimizer,
                self.criterion,
                self._fitting_schedule(state.max_steps),
                parameters=parameters,
                smoothing=self.smoothing(),
                scope=self.scope,
                loss=self._loss_of(model),
                on_decision=self.on_decision,
            )
        if standing is not None:
            self._go_on(standing)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Decide, where it is time, and keep zeros."""
        if self.pruner is not None and self.pruner.step() is not None:
            # the best so far has other masks than the model has from now on
            state.best_metric = state.best_global_step = state.best_model_checkpoint = None

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Add the exact sparsity to the logs of training."""
        if logs is not None and "loss" in logs and "sparsity" not in logs:
            logs["sparsity"] = self.current_sparsity
            if state.log_history:
                state.log_history[-1]["sparsity"] = logs["sparsity"]

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Write the state of pruning beside the checkpoint of the Trainer."""
        folder = _checkpoint(args, state)
        if not folder.is_dir():
            return  # a search for hyperparameters has folders of its own and never resumes
        teacher = None if self.regularizer is None else self.regularizer.state_dict()
        if self.pruner is None:
            standing = PruningCheckpoint(state.global_step, self.masks, teacher=teacher)
        else:
            standing = PruningCheckpoint(**self.pruner.state_dict(), teacher=teacher)
        if standing.sharded or state.is_world_process_zero:
            standing.save(folder)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Warn where training ended before the last decision."""
        if self.pruner is not None and not self.pruner.finished:
            warnings.warn(
                f"training ended after step {state.global_step}, and the last pruning decision is "
                f"due after step {self.pruner.schedule.last}: the model is {self.current_sparsity} "
                "sparse, less than asked for",
                stacklevel=2,
            )

    def _fitting_schedule(self, steps: int) -> Schedule:
        schedule = self._made_schedule(steps)
        if (late := schedule.last - steps) > 0:
            raise ScheduleError(
                f"the last pruning decision is due after step {schedule.last}, and the Trainer "
                f"takes {steps}: {late} too few; train longer, or prune earlier"
            )
        return schedule

    def _made_schedule(self, steps: int) -> Schedule:
        if not isinstance(self.schedule, str):
            return self.schedule
        assert self.sparsity is not None
        warmup, cooldown = paper_phases(steps)
        return schedule_of_run(
            self.schedule,
            sparsity=self.sparsity,
            steps=steps,
            warmup=warmup if self.warmup is None else self.warmup,
            cooldown=cooldown if self.cooldown is None else self.cooldown,
            interval=self.interval,
        )

    def _loss_of(self, model: nn.Module) -> Callable[[], float] | None:
        """The loss of a step's rows, where the criterion reads it."""
        if Reads.LOSS not in self.criterion.reads:
            return None
        if self.loss is None:
            raise SettingError(
                f"criterion {self.criterion.name!r} reads the loss of each step's rows, and a "
                "plain Trainer tells its callbacks none: use PruningTrainer(pruning=...)"
            )
        return partial(self.loss, model)

    def _found(
        self, args: TrainingArguments, state: TrainerState, model: nn.Module
    ) -> PruningCheckpoint | None:
        """Where the pruning stood at the checkpoint that the Trainer has loaded, if it has."""
        folder, self._resumed = self._resumed, None
        if not state.global_step:
            return None
        return checkpoint.load(folder or _checkpoint(args, state), model)

    def _go_on(self, standing: PruningCheckpoint) -> None:
        """Let pruner and teacher stand there; the model does already."""
        try:
            if self.pruner is not None:
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
    """The folder of this step's checkpoint, as the Trainer names it."""
    return Path(str(args.output_dir), f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}")
