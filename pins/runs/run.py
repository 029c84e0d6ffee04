"""A run of `pins prune`: load, fine-tune and prune, evaluate, save; it resumes at any step."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pins.distributed import rng
from pins.distributed.collectives import on_rank_zero
from pins.distributed.consistency import require_same_run
from pins.distributed.launch import local_rank
from pins.distributed.process_group import Group, world
from pins.errors import CheckpointError, ModelError, SettingError, TaskError
from pins.importance.curvature.adam import adam_second_moment, has_second_moment
from pins.importance.trust_region.program import TrustRegionDecision, TrustRegionProgram
from pins.models.batches import Encoded
from pins.models.pretrained import Pretrained, load_model
from pins.runs import checkpoints, weight_sample
from pins.runs.finetuning import FineTuning
from pins.runs.fingerprint import fingerprint
from pins.runs.folder import CHECKPOINTS, COSTS, SAMPLE, SCORES, require_free, require_writable
from pins.runs.history import History, StepSummary, decision_row
from pins.runs.inputs import are_kept, input_files
from pins.runs.microbatches import evaluation_rows, microbatches
from pins.runs.settings import Settings
from pins.runs.weight_sample import WeightSample
from pins.selection.select import Decision
from pins.tasks import Scores, Task, load_task
from pins.utils.devices import Device, choose_device
from pins.utils.io import save_tensors
from pins.utils.lazy_tensors import Computed

SCORES_FORMAT: Mapping[str, str] = {"format": "pins-scores", "version": "1"}


class Run:
    """A run from its start to its last step.

    A resumed run repeats the uninterrupted one bit for bit, on the same device with the same
    number of threads and ranks. With other numbers it resumes too, but sums are rounded in another
    order and dropout draws other numbers.

    Under `torch.distributed`, all ranks make the same run and call the same methods; they divide
    the rows of each step, and rank 0 alone evaluates and writes.

    run = Run(Settings(task="stdlib-docs", steps=100), Path("out"))
    for step in run.steps():
        print(step.step, step.loss, step.sparsity)
    print(run.test())
    """

    def __init__(self, settings: Settings, out: Path, *, resume: bool = False) -> None:
        """Load the task and the model; with `resume`, the last checkpoint in `out` as well.

        Args:
            settings: of the run.
            out: an empty or new folder; with `resume`, the folder of a run.
            resume: continue from the last checkpoint; from the start if there is none.

        Raises:
            PinsError: a setting, the task, the model or the checkpoint does not fit.
        """
        self.group: Group = world()
        on_rank_zero(self.group, lambda: require_free(out, resume))
        self.out, self.seed = out, settings.seed
        self.task: Task = load_task(settings.task, settings.data)
        train, held_out = self.task.hold_out(
            self._drawn(self.task.train, settings.train_rows), self.seed
        )
        test = self._drawn(self.task.test, settings.test_rows)
        every = len(self.task.test)
        self.test_sample = None if len(test) == every else {"rows": len(test), "of": every}
        self.pretrained = self.load(settings.model)
        length = self._length(settings.max_length)
        self.train = self._encode(train, length, train=True)
        self.held_out = self._encode(held_out, length, train=False)
        self.test_rows = self._encode(test, length, train=False)
        self.settings = replace(settings, max_length=length).resolved(
            self.task.recipe, len(self.train)
        )
        self.device: Device = choose_device(
            settings.device, settings.precision, local_rank=local_rank(self.group)
        )
        teacher = None if settings.teacher is None else self._fine_tuned(settings.teacher)
        self.history = History([], [], [], [])
        self.training = FineTuning(
            self.pretrained.model,
            self.pretrained.head,
            self.settings,
            self.device,
            group=self.group,
            higher_is_better=self.task.higher_is_better,
            teacher=None if teacher is None else teacher.model,
            on_decision=self._record_decision,
            on_trust_region=self._save_region_scores,
        )
        self._require_loaded()
        self.fingerprint = fingerprint(
            self.settings,
            self.pretrained.folder,
            None if teacher is None else teacher.folder,
            self.task,
        )
        rng.seed_rank(settings.seed, self.group)  # for dropout; a checkpoint has its own state
        if resume:
            self._resume(out / CHECKPOINTS)
        self.notice: str | None = self.history.take_over(self.step)
        require_same_run(self.fingerprint, self.step, self.group)
        regularizer = self.training.regularizer
        if teacher is not None and regularizer is not None and not self.step:
            # the first candidate, which later ones are compared with; a checkpoint knows it already
            regularizer.update(self._held_out_score(teacher), 0)
        on_rank_zero(self.group, lambda: require_writable(out))

    @property
    def step(self) -> int:
        """The number of steps taken."""
        return self.training.pruner.steps

    def steps(self) -> Iterator[StepSummary]:
        """Take the remaining steps one at a time, with evaluations and checkpoints."""
        settings = self.settings
        assert settings.steps is not None
        assert settings.batch_size is not None
        assert settings.evaluate_every is not None
        assert settings.checkpoint_every is not None
        stream = self.train.stream(settings.batch_size, seed=settings.seed, start=self.step)
        for batch in islice(stream, settings.steps - self.step):
            loss = self.training.step(microbatches(batch, settings.accumulation))
            self.history.losses.append(loss)
            self._record_measurement()
            last = self.step == settings.steps
            # the authors' calendar counts from 0: an evaluation sees the decision of its step
            count = self.step - int(self.training.quirks.calendar)
            if (count and count % settings.evaluate_every == 0) or last:
                self._evaluate()
            if self.step % settings.checkpoint_every == 0 or last:
                self.checkpoint()
            pruner = self.training.pruner
            yield StepSummary(
                self.step,
                settings.steps,
                loss,
                pruner.sparsity,
                self.score,
                None if pruner.pattern is None else str(pruner.pattern),
            )

    @property
    def score(self) -> float | None:
        """The headline metric of the last evaluation; None if it is not finite, or before it."""
        return self.history.evaluations[-1]["score"] if self.history.evaluations else None

    def test(self, pretrained: Pretrained | None = None) -> Scores:
        """The scores of the model, or of another one, on the test rows."""
        return self._scores(self.test_rows, pretrained or self.pretrained)

    def checkpoint(self) -> Path:
        """Save the state of the run."""
        tensors, scalars = self.training.state()

        def save() -> str:
            place = checkpoints.save(
                self.out / CHECKPOINTS,
                self.step,
                tensors,
                {"training": scalars, "record": vars(self.history)},
                self.fingerprint,
            )
            return str(place)

        return Path(on_rank_zero(self.group, save))

    def load(self, model: str) -> Pretrained:
        """A model with the head of this run's task."""
        return load_model(model, self.task.heads, self.task.labels, seed=self.seed)

    def _drawn(self, rows: Sequence[Any], number: int | None) -> Sequence[Any]:
        return rows if number is None else self.task.sample(rows, number, self.seed)

    def _fine_tuned(self, teacher: str) -> Pretrained:
        """A teacher: a model that already has a trained head for this task."""
        pretrained = self.load(teacher)
        if pretrained.drawn:
            raise ModelError(
                f"the teacher {teacher!r} has no {pretrained.drawn[0]!r} for {self.task.name}: "
                "give a model that was fine-tuned on the task, or none to begin with the model"
            )
        own, wanted = (
            ", ".join(each).lower() for each in (pretrained.saved_labels, self.task.labels)
        )
        if own and wanted and own != wanted:
            raise ModelError(
                f"the teacher {teacher!r} has the classes {own}, and {self.task.name} has "
                f"{wanted}, in this order: give a model that was fine-tuned on the task"
            )
        return pretrained

    def _require_loaded(self) -> None:
        """Refuse a model whose prunable weights were initialised at random; a new head may be."""
        drawn = self.training.pruner.parameters.keys() & set(self.pretrained.drawn)
        if drawn and self.settings.include is None:
            raise ModelError(
                f"{self.pretrained.folder} holds no {min(drawn)!r} as its configuration has it, "
                f"and {len(drawn) - 1} other such weights: give a model that was saved whole"
            )

    def _length(self, wanted: int | None) -> int:
        """The tokens of a row: the setting or the task's default, at most the model's positions."""
        most = self.pretrained.positions
        if most is not None and wanted is not None and wanted > most:
            raise SettingError(
                f"max_length is {wanted}, and the model has positions for {most} tokens: give at "
                "most as many"
            )
        length = wanted or self.task.recipe.max_length
        return length if most is None else min(length, most)

    def _encode(self, rows: Any, length: int, *, train: bool) -> Encoded:
        tokenizer, head = self.pretrained.tokenizer, self.pretrained.head
        encoded = self.task.encode(rows, tokenizer, length, head, train=train)
        if not len(encoded):
            raise TaskError(
                f"{len(rows)} rows of {self.task.name} have nothing to "
                f"{'learn from' if train else 'be judged by'}: give other data, or more rows"
            )
        return encoded

    def _scores(self, encoded: Encoded, pretrained: Pretrained) -> Scores:
        model = pretrained.model.to(self.device.device)
        with self.device.autocast():
            return self.task.evaluate(
                model,
                pretrained.tokenizer,
                encoded,
                pretrained.head,
                batch_size=evaluation_rows(self.settings),
            )

    def _held_out_score(self, pretrained: Pretrained) -> float:
        """The task's metric on the held-out rows, the same on every rank."""
        return on_rank_zero(
            self.group, lambda: self._scores(self.held_out, pretrained)[self.task.metric]
        )

    def _evaluate(self) -> None:
        """Evaluate the model on the held-out rows, and offer it as teacher."""
        score = self._held_out_score(self.pretrained)
        pruner, regularizer = self.training.pruner, self.training.regularizer
        losses, divergence = self.history.losses, self.training.divergence()
        if divergence is not None and not math.isfinite(divergence):
            divergence = None
        self.history.evaluations.append(
            {
                "step": self.step,
                "loss": sum(losses) / len(losses),
                "sparsity": pruner.sparsity,
                "score": score if math.isfinite(score) else None,  # JSON has finite numbers only
                "divergence": divergence,  # from the previous teacher
                "teacher": regularizer is not None and regularizer.update(score, pruner.sparsity),
            }
        )
        losses.clear()

    def _record_decision(
        self, step: int, importance: Mapping[str, Tensor], decision: Decision
    ) -> None:
        """Record the counts; save a sample of weights at the first, the scores at the last one."""
        if not self.history.decisions:
            sample = self._sample(step)
            on_rank_zero(self.group, lambda: weight_sample.save(sample, self.out / SAMPLE))
        pruner = self.training.pruner
        row = decision_row(step, pruner.masks, decision.masks)
        if pruner.pattern is not None:
            row["pattern"] = str(pruner.pattern)
        self.history.decisions.append({**row, "binding": list(decision.binding)})
        if self.training.pruner.finished and not isinstance(decision, TrustRegionDecision):
            self._save(importance, SCORES)
        observed = self.training.pruner.observations
        if self.training.pruner.finished and observed and are_kept(self.settings, decision):
            for file, tensors, header in input_files(self.settings.pruning_criterion(), observed):
                self._save(tensors, file, header)

    def _sample(self, step: int) -> WeightSample:
        """A sample of θ, g and, with Adam, its h, as the decision of this step reads them."""
        pruner, optimizer = self.training.pruner, self.training.optimizer
        weights = pruner.parameters

        def gradient(name: str) -> Tensor:
            found = weights[name].grad
            return torch.zeros_like(weights[name]) if found is None else found

        def curvature(name: str) -> Tensor:
            return adam_second_moment(optimizer, {name: weights[name]})[name]

        shapes = {name: weight.shape for name, weight in weights.items()}
        return weight_sample.take(
            weights,
            Computed(shapes, gradient),
            Computed(shapes, curvature) if has_second_moment(optimizer) else None,
            learning_rate=0.0,  # θ is the value after the step
            sparsity=float(self.settings.final_sparsity(pruner.start.sparsity)),
            description=(
                f"{self.settings.model} on {self.settings.task}, at the decision of step {step}"
            ),
        )

    def _save_region_scores(
        self,
        importance: Mapping[str, Tensor],
        program: TrustRegionProgram,
        decision: TrustRegionDecision,
    ) -> None:
        """Save s and c of the final trust-region decision; c alone if μ = 0, when c is ranked."""
        if not self.training.pruner.finished:
            return
        if not decision.multiplier:
            self._save(importance, SCORES)
            return
        for file, terms in ((SCORES, "importance"), (COSTS, "cost")):
            self._save({name: getattr(t, terms) for name, t in program.terms.items()}, file)

    def _record_measurement(self) -> None:
        """Add the measured change of the loss to the decision of this step, if it made one."""
        measurement, decisions = self.training.pruner.loss_change, self.history.decisions
        if measurement is not None and decisions and decisions[-1]["step"] == self.step:
            decisions[-1] |= measurement.as_json()

    def _save(
        self,
        tensors: Mapping[str, Tensor],
        file: str,
        header: Mapping[str, str] = SCORES_FORMAT,
    ) -> None:
        on_rank_zero(self.group, lambda: save_tensors(dict(tensors), self.out / file, header))

    def _resume(self, folder: Path) -> None:
        path = checkpoints.latest(folder)
        if path is None:
            return
        checkpoint = checkpoints.load(path, self.fingerprint)
        try:
            self.training.load_state(checkpoint.tensors, checkpoint.scalars["training"])
            self.history = History(**checkpoint.scalars["record"])
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"{path} is torn: {error}") from error
        if self.step != checkpoint.step:
            raise CheckpointError(
                f"{path} is torn: its pruner has taken {self.step} steps, not {checkpoint.step}"
            )
