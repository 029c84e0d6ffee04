"""Prune with the Trainer of Hugging Face transformers: a callback, and a Trainer with the loss.

Trainer(..., callbacks=[PruningCallback(sparsity=0.8)])            prunes
PruningTrainer(..., pruning=PruningCallback(sparsity=0.8))         and regularises itself
Trainer(..., callbacks=[PruningCallback(keep_zeros=True)])         goes on with a sparse model
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pins.checkpoints import nested
from pins.criteria import Criterion
from pins.errors import CheckpointError, SettingError
from pins.files import load_tensors, save_tensors
from pins.heads import Head
from pins.masks import count
from pins.parameters import prunable_parameters
from pins.pruner import OnDecision, Pruner
from pins.schedules import OneShotSchedule, Schedule, find_schedule, paper_phases
from pins.scope import Scope
from pins.self_regularization import SelfRegularizer
from pins.smoothing import find_smoothing
from pins.zeros import keep_zeros as keep_zeros_of

STATE = "pins.safetensors"  # beside the Trainer's own files in a checkpoint
FORMAT = {"format": "pins-trainer-state", "version": "1"}


class PruningCallback(TrainerCallback):
    """Prunes while a Trainer trains; its checkpoints hold what is needed to go on.

    The masks are those of `pruner.masks`, and exactly as sparse as asked for when training ends.
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
        smoothing: str = "uncertainty",
        scope: Scope | None = None,
        include: str | None = None,
        keep_zeros: bool = False,
        on_decision: OnDecision | None = None,
    ) -> None:
        """Say what to do; the Trainer brings model, optimiser and number of steps.

        Args:
            sparsity: 1 − kept ratio to reach.
            criterion: of `pins.CRITERIA`, or a criterion.
            schedule: of `pins.schedules.SCHEDULES`; or a schedule, which says all the rest.
            warmup: steps before the first decision; default: the paper's share of the run.
            cooldown: steps after the last decision; default: the paper's share of the run.
            interval: steps from one decision to the next.
            smoothing: of `pins.smoothing.SMOOTHINGS`.
            scope: which masks are allowed beside the number of ones.
            include: a pattern for the names of the weights to prune.
            keep_zeros: take no decisions; keep the zeros that the model has.
            on_decision: as in `Pruner`.

        Raises:
            SettingError: neither a sparsity, nor a schedule, nor zeros to keep; or too many.
        """
        given = [sparsity is not None, isinstance(schedule, Schedule), keep_zeros]
        if sum(given) != 1:
            raise SettingError(
                "PruningCallback() takes a sparsity, a schedule object or keep_zeros=True, one of "
                f"them: it was given {sum(given)}"
            )
        self.sparsity, self.criterion, self.schedule = sparsity, criterion, schedule
        self.warmup, self.cooldown, self.interval = warmup, cooldown, interval
        self.smoothing, self.scope, self.include = smoothing, scope, include
        self.keep_zeros = keep_zeros
        self.on_decision = on_decision
        self.regularizer: SelfRegularizer | None = None  # of a PruningTrainer
        self.resume_from: Path | None = None
        self.pruner: Pruner | None = None
        self.masks: Mapping[str, Tensor] = {}

    @property
    def current_sparsity(self) -> float:
        """1 − kept ratio of the masks in force, counted; 0 before training."""
        if self.pruner is not None:
            return self.pruner.sparsity
        return count(self.masks).sparsity

    def on_train_begin(  # noqa: D102 - the Trainer's interface documents it
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        model: nn.Module | None = None,
        optimizer: Any = None,
        **_: Any,
    ) -> None:
        assert model is not None, "the Trainer gives its model"
        optimizer = _torch_optimizer(optimizer)
        parameters = prunable_parameters(model, self.include)
        if self.keep_zeros:
            self.masks = keep_zeros_of(model, optimizer, parameters=parameters)
            return
        self.pruner = Pruner(
            model,
            optimizer,
            self.criterion,
            self._schedule(state.max_steps),
            parameters=parameters,
            smoothing=find_smoothing(self.smoothing)(),
            scope=self.scope,
            on_decision=self.on_decision,
        )
        if state.global_step:
            folder = self.resume_from or Path(str(args.output_dir), _name(state))
            self._load(folder / STATE)

    def on_optimizer_step(  # noqa: D102 - the Trainer's interface documents it
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if self.pruner is not None:
            self.pruner.step()

    def on_log(  # noqa: D102 - the Trainer's interface documents it
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        # reaches the history and the callbacks after this one; PruningTrainer reaches them all
        if logs is not None and "loss" in logs:
            logs["sparsity"] = self.current_sparsity
            if state.log_history:
                state.log_history[-1]["sparsity"] = self.current_sparsity

    def on_save(  # noqa: D102 - the Trainer's interface documents it
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        folder = Path(str(args.output_dir), _name(state))
        if self.pruner is not None and state.is_world_process_zero and folder.is_dir():
            self._save(folder / STATE)

    def _schedule(self, steps: int) -> Schedule:
        if not isinstance(self.schedule, str):
            return self.schedule
        assert self.sparsity is not None
        warmup, cooldown = paper_phases(steps)
        warmup = warmup if self.warmup is None else self.warmup
        cooldown = cooldown if self.cooldown is None else self.cooldown
        kind = find_schedule(self.schedule)
        if kind is OneShotSchedule:
            return OneShotSchedule(self.sparsity, at=warmup + 1)
        return kind(
            steps=steps,
            final_sparsity=self.sparsity,
            warmup=warmup,
            cooldown=cooldown,
            interval=self.interval,
        )

    def _save(self, file: Path) -> None:
        assert self.pruner is not None
        state = self.pruner.state_dict()
        groups: dict[str, Mapping[str, Tensor]] = {
            "masks": state["masks"],
            "smoothing": state["smoothing"] or {},
        }
        scalars: dict[str, Any] = {"steps": state["steps"], "due": state["due"]}
        if self.regularizer is not None:
            groups["teacher"], scalars["teacher"] = self.regularizer.state_dict()
        tensors = {f"{g}/{name}": t for g, named in groups.items() for name, t in named.items()}
        save_tensors(tensors, file, {**FORMAT, "scalars": json.dumps(scalars)})

    def _load(self, file: Path) -> None:
        assert self.pruner is not None
        if not file.is_file():
            raise CheckpointError(
                f"{file} is missing: training resumes from a checkpoint that was not written with "
                "PruningCallback; with a plain Trainer, it must be in output_dir"
            )
        tensors, metadata = load_tensors(file)
        try:
            if {key: metadata.get(key) for key in FORMAT} != FORMAT:
                raise ValueError("its metadata names another format")
            scalars = json.loads(metadata["scalars"])
            device = next(iter(self.pruner.parameters.values())).device
            masks = {name: mask.to(device) for name, mask in nested(tensors, "masks").items()}
            self.pruner.load_state_dict(
                {
                    "steps": scalars["steps"],
                    "due": scalars["due"],
                    "masks": masks,
                    "smoothing": nested(tensors, "smoothing"),
                }
            )
            if self.regularizer is not None:
                self.regularizer.load_state_dict(nested(tensors, "teacher"), scalars["teacher"])
        except (KeyError, ValueError, TypeError) as error:
            raise CheckpointError(f"{file} does not fit this training: {error}") from error


class PruningTrainer(Trainer):
    """A Trainer that prunes, and mixes its loss with the divergence from its latest best checkpoint.

    The score that makes a checkpoint the best is `metric_for_best_model`, else the loss, at each
    evaluation; set `eval_strategy`, or the first teacher stays.
    """

    def __init__(
        self,
        *args: Any,
        pruning: PruningCallback,
        self_regularization: bool = True,
        teacher: nn.Module | None = None,
        head: Head | None = None,
        temperature: float = 2.0,
        **options: Any,
    ) -> None:
        """A Trainer with pruning.

        Args:
            *args: of `transformers.Trainer`.
            pruning: what to prune and when.
            self_regularization: whether to mix the loss.
            teacher: a dense fine-tuned model to begin with; default: the model itself.
            head: what the model predicts; default: by the name of its class.
            temperature: T of the divergence.
            **options: of `transformers.Trainer`.
        """
        super().__init__(*args, **options)
        self.pruning = pruning
        self.regularizer: SelfRegularizer | None = None
        if self_regularization:
            assert isinstance(self.model, nn.Module)
            self.regularizer = SelfRegularizer(
                self.model,
                teacher=teacher,
                head=head,
                temperature=temperature,
                higher_is_better=self._higher_is_better(),
            )
            pruning.regularizer = self.regularizer
        self.add_callback(pruning)

    def train(
        self, resume_from_checkpoint: str | bool | None = None, *args: Any, **options: Any
    ) -> Any:
        """As `Trainer.train`; a checkpoint given as a path is where pruning goes on, too."""
        if isinstance(resume_from_checkpoint, str):
            self.pruning.resume_from = Path(resume_from_checkpoint)
        return super().train(resume_from_checkpoint, *args, **options)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor | Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """The mixed loss in training, the model's own in evaluation."""
        if self.regularizer is None or not model.training:
            result: Tensor | tuple[Tensor, Any] = super().compute_loss(
                model, inputs, return_outputs, num_items_in_batch
            )
            return result
        outputs = model(**inputs)
        loss = self.regularizer.loss(outputs, inputs, num_items=num_items_in_batch)
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            loss = loss * self.accelerator.num_processes  # each process divides by all their rows
        return (loss, outputs) if return_outputs else loss

    def evaluate(self, *args: Any, **options: Any) -> dict[str, float]:
        """As `Trainer.evaluate`; in training, the model is offered as teacher afterwards."""
        metrics: dict[str, float] = super().evaluate(*args, **options)
        if self.regularizer is not None and self.is_in_train:
            score = metrics.get(self._metric())
            if score is not None:
                self.regularizer.update(score, self.pruning.current_sparsity)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As `Trainer.log`, with the exact sparsity beside the loss."""
        if "loss" in logs:
            logs["sparsity"] = self.pruning.current_sparsity
        super().log(logs, start_time)

    def _metric(self) -> str:
        name = self.args.metric_for_best_model or "loss"
        return name if name.startswith("eval_") else f"eval_{name}"

    def _higher_is_better(self) -> bool:
        if self.args.greater_is_better is not None:
            return bool(self.args.greater_is_better)
        return not self._metric().endswith("loss")


def _torch_optimizer(optimizer: Any) -> Optimizer:
    """The optimiser that takes the steps: accelerate wraps it in one of its own."""
    inner = getattr(optimizer, "optimizer", optimizer)
    assert isinstance(inner, torch.optim.Optimizer), "the Trainer gives its optimiser"
    return inner


def _name(state: TrainerState) -> str:
    return f"checkpoint-{state.global_step}"
