"""Heads: the predictions in a model's output, as rows with one loss each.

Every head except regression gives rows of distributions over outcomes: classes of a text or a
token, positions of a span, words of a vocabulary. Padding is neither a row nor an outcome.
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
        logits: (N, C); −∞ for an impossible outcome (padding of a span).
        targets: (N,) int64, the true outcomes.
    """

    logits: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Values:
    """N predicted numbers.

    Attributes:
        values: (N,).
        targets: (N,), the true numbers, at least float32.
    """

    values: Tensor
    targets: Tensor


class Head:
    """The predictions of a model, and the Auto class of transformers that builds it."""

    name: ClassVar[str]
    auto_class: ClassVar[str]
    class_suffixes: ClassVar[tuple[str, ...]]  # of the model classes that have this head

    def rows(self, output: Any, batch: Batch) -> Distributions | Values:
        """The predictions in `output` that `batch` has a target for."""
        targets = self.targets(batch)
        known = targets != IGNORED
        return Distributions(self.logits(output, batch)[known], targets[known])

    def count(self, batch: Batch) -> int:
        """The number of rows that `rows` gives for a batch."""
        return int((self.targets(batch) != IGNORED).count_nonzero())

    def targets(self, batch: Batch) -> Tensor:
        """The true outcome of each prediction, `IGNORED` if the batch has no target for it.

        Raises:
            ModelError: the labels are not integers.
        """
        labels = batch["labels"]
        if labels.is_floating_point():
            raise ModelError(
                f"head {self.name!r} was given {labels.dtype} labels of shape "
                f"{tuple(labels.shape)}: it predicts one of several outcomes, give their numbers"
            )
        return labels.long()

    def logits(self, output: Any, batch: Batch) -> Tensor:  # noqa: ARG002 (spans read the batch)
        """The logits of the predictions: the shape of `targets` and one more dimension, C."""
        logits: Tensor = output.logits
        return logits

    def inputs(self, model: nn.Module, batch: Batch) -> Batch:
        """The model's arguments in a batch without targets, so that it computes no loss."""
        forward = inspect.signature(unwrapped(model).forward).parameters
        needed = {name for name in TARGETS if name in forward and not _optional(forward[name])}
        return {
            name: tensor for name, tensor in batch.items() if name not in TARGETS or name in needed
        }


class Classification(Head):
    """One class per text: logits (B, C), labels (B,) or (B, 1)."""

    name = "classification"
    auto_class = "AutoModelForSequenceClassification"
    class_suffixes = ("ForSequenceClassification",)

    def targets(self, batch: Batch) -> Tensor:
        """One target per text."""
        return super().targets(batch).reshape(-1)


class Regression(Head):
    """One number per text: logits (B, 1), labels (B,) or (B, 1)."""

    name = "regression"
    auto_class = "AutoModelForSequenceClassification"
    class_suffixes = ("ForSequenceClassification",)

    def rows(self, output: Any, batch: Batch) -> Values:
        """One row per text."""
        values = output.logits.reshape(-1)
        # bfloat16 would round 4.8 to 4.8125
        dtype = torch.promote_types(values.dtype, torch.float32)
        return Values(values, self.targets(batch).to(dtype))

    def count(self, batch: Batch) -> int:
        """One row per text: `IGNORED` is a number like any other here."""
        return batch["labels"].numel()

    def targets(self, batch: Batch) -> Tensor:
        """The true numbers."""
        return batch["labels"].reshape(-1)


class TokenClassification(Head):
    """One class per labelled token: logits (B, L, C), labels (B, L)."""

    name = "tokens"
    auto_class = "AutoModelForTokenClassification"
    class_suffixes = ("ForTokenClassification",)


class Span(Head):
    """The start and the end of an answer: two logits (B, L), two positions (B,) or (B, 1).

    Two rows per text, over its tokens; a position outside the text gives no row.
    """

    name = "span"
    auto_class = "AutoModelForQuestionAnswering"
    class_suffixes = ("ForQuestionAnswering",)

    def targets(self, batch: Batch) -> Tensor:
        """All starts, then all ends."""
        both = torch.cat([batch["start_positions"], batch["end_positions"]]).reshape(-1)
        inside = _tokens(batch)
        known = (both >= 0) & (both < inside.shape[1])
        # a position in the padding counts as outside, whatever the length of the batch
        position = both.clamp(0, inside.shape[1] - 1).unsqueeze(1)
        known &= inside.gather(1, position).squeeze(1)
        return both.masked_fill(~known, IGNORED)

    def logits(self, output: Any, batch: Batch) -> Tensor:
        """The logits of all starts, then of all ends; −∞ outside the text."""
        logits = torch.cat([output.start_logits, output.end_logits])
        return logits.masked_fill(~_tokens(batch), -torch.inf)


class CausalLanguageModel(Head):
    """The next token: logits (B, L, V) at a position predict the label (B, L) of the next one.

    One row per labelled token except the first, which no logits predict.
    """

    name = "causal"
    auto_class = "AutoModelForCausalLM"
    # not XLNet, XLM and FlauBERT, which see the words that they predict
    class_suffixes = ("ForCausalLM", "GPT2LMHeadModel", "OpenAIGPTLMHeadModel", "CTRLLMHeadModel")

    def targets(self, batch: Batch) -> Tensor:
        """The label of the next position."""
        return super().targets(batch)[:, 1:]

    def logits(self, output: Any, batch: Batch) -> Tensor:
        """The logits of all positions except the last, which has no next token."""
        return super().logits(output, batch)[:, :-1]


class SequenceToSequence(Head):
    """The words of an answer: decoder logits (B, L, V) predict labels (B, L) at their position."""

    name = "seq2seq"
    auto_class = "AutoModelForSeq2SeqLM"
    class_suffixes = ("ForConditionalGeneration", "MarianMTModel", "EncoderDecoderModel")

    def inputs(self, model: nn.Module, batch: Batch) -> Batch:
        """Add the inputs of the decoder: the labels, shifted by one position."""
        if {"decoder_input_ids", "decoder_inputs_embeds"} & batch.keys():
            return super().inputs(model, batch)
        shifted = getattr(unwrapped(model), "prepare_decoder_input_ids_from_labels", None)
        if shifted is None:
            return batch  # the model shifts the labels itself
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
    """Find the head of a transformers model by the name of its class and its configuration.

    Raises:
        ModelError: PINS has no head for the class, or the labels do not exclude each other.
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
    """The head of a text classifier: with one label transformers regards it as a regression."""
    problem, labels = getattr(config, "problem_type", None), getattr(config, "num_labels", None)
    if problem == "multi_label_classification" or (problem == "regression" and labels != 1):
        raise ModelError(
            f"{kind} is configured for {problem} with {labels} labels: PINS has heads for one "
            "class a text and for one number a text"
        )
    return REGRESSION if labels == 1 else CLASSIFICATION


def _tokens(batch: Batch) -> Tensor:
    """(2B, L): True for tokens of the text; for starts, then for ends."""
    mask = batch.get("attention_mask")
    mask = torch.ones_like(batch["input_ids"]) if mask is None else mask
    return torch.cat([mask, mask]).bool()


def _optional(parameter: inspect.Parameter) -> bool:
    return parameter.default is not inspect.Parameter.empty
