"""Named-entity recognition: a tag for each word; an entity is a run of tags (BIO).

O: outside; B-T: the first word of an entity of type T; I-T: a further word of it. CoNLL-2003 is
in IOB1, which has B-T only at an entity that directly follows another of the same type. In BIOES
S-T is an entity of one word, and E-T the last word of a longer one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from pins.models.batches import IGNORED, Encoded, Feature
from pins.models.heads import TOKENS, Head
from pins.models.inference import outputs
from pins.models.task_loss import summed_loss
from pins.tasks.task import Scores, Task, padding, require_fast

OUTSIDE = "O"


@dataclass(frozen=True)
class Sentence:
    """One row: words and their tags in BIO."""

    words: tuple[str, ...]
    tags: tuple[str, ...]


@dataclass(frozen=True)
class Tagged:
    """What the evaluation of a sentence needs.

    Attributes:
        tags: the right tag of every word.
        positions: of each word's first token; None for a word without tokens, because it was cut
            off or the tokenizer drops its characters.
    """

    tags: tuple[str, ...]
    positions: tuple[int | None, ...]


@dataclass(frozen=True, kw_only=True)
class NamedEntities(Task):
    """A task whose rows are `Sentence`s."""

    train: Sequence[Sentence]
    test: Sequence[Sentence]
    heads: ClassVar[tuple[Head, ...]] = (TOKENS,)
    metric: str = "f1"

    def encode(
        self, rows: Sequence[Sentence], tokenizer: Any, max_length: int, head: Head, *, train: bool
    ) -> Encoded:
        """The words, cut to `max_length` tokens; the first token of a word has its label.

        For training, rows without any label are left out: their loss would be 0/0.

        Raises:
            ModelError: the tokenizer is not a fast one.
        """
        require_fast(tokenizer)
        numbers = {label: number for number, label in enumerate(self.labels)}
        lead = _lead(tokenizer)
        encoded = tokenizer(
            [[lead + word for word in row.words] for row in rows],
            is_split_into_words=True,
            truncation=True,
            max_length=max_length,
        )
        features: list[Feature] = []
        about: list[Tagged] = []
        for at, row in enumerate(rows):
            positions: dict[int, int] = {}
            for position, word in enumerate(encoded.word_ids(at)):
                if word is not None:
                    positions.setdefault(word, position)
            labels = [IGNORED] * len(encoded["input_ids"][at])
            for word, position in positions.items():
                labels[position] = numbers[row.tags[word]]
            if positions or not train:
                tokens = {name: tuple(column[at]) for name, column in encoded.items()}
                features.append({**tokens, "labels": tuple(labels)})
                about.append(Tagged(row.tags, tuple(map(positions.get, range(len(row.words))))))
        fill = {**padding(tokenizer), "labels": IGNORED}
        return Encoded(tuple(features), fill=fill, about=tuple(about))

    def evaluate(
        self, model: nn.Module, tokenizer: Any, encoded: Encoded, head: Head, *, batch_size: int
    ) -> Scores:
        """Precision, recall and F1 of entities over all sentences, and the mean loss of a label.

        An entity counts as found if type, first and last word are right, as in conlleval. Every
        word counts: a word without a token is predicted to be outside.
        """
        right: list[list[str]] = []
        predicted: list[list[str]] = []
        loss, labels = 0.0, 0
        for rows, batch, output in outputs(model, encoded, head, batch_size):
            classes = output.logits.argmax(-1).tolist()
            for row, of_token in zip(rows, classes, strict=True):
                tagged: Tagged = encoded.about[row]
                right.append(list(tagged.tags))
                predicted.append(
                    [
                        OUTSIDE if position is None else self.labels[of_token[position]]
                        for position in tagged.positions
                    ]
                )
            total, count = summed_loss(head, output, batch)
            loss, labels = loss + total, labels + count
        return {**compare(right, predicted), "loss": loss / max(labels, 1)}


def _lead(tokenizer: Any) -> str:
    """The prefix that makes the tokenizer read a single word as in a text.

    Byte-level tokenizers (RoBERTa, GPT-2) read a word without a space as the end of another word.
    """
    words = ["the", "cat"]
    read = tokenizer(words, is_split_into_words=True)["input_ids"]
    return "" if read == tokenizer(" ".join(words))["input_ids"] else " "


def compare(right: Sequence[list[str]], predicted: Sequence[list[str]]) -> dict[str, float]:
    """Precision, recall and F1 of the predicted entities; 0 in place of 0/0."""
    # here, since it takes a second to import and few runs need it
    from seqeval.metrics.sequence_labeling import (  # type: ignore[import-untyped]
        precision_recall_fscore_support,
    )

    precision, recall, f1, _ = precision_recall_fscore_support(
        right, predicted, average="micro", zero_division=0
    )
    return {"f1": float(f1), "precision": float(precision), "recall": float(recall)}


def begins(tag: str, before: str) -> bool:
    """Whether an entity begins with `tag`, which follows the tag `before`, in any scheme."""
    ended = before.startswith(("E", "S")) or tag[2:] != before[2:]
    return tag.startswith(("B", "S")) or (tag != OUTSIDE and ended)


def is_tag(text: str) -> bool:
    """Whether a text is a tag of BIO, IOB1 or BIOES."""
    return text == OUTSIDE or (text[:2] in ("B-", "I-", "E-", "S-") and len(text) > 2)


def to_bio(tags: Sequence[str]) -> tuple[str, ...]:
    """The same entities in BIO, from BIO, IOB1 or BIOES, as conlleval reads them."""
    before = (OUTSIDE, *tags)[: len(tags)]
    return tuple(
        tag if tag == OUTSIDE else f"{'B' if begins(tag, last) else 'I'}-{tag[2:]}"
        for tag, last in zip(tags, before, strict=True)
    )
