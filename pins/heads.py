"""Heads: what a model's output predicts, as rows that a loss can be taken of one by one.

Every head but regression gives rows of distributions over outcomes: classes of a text or a token,
positions of a span, words of a vocabulary. Padding never makes a row, nor an outcome of one.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pins.batches import IGNORED, Batch
from pins.errors import ModelError


@dataclass(frozen=True)
class Distributions:
    """N predictions, each a distribution over C outcomes.

    Attributes:
        logits: (N, C); −∞ where an outcome is impossible (padding of a span).
        targets: (N,) int64, the outcome that is right.
    """

    logits: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Values:
    """N predicted numbers.

    Attributes:
        values: (N,).
        targets: (N,), the numbers that are right.
    """

    values: Tensor
    targets: Tensor


class Head(ABC):
    """What the model predicts, and with which Auto class transformers builds that."""

    name: ClassVar[str]
    auto_class: ClassVar[str]
    class_suffixes: ClassVar[tuple[str, ...]]  # of the model classes that have this head

    @abstractmethod
    def rows(self, output: Any, batch: Batch) -> Distributions | Values:
        """The predictions in `output` that `batch` has a target for."""


class Classification(Head):
    """One class for each text: logits (B, C), labels (B,)."""

    name = "classification"
    auto_class = "AutoModelForSequenceClassification"
    class_suffixes = ("ForSequenceClassification",)

    def rows(self, output: Any, batch: Batch) -> Distributions:
        """One row a text."""
        return Distributions(output.logits, batch["labels"])


class Regression(Head):
    """One number for each text: logits (B, 1), labels (B,)."""

    name = "regression"
    auto_class = "AutoModelForSequenceClassification"
    class_suffixes = ("ForSequenceClassification",)

    def rows(self, output: Any, batch: Batch) -> Values:
        """One row a text."""
        return Values(output.logits.squeeze(-1), batch["labels"].to(output.logits.dtype))


class TokenClassification(Head):
    """One class for each labelled token: logits (B, L, C), labels (B, L)."""

    name = "tokens"
    auto_class = "AutoModelForTokenClassification"
    class_suffixes = ("ForTokenClassification",)

    def rows(self, output: Any, batch: Batch) -> Distributions:
        """One row a labelled token."""
        labelled = batch["labels"] != IGNORED
        return Distributions(output.logits[labelled], batch["labels"][labelled])


class Span(Head):
    """Where an answer starts and ends: two logits (B, L), two positions (B,)."""

    name = "span"
    auto_class = "AutoModelForQuestionAnswering"
    class_suffixes = ("ForQuestionAnswering",)

    def rows(self, output: Any, batch: Batch) -> Distributions:
        """Two rows a text, over its own tokens; one that lies outside the text makes none."""
        logits = torch.cat([output.start_logits, output.end_logits])
        targets = torch.cat([batch["start_positions"], batch["end_positions"]])
        inside = torch.cat([batch["attention_mask"]] * 2).bool()
        logits = logits.masked_fill(~inside, -torch.inf)
        known = (targets >= 0) & (targets < logits.shape[-1])
        return Distributions(logits[known], targets[known])


class CausalLanguageModel(Head):
    """The next token: logits (B, L, V) at a position predict labels (B, L) of the next one."""

    name = "causal"
    auto_class = "AutoModelForCausalLM"
    class_suffixes = ("ForCausalLM", "LMHeadModel")

    def rows(self, output: Any, batch: Batch) -> Distributions:
        """One row a labelled token but for the first, which nothing predicts."""
        targets = batch["labels"][:, 1:]
        labelled = targets != IGNORED
        return Distributions(output.logits[:, :-1][labelled], targets[labelled])


class SequenceToSequence(Head):
    """The words of an answer: decoder logits (B, L, V) predict labels (B, L) at their position."""

    name = "seq2seq"
    auto_class = "AutoModelForSeq2SeqLM"
    class_suffixes = ("ForConditionalGeneration",)

    def rows(self, output: Any, batch: Batch) -> Distributions:
        """One row a labelled token."""
        labelled = batch["labels"] != IGNORED
        return Distributions(output.logits[labelled], batch["labels"][labelled])


CLASSIFICATION = Classification()
REGRESSION = Regression()
TOKENS = TokenClassification()
SPAN = Span()
CAUSAL = CausalLanguageModel()
SEQ2SEQ = SequenceToSequence()

HEADS: Mapping[str, Head] = {
    head.name: head for head in (CLASSIFICATION, REGRESSION, TOKENS, SPAN, CAUSAL, SEQ2SEQ)
}


def find_head(model: nn.Module) -> Head:
    """The head of a transformers model, by the name of its class.

    Raises:
        ModelError: its class is none that PINS knows a head of.
    """
    kind = type(model).__name__
    for head in HEADS.values():
        if kind.endswith(head.class_suffixes):
            labels = getattr(getattr(model, "config", None), "num_labels", None)
            return REGRESSION if head is CLASSIFICATION and labels == 1 else head
    raise ModelError(
        f"{kind} has no head that PINS knows: give one of pins.heads.HEADS ({', '.join(HEADS)})"
    )
