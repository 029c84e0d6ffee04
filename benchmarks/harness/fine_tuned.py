"""A model during its fine-tuning, and the loss change of pruning decisions at each step."""

import itertools
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from pins.errors import SettingError
from pins.models.parameters import prunable_parameters
from pins.models.pretrained import load_model, locate, weights_digest
from pins.tasks import Task
from pins.tasks.datasets import glue
from verification.experiments.loss_change import Experiment, loss_changes, two_samples
from verification.experiments.model_snapshot import MAX_LENGTH
from verification.experiments.training import training_steps

BATCH = 16


class FineTuned:
    """A model after `steps` steps of AdamW, from pre-trained weights and a new head.

    The learning rate is constant. Measuring leaves weights, gradients, optimiser and random state
    unchanged, so a measurement after n steps does not depend on earlier measurements: a benchmark
    that was interrupted starts again from step 0 and gets the same numbers.
    """

    def __init__(self, task: Task, model: str, *, seed: int, learning_rate: float) -> None:
        """Load the model; the seed sets its head, the order of rows, and dropout.

        Raises:
            ModelError: the model does not exist, or does not fit the task.
        """
        loaded = load_model(model, task.heads, task.labels, seed=seed)
        self._train, self._test = (
            task.encode(rows, loaded.tokenizer, MAX_LENGTH, loaded.head, train=train)
            for rows, train in ((task.train, True), (task.test, False))
        )
        self._model, self._name, self._seed = loaded.model, model, seed
        self._optimizer = torch.optim.AdamW(self._model.parameters(), lr=learning_rate)
        self.steps = 0

    def advance(self, steps: int) -> None:
        """Train until `steps` steps of 16 rows have been taken in all.

        Raises:
            SettingError: more steps have been taken already.
            ModelError: the loss is not finite.
        """
        if steps < self.steps:
            raise SettingError(
                f"{self.steps} steps have been taken, so advance({steps}) would go back"
            )
        batches = self._train.stream(BATCH, seed=self._seed, start=self.steps)
        wanted = itertools.islice(batches, steps - self.steps)
        for _ in training_steps(self._model, wanted, self._optimizer):
            self.steps += 1

    def loss_changes(
        self,
        criteria: Sequence[str],
        fractions: Sequence[float],
        *,
        rows: int,
        fisher_rows: int,
        generator: torch.Generator,
    ) -> list[dict[str, Any]]:
        """Measure the loss change of every decision at this step, as JSON values.

        Args:
            criteria: names of criteria.
            fractions: of the prunable weights to prune in one decision.
            rows: number of training rows for the gradient, and of unseen test rows.
            fisher_rows: number of the training rows for the Fisher information.
            generator: draws the rows.
        """
        with torch.random.fork_rng(devices=()):
            gradient, trial_rows = two_samples(self._train, rows, generator)
            experiment = Experiment(
                model=self._model,
                parameters=prunable_parameters(self._model).parameters,
                rows=gradient,
                trial_rows=trial_rows,
                unseen=self._test.sample(rows, generator),
            )
            observed = experiment.observe(self._name, fisher_rows=fisher_rows, seed=self._seed)
            start = experiment.losses()
            return [
                {"loss": start.rows, "loss_unseen": start.unseen, **asdict(change)}
                for change in loss_changes(experiment, observed, criteria, fractions, start)
            ]


GLUE = "glue"  # folder of the GLUE tasks in the data


def data_folder(task: str, data: Path | None) -> Path | None:
    """The folder of a task's files; None: the task loads from the hub, or needs no files."""
    return data / GLUE if data is not None and task in glue.SPECS else None


def describe_model(model: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Settings that identify a model, and the path to replace: a folder is known by its name.

    Raises:
        ModelError: the model does not exist.
    """
    named = Path(model).name if Path(model).is_dir() else model
    return {"model": named, "weights_sha256": weights_digest(locate(model))}, {named: model}
