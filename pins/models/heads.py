"""Heads: what a model's output predicts, as rows that a loss can be taken of one by one.

Every head but regression gives rows of distributions over outcomes: classes of a text or a token,
positions of a span, words of a vocabulary. Padding never makes a row, nor an outcome of one.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pins.errors import ModelError
from pins.models.batches import IGNORED, Batch
from pins.models.parameters import unwrapped

TARGETS = ("labels", "start_positions", "end_positions")  # given these, models compute a loss


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
        targets: (N,), the numbers that are right, in float32 at least.
    """

    values: Tensor
    targets: Tensor


class Head:
    """What the model predicts, and with which Auto class transformers builds that."""

    name: ClassVar[str]
    auto_class: ClassVar[str]
    class_suffixes: ClassVar[tuple[str, ...]]  # of the model classes that have this head

    def rows(self, output: Any, batch: Batch) -> Distributions | Values:
        """The predictions in `output` that `batch` has a target for."""
        targets = self.targets(batch)
        known = targets != IGNORED
        return Distributions(self.logits(output, batch)[known], targets[known])

    def count(self, batch: Batch) -> int:
        """How many rows `rows` makes of a batch."""
        return int((self.targets(batch) != IGNORED).count_nonzero())

    def targets(self, batch: Batch) -> Tensor:
        """The right outcome of each prediction, `IGNORED` where the batch has none.

        Raises:
            ModelError: they are no numbers of outcomes.
        """
        labels = batch["labels"]
        if labels.is_floating_point():
            raise ModelError(
                f"head {self.name!r} was given {labels.dtype} labels of shape "
                f"{tuple(labels.shape)}: it predicts one of several outcomes, give their numbers"
            )
        return labels.long()

    def logits(self, output: Any, batch: Batch) -> Tensor:  # noqa: ARG002 (spans read the batch)
        """The predictions that `targets` has the right outcomes of: one more dimension, C."""
        logits: Tensor = output.logits
        return logits

    def inputs(self, model: nn.Module, batch: Batch) -> Batch:
        """What a model needs of a batch to predict: no targets, hence no loss that nobody reads."""
        forward = inspect.signature(unwrapped(model).forward).parameters
        needed = {name for name in TARGETS if name in forward and not _optional(forward[name])}
        return {
            name: tensor for name, tensor in batch.items() if name not in TARGETS or name in needed
        }


class Classification(Head):
    """One class for each text: logits (B, C), labels (B,) or (B, 1)."""

    name = "classification"
    auto_class = "AutoModelForSequenceClassification"
    class_suffixes = ("ForSequenceClassification",)

    def targets(self, batch: Batch) -> Tensor:
        """One a text."""
        return super().targets(batch).reshape(-1)


class Regression(Head):
    """One number for each text: logits (B, 1), labels (B,) or (B, 1)."""

    name = "regression"
    auto_class = "AutoModelForSequenceClassification"
    class_suffixes = ("ForSequenceClassification",)

    def rows(self, output: Any, batch: Batch) -> Values:
        """One row a text."""
        values = output.logits.reshape(-1)
        # in bfloat16, 4.8 would be 4.8125
        dtype = torch.promote_types(values.dtype, torch.float32)
        return Values(values, self.targets(batch).to(dtype))

    def count(self, batch: Batch) -> int:
        """One a text: every number is one, `IGNORED` as well."""
        return batch["labels"].numel()

    def targets(self, batch: Batch) -> Tensor:
        """The right numbers."""
        return batch["labels"].reshape(-1)


class TokenClassification(Head):
    """One class for each labelled token: logits (B, L, C), labels (B, L)."""

    name = "tokens"
    auto_class = "AutoModelForTokenClassification"
    class_suffixes = ("ForTokenClassification",)


class Span(Head):
    """Where an answer starts and ends: two logits (B, L), two positions (B,) or (B, 1).

    Two rows a text, over its own tokens; a position that lies outside the text makes none.
    """

    name = "span"
    auto_class = "AutoModelForQuestionAnswering"
    class_suffixes = ("ForQuestionAnswering",)

    def targets(self, batch: Batch) -> Tensor:
        """Where all starts are, then all ends."""
        both = torch.cat([batch["start_positions"], batch["end_positions"]]).reshape(-1)
        inside = _tokens(batch)
        known = (both >= 0) & (both < inside.shape[1])
        # a position in the padding is outside, or it would be inside in a longer batch alone
        position = both.clamp(0, inside.shape[1] - 1).unsqueeze(1)
        known &= inside.gather(1, position).squeeze(1)
        return both.masked_fill(~known, IGNORED)

    def logits(self, output: Any, batch: Batch) -> Tensor:
        """Those of all starts, then of all ends; −∞ outside the text."""
        logits = torch.cat([output.start_logits, output.end_logits])
        return logits.masked_fill(~_tokens(batch), -torch.inf)


class CausalLanguageModel(Head):
    """The next token: logits (B, L, V) at a position predict labels (B, L) of the next one.

    One row a labelled token but for the first, which nothing predicts.
    """

    name = "causal"
    auto_class = "AutoModelForCausalLM"
    # not XLNet's, XLM's and FlauBERT's, which see the words that they are to predict
    class_suffixes = ("ForCausalLM", "GPT2LMHeadModel", "OpenAIGPTLMHeadModel", "CTRLLMHeadModel")

    def targets(self, batch: Batch) -> Tensor:
        """The labels of the next position."""
        return super().targets(batch)[:, 1:]

    def logits(self, output: Any, batch: Batch) -> Tensor:
        """Of all positions but the last, which predicts what is not there."""
        return super().logits(output, batch)[:, :-1]


class SequenceToSequence(Head):
    """The words of an answer: decoder logits (B, L, V) predict labels (B, L) at their position."""

    name = "seq2seq"
    auto_class = "AutoModelForSeq2SeqLM"
    class_suffixes = ("ForConditionalGeneration", "MarianMTModel", "EncoderDecoderModel")

    def inputs(self, model: nn.Module, batch: Batch) -> Batch:
        """The decoder reads the answer so far: the labels, a place later, are its inputs."""
        if {"decoder_input_ids", "decoder_inputs_embeds"} & batch.keys():
            return super().inputs(model, batch)
        shifted = getattr(unwrapped(model), "prepare_decoder_input_ids_from_labels", None)
        if shifted is None:
            return batch  # only the model itself knows how
        return {**super().inputs(model, batch), "decoder_input_ids": shifted(batch["labels"])}


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
    """The head of a transformers model, by the name of its class and its configuration.

    Raises:
        ModelError: its class is none that PINS knows a head of, or its classes do not exclude each
            other.
    """
    model = unwrapped(model)
    kind = type(model).__name__
    config = getattr(model, "config", None)
    for head in HEADS.values():
        if not kind.endswith(head.class_suffixes):
            continue
        if head is CLASSIFICATION:
            return _of_texts(kind, config)
        if head is not SEQ2SEQ or getattr(config, "is_encoder_decoder", False):
            return head
    raise ModelError(
        f"{kind} has no head that PINS knows: give one of pins.models.heads.HEADS "
        f"({', '.join(HEADS)})"
    )


def _of_texts(kind: str, config: Any) -> Head:
    """The head of a classifier, to transformers a regression where there is one label."""
    problem, labels = getattr(config, "problem_type", None), getattr(config, "num_labels", None)
    if problem == "multi_label_classification" or (problem == "regression" and labels != 1):
        raise ModelError(
            f"{kind} is configured for {problem} with {labels} labels: PINS has heads for one "
            "class a text and for one number a text"
        )
    return REGRESSION if labels == 1 else CLASSIFICATION


def _tokens(batch: Batch) -> Tensor:
    """(2B, L): whether a position is a token of the text; for starts, then for ends."""
    mask = batch.get("attention_mask")
    mask = torch.ones_like(batch["input_ids"]) if mask is None else mask
    return torch.cat([mask, mask]).bool()


def _optional(parameter: inspect.Parameter) -> bool:
    return parameter.default is not inspect.Parameter.empty
