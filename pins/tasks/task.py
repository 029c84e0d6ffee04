"""The interface of a task: rows to learn from and to be judged by, the head, the metric."""

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

    def sample(self, rows: Sequence[Any], number: int, seed: int) -> Sequence[Any]:
        """So many of the rows, drawn without replacement, in their order (all, of fewer)."""
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randperm(len(rows), generator=generator)[:number]
        return [rows[row] for row in sorted(drawn.tolist())]

    def hold_out(self, rows: Sequence[Any], seed: int) -> tuple[Sequence[Any], Sequence[Any]]:
        """Rows to train on, and rows to choose checkpoints by: every 20th, 500 at most.

        The test rows choose nothing, or the score on them would be the best of many.
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


def padding(tokenizer: Any) -> dict[str, int]:
    """What fills up short rows of tokens, as `Encoded.fill` takes it."""
    token = tokenizer.pad_token_id
    return {"input_ids": 0 if token is None else token}  # masked out, so any token will do


def require_fast(tokenizer: Any) -> None:
    """Refuse a tokenizer that cannot say which characters or words its tokens come from.

    Raises:
        ModelError: it is not one of the `tokenizers` library.
    """
    if not tokenizer.is_fast:
        raise ModelError(
            f"{type(tokenizer).__name__} does not say where its tokens come from: "
            "save the model with a fast tokenizer (tokenizer.json)"
        )
