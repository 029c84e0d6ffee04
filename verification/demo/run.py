"""The parts that all phases of a demo share: settings, folder, model, task, and the clock."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pins.errors import TaskError
from pins.models.batches import Encoded
from pins.models.pretrained import Pretrained, load_model
from pins.tasks import TextClassification
from pins.utils.progress import Advance, Progress
from verification.demo.settings import DemoSettings
from verification.experiments.model_snapshot import remembered_task

T = TypeVar("T")
Phase = Callable[..., AbstractContextManager[Advance]]
"""(name, total=None) ↦ a phase that is shown and timed."""


@dataclass(frozen=True)
class DemoRun:
    """A demo whose model and task are loaded."""

    settings: DemoSettings
    folder: Path
    phase: Phase
    task: TextClassification
    classifier: Pretrained
    train: Encoded
    test: Encoded

    def collect(self, name: str, total: int, items: Iterable[T]) -> list[T]:
        """The items as a list; the phase `name` makes them, `total` in all."""
        found = []
        with self.phase(name, total) as advance:
            for item in items:
                found.append(item)
                advance()
        return found


def load(settings: DemoSettings, folder: Path, phase: Phase) -> DemoRun:
    """Load the model and the task, and encode the texts.

    Raises:
        PinsError: the model or the task is missing, or the task does not classify texts.
    """
    task = remembered_task(settings.task)  # the ledger loads it again
    if not (isinstance(task, TextClassification) and task.labels):
        raise TaskError(f"the demo classifies texts, {task.name} is another task: use `pins prune`")
    classifier = load_model(settings.model, task.heads, task.labels, seed=settings.seed)
    encoding = (classifier.tokenizer, settings.max_length, classifier.head)
    train = task.encode(task.train, *encoding, train=True)
    test = task.encode(task.test, *encoding, train=False)
    return DemoRun(settings, folder, phase, task, classifier, train, test)


@contextmanager
def timed(
    progress: Progress, seconds: dict[str, float], name: str, total: int | None = None
) -> Iterator[Advance]:
    """A phase of `progress`; its time is written to `seconds`."""
    start = time.perf_counter()
    with progress.phase(name, total) as advance:
        yield advance
    seconds[name] = round(time.perf_counter() - start, 2)
