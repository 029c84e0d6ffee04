"""The interface of a task: training and test rows, the head, the metric."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from pins.errors import ModelError
from pins.models.batches import Encoded
from pins.models.heads import Head

HELD_OUT, MOST_HELD_OUT = 20, 500

Scores = Mapping[str, float]  # metric → value; ratios in [0, 1] unless the field has others


@dataclass(frozen=True)
class Recipe:
    """The default settings of a task.

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
    """A task with its fixed split.

    Attributes:
        name: as on the command line.
        question: what is asked about each row.
        labels: names of the classes, indexed by the labels of the rows; empty: no classes.
        metric: the name of the headline metric among the scores.
        higher_is_better: how two values of the headline metric compare.
        train: rows for training.
        test: rows never used in training.
        split: which rows of the data these are: test or validation.
        recipe: default settings.
        digests: SHA-256 of the data by file (or of the rows, if there is no file).
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
    split: str = "test"

    def sample(self, rows: Sequence[Any], number: int, seed: int) -> Sequence[Any]:
        """`number` rows drawn without replacement, in their order; all if there are fewer."""
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randperm(len(rows), generator=generator)[:number]
        return [rows[row] for row in sorted(drawn.tolist())]

    def hold_out(self, rows: Sequence[Any], seed: int) -> tuple[Sequence[Any], Sequence[Any]]:
        """Rows for training, and rows for choosing checkpoints: a random 20th, at most 500.

        The test rows choose no checkpoint, or their score would be the best of many.
        """
        number = min(max(len(rows) // HELD_OUT, 1), MOST_HELD_OUT)
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(rows), generator=generator).tolist()
        chosen = set(order[:number])
        train = [row for at, row in enumerate(rows) if at not in chosen]
        return train or rows, [rows[at] for at in sorted(chosen)]

    @property
    @abstractmethod
    def heads(self) -> tuple[Head, ...]:
        """The possible heads of a model for this task, the preferred one first."""

    def prompt(self, tokenizer: Any, head: Head) -> str | None:
        """What a decoder reads before it writes, with `{source}` for a row; None: no such thing."""
        return None

    @abstractmethod
    def encode(
        self, rows: Sequence[Any], tokenizer: Any, max_length: int, head: Head, *, train: bool
    ) -> Encoded:
        """The rows as input of the model: for training, or for `evaluate`."""

    @abstractmethod
    def evaluate(
        self, model: nn.Module, tokenizer: Any, encoded: Encoded, head: Head, *, batch_size: int
    ) -> Scores:
        """All metrics of the task, including `metric`, on rows encoded with train=False.

        Without dropout and gradients, on the device of the model.
        """


def padding(tokenizer: Any) -> dict[str, int]:
    """The padding of token rows, for `Encoded.fill`; 0 without a padding token, as any will do."""
    token = getattr(tokenizer, "pad_token_id", None)
    return {"input_ids": 0 if token is None else token}


def require_fast(tokenizer: Any) -> None:
    """Refuse a tokenizer that cannot map its tokens to characters or words.

    Raises:
        ModelError: it is not one of the `tokenizers` library.
    """
    if not tokenizer.is_fast:
        raise ModelError(
            f"{type(tokenizer).__name__} does not say where its tokens come from: "
            "save the model with a fast tokenizer (tokenizer.json)"
        )
