"""The interface of a task: rows to learn from and to be judged by, the head, the metric."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from pins.batches import Encoded
from pins.heads import Head

Scores = Mapping[
    str, float
]  # metric → value, ratios in [0, 1] unless the metric's field has others


@dataclass(frozen=True)
class Recipe:
    """How a task is trained on when nothing else is asked for.

    Attributes:
        epochs: passes over the training rows.
        batch_size: rows of a step.
        learning_rate: of AdamW, at its highest.
        max_length: tokens of a row.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    max_length: int


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """A task, split once and for all.

    Attributes:
        name: as on the command line.
        question: what is asked of each row.
        labels: names of the classes, a row's label being an index into them; none: no classes.
        metric: the name of the headline among the scores.
        higher_is_better: how two values of the headline compare.
        train: rows to learn from.
        test: rows never seen in training.
        recipe: defaults of training.
        digests: SHA-256 of the data by file (or of the rows, where there is no file).
    """

    name: str
    question: str
    labels: tuple[str, ...] = ()
    metric: str
    higher_is_better: bool = True
    train: Sequence[Any] = field(repr=False)
    test: Sequence[Any] = field(repr=False)
    recipe: Recipe
    digests: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    @abstractmethod
    def heads(self) -> tuple[Head, ...]:
        """The heads that a model for this task may have, the preferred one first."""

    @abstractmethod
    def encode(
        self, rows: Sequence[Any], tokenizer: Any, max_length: int, head: Head, *, train: bool
    ) -> Encoded:
        """Rows of this task as the model reads them: for training, or for `evaluate`."""

    @abstractmethod
    def evaluate(
        self, model: nn.Module, tokenizer: Any, encoded: Encoded, head: Head, *, batch_size: int
    ) -> Scores:
        """Every metric of the task, `metric` among them, on rows encoded with train=False.

        Without dropout, without gradients, on the device of the model.
        """
