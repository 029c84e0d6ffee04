"""Text classification and scoring: one text or two, one of C classes or a number."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from pins.models.batches import Encoded, Feature
from pins.models.distillation_loss import mixed_loss
from pins.models.heads import CLASSIFICATION, REGRESSION, Head
from pins.models.inference import outputs
from pins.tasks.metrics import METRICS
from pins.tasks.task import Scores, Task, padding


@dataclass(frozen=True)
class Example:
    """One row: a text or a pair of texts, and the index of its class or its score."""

    text: str
    label: float  # an int if it is a class
    second: str | None = None


@dataclass(frozen=True, kw_only=True)
class TextClassification(Task):
    """A task whose rows are `Example`s; without `labels` it is a regression.

    Attributes:
        metrics: names of `METRICS`, the headline among them.
    """

    train: Sequence[Example] = field(repr=False)
    test: Sequence[Example] = field(repr=False)
    metric: str = "accuracy"
    metrics: tuple[str, ...] = ("accuracy",)

    @property
    def heads(self) -> tuple[Head, ...]:
        """Classification with labels, regression without."""
        return (CLASSIFICATION if self.labels else REGRESSION,)

    def encode(
        self, rows: Sequence[Example], tokenizer: Any, max_length: int, head: Head, *, train: bool
    ) -> Encoded:
        """As `encode_texts`; the same for training and for evaluation."""
        if not self.labels:  # a score is a float, also if all scores are whole
            rows = [replace(row, label=float(row.label)) for row in rows]
        return encode_texts(rows, tokenizer, max_length)

    def evaluate(
        self, model: nn.Module, tokenizer: Any, encoded: Encoded, head: Head, *, batch_size: int
    ) -> Scores:
        """The metrics and the mean loss over all rows."""
        predictions, targets, loss = [], [], 0.0
        for rows, batch, output in outputs(model, encoded, head, batch_size):
            logits = output.logits.float()
            predictions.append((logits.argmax(-1) if self.labels else logits.squeeze(-1)).cpu())
            targets.append(batch["labels"].cpu())
            loss += mixed_loss(head.rows(output, batch), None).item() * len(rows)
        predicted, right = torch.cat(predictions), torch.cat(targets)
        scores = {name: METRICS[name](predicted, right).item() for name in self.metrics}
        return {**scores, "loss": loss / len(encoded)}


def encode_texts(rows: Sequence[Example], tokenizer: Any, max_length: int) -> Encoded:
    """The texts, cut to `max_length` tokens (the longer text of a pair first), and their labels."""
    texts: list[list[str | None]] = [[row.text for row in rows]]
    if any(row.second is not None for row in rows):
        texts.append([row.second for row in rows])
    encoded = tokenizer(*texts, truncation=True, max_length=max_length) if rows else {}
    fill = padding(tokenizer)
    # a text without a token has one of padding, which is read: no model reads nothing
    empty = {name: (fill.get(name, int(name == "attention_mask")),) for name in encoded}
    features: list[Feature] = [
        {
            **{name: tuple(column[at]) or empty[name] for name, column in encoded.items()},
            "labels": row.label,
        }
        for at, row in enumerate(rows)
    ]
    # some models read the class at the last position (XLNet), and their tokenizer says so
    return Encoded(tuple(features), fill=fill, side=getattr(tokenizer, "padding_side", "right"))
