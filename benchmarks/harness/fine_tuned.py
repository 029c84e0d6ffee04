"""A model in the course of its fine-tuning, and what a decision does to its loss there."""

import itertools
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from pins.errors import SettingError
from pins.models.parameters import prunable_parameters
from pins.models.pretrained import load_model
from pins.tasks import Task
from pins.tasks.datasets import glue
from verification.experiments.loss_change import Experiment, loss_changes, two_samples
from verification.experiments.model_snapshot import MAX_LENGTH
from verification.experiments.training import training_steps

BATCH = 16


class FineTuned:
    """AdamW at a constant learning rate, from pre-trained weights and a new head, so far `steps`.

    Measuring leaves weights, gradients, optimiser and random state as they were. So what is
    measured after n steps is the same whatever was measured before: an interrupted benchmark, which
    starts from step 0 again and passes by what it has, comes to the numbers of one that was not.
    """

    def __init__(self, task: Task, model: str, *, seed: int, learning_rate: float) -> None:
        """Load the model; the seed is that of its head, of the order of rows and of dropout.

        Raises:
            ModelError: no such model, or none that fits the task.
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
        """Go on until so many steps of 16 rows were taken in all.

        Raises:
            SettingError: more were taken already.
            ModelError: the loss is not finite.
        """
        if steps < self.steps:
            raise SettingError(f"{self.steps} steps were taken already, {steps} are behind them")
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
        """What `verification.experiments.loss_change.loss_changes` measures here, as JSON values.

        Args:
            criteria: names.
            fractions: of the prunable weights to prune in one decision.
            rows: training rows that the gradient is taken on, and as many unseen test rows.
            fisher_rows: of the former, on which the Fisher information is estimated.
            generator: draws them.
        """
        with torch.random.fork_rng(devices=()):
            gradient, rehearsal = two_samples(self._train, rows, generator)
            experiment = Experiment(
                model=self._model,
                parameters=prunable_parameters(self._model).parameters,
                rows=gradient,
                rehearsal=rehearsal,
                unseen=self._test.sample(rows, generator),
            )
            observed = experiment.observe(self._name, fisher_rows=fisher_rows, seed=self._seed)
            start = experiment.losses()
            return [
                {"loss": start.rows, "loss_unseen": start.unseen, **asdict(change)}
                for change in loss_changes(experiment, observed, criteria, fractions, start)
            ]


GLUE = "glue"  # the folder of its tasks in the data


def data_folder(task: str, data: Path | None) -> Path | None:
    """Where a task's files are in the data; None: the hub, or whatever needs no data."""
    return data / GLUE if data is not None and task in glue.SPECS else None
