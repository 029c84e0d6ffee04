"""Extractive question answering: the answer to a question is a span of its context.

A context that is too long for the model is cut into overlapping windows; every window is a row.
"""

import re
import string
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pins.errors import TaskError
from pins.models.batches import Encoded, Feature
from pins.models.heads import SPAN, Head
from pins.models.inference import outputs
from pins.models.task_loss import summed_loss
from pins.tasks.task import Scores, Task, padding, require_fast

STRIDE = 128  # tokens that neighbouring windows share
QUESTION_LENGTH = 64  # tokens of a question, as in BERT's SQuAD code
MIN_LENGTH = 16  # tokens of a window; in fewer there is no room for a context
BEST = 20  # best starts and ends of a window whose pairs are compared
ANSWER_LENGTH = 30  # tokens of an answer, as in BERT's SQuAD code
_ARTICLE = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
CHUNK = 1000  # questions tokenised at once: a heuristic between speed and memory


@dataclass(frozen=True)
class Answer:
    """A text and the index of its first character in the context."""

    text: str
    start: int


@dataclass(frozen=True)
class Question:
    """One row: a question, its context, and the answers that count as right."""

    id: str
    text: str
    context: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True, eq=False)
class Window:
    """The part of a question's context in one row.

    Attributes:
        question: the whole row.
        first: position of the first token of the context; the others follow it.
        starts: index of the first character of each token of the context.
        ends: index after the last character of each token of the context.
    """

    question: Question
    first: int
    starts: "array[int]"
    ends: "array[int]"

    def positions(self, answer: Answer) -> tuple[int, int]:
        """Positions of the answer's first and last token; (0, 0) if it is not wholly inside."""
        begin = answer.start + len(answer.text) - len(answer.text.lstrip())
        end = answer.start + len(answer.text.rstrip())
        if not self.starts or self.starts[0] > begin or self.ends[-1] < end:
            return 0, 0
        first, last = bisect_right(self.ends, begin), bisect_left(self.starts, end) - 1
        return (self.first + first, self.first + last) if first <= last else (0, 0)

    def text(self, start: int, end: int) -> str:
        """The context from the token at position `start` to the one at `end`, both included."""
        characters = slice(self.starts[start - self.first], self.ends[end - self.first])
        return self.question.context[characters].strip()


@dataclass(frozen=True, kw_only=True)
class QuestionAnswering(Task):
    """A task whose rows are `Question`s."""

    train: Sequence[Question]
    test: Sequence[Question]
    heads: ClassVar[tuple[Head, ...]] = (SPAN,)
    metric: str = "f1"

    def encode(
        self, rows: Sequence[Question], tokenizer: Any, max_length: int, head: Head, *, train: bool
    ) -> Encoded:
        """Question and context, one row for each window of at most `max_length` tokens.

        Neighbouring windows share 128 tokens (a third of a window, if that is less). The positions
        are the first answer's; (0, 0), BERT's [CLS], if it is not wholly in the window. The windows
        are in `about`.

        Raises:
            ModelError: the tokenizer is not a fast one.
            TaskError: `max_length` is less than 16.
        """
        require_fast(tokenizer)
        if max_length < MIN_LENGTH:
            raise TaskError(
                f"windows of {max_length} tokens leave a context no room: give {MIN_LENGTH} or more"
            )
        features: list[Feature] = []
        windows: list[Window] = []
        for at in range(0, len(rows), CHUNK):
            chunk = rows[at : at + CHUNK]
            encoded = tokenizer(
                _cut([row.text.strip() for row in chunk], tokenizer, max_length // 3),
                [row.context for row in chunk],
                truncation="only_second",
                max_length=max_length,
                stride=min(STRIDE, max_length // 3),
                return_overflowing_tokens=True,
                return_offsets_mapping=True,
            )
            offsets = encoded.pop("offset_mapping")
            for number, row in enumerate(encoded.pop("overflow_to_sample_mapping")):
                window = _window(chunk[row], encoded.sequence_ids(number), offsets[number])
                start, end = window.positions(window.question.answers[0])
                tokens = {name: tuple(column[number]) for name, column in encoded.items()}
                features.append({**tokens, "start_positions": start, "end_positions": end})
                windows.append(window)
        return Encoded(tuple(features), fill=padding(tokenizer), about=tuple(windows))

    def evaluate(
        self, model: nn.Module, tokenizer: Any, encoded: Encoded, head: Head, *, batch_size: int
    ) -> Scores:
        """F1 of words and ratio of exact matches, the best over a question's answers, in [0, 1].

        Texts are compared as in SQuAD's own script: without case, punctuation and articles. The
        loss is the mean over windows and their two positions, for the first answer of a question;
        unlike the loss of transformers, it gives the padding no probability.
        """
        spans: list[tuple[float, int, int]] = [(-torch.inf, 0, 0)] * len(encoded)
        loss, positions = 0.0, 0
        for rows, batch, output in outputs(model, encoded, head, batch_size):
            start, end = output.start_logits.float(), output.end_logits.float()
            best = best_spans(start, end, _inside([encoded.about[row] for row in rows], start))
            for row, *span in zip(rows, *(column.tolist() for column in best), strict=True):
                spans[row] = tuple(span)
            total, count = summed_loss(head, output, batch)
            loss, positions = loss + total, positions + count
        surest: dict[Question, tuple[float, str]] = {}
        for window, (score, first, last) in zip(encoded.about, spans, strict=True):
            highest, _ = surest.setdefault(window.question, (-torch.inf, ""))
            if score > highest:
                surest[window.question] = score, window.text(first, last)
        scores = compare({question: text for question, (_, text) in surest.items()})
        return {**scores, "loss": loss / positions}


def _cut(texts: list[str], tokenizer: Any, length: int) -> list[str]:
    """The texts, cut to min(`QUESTION_LENGTH`, `length`) tokens."""
    encoded = tokenizer(
        texts,
        add_special_tokens=False,
        truncation=True,
        max_length=min(QUESTION_LENGTH, length),
        return_offsets_mapping=True,
    )
    return [
        text[: offsets[-1][1]] if offsets else ""
        for text, offsets in zip(texts, encoded["offset_mapping"], strict=True)
    ]


def _window(
    question: Question, sequences: Sequence[int | None], offsets: Sequence[tuple[int, int]]
) -> Window:
    """The window of a row; its tokens belong to sequence 0 (question), 1 (context) or None."""
    first = sequences.index(1) if 1 in sequences else 0
    own = offsets[first : first + sequences.count(1)]
    starts, ends = (array("i", [offset[side] for offset in own]) for side in (0, 1))
    return Window(question, first, starts, ends)


def best_spans(start: Tensor, end: Tensor, inside: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """max start_i + end_j, i ≤ j < i + 30, over the 20 best i and the 20 best j of each row.

    Args:
        start: (B, L) logits of the first token.
        end: (B, L) logits of the last token.
        inside: (B, L), True = a token of the context; only these can be first or last.

    Returns:
        The sums (B,), −∞ if no pair is allowed; i (B,); j (B,).
    """
    best = min(BEST, start.shape[-1])
    start_score, first = start.masked_fill(~inside, -torch.inf).topk(best)
    end_score, last = end.masked_fill(~inside, -torch.inf).topk(best)
    length = last[:, None, :] - first[:, :, None] + 1
    score = start_score[:, :, None] + end_score[:, None, :]
    score = score.masked_fill((length < 1) | (length > ANSWER_LENGTH), -torch.inf)
    highest, pair = score.flatten(1).max(-1, keepdim=True)
    return (
        highest.squeeze(-1),
        first.gather(1, pair // best).squeeze(-1),
        last.gather(1, pair % best).squeeze(-1),
    )


def _inside(windows: Sequence[Window], like: Tensor) -> Tensor:
    """(B, L) for logits (B, L): True = a token of the context."""
    firsts, lengths = (
        torch.tensor(column, device=like.device)[:, None]
        for column in zip(*((w.first, len(w.starts)) for w in windows), strict=True)
    )
    position = torch.arange(like.shape[-1], device=like.device) - firsts
    return (position >= 0) & (position < lengths)


def compare(predicted: Mapping[Question, str]) -> dict[str, float]:
    """Mean F1 and exact match of predicted texts, each the best over the question's answers.

    As the official script of SQuAD 1.1 counts them: where a text has no word but articles, its F1
    is 0, also against its like.
    """
    f1 = exact = 0.0
    for question, text in predicted.items():
        found = _words(text)
        answers = [_words(answer.text) for answer in question.answers]
        f1 += max(_f1(found, answer) for answer in answers)
        exact += found in answers
    return {"f1": f1 / len(predicted), "exact_match": exact / len(predicted)}


def _words(text: str) -> list[str]:
    """The words of a text without case, punctuation (of ASCII) and articles."""
    letters = text.lower().translate(_NO_PUNCTUATION)
    return _ARTICLE.sub(" ", letters).split()


def _f1(found: list[str], answer: list[str]) -> float:
    """2·|found ∩ answer| / (|found| + |answer|), words counted as often as they occur."""
    common = (Counter(found) & Counter(answer)).total()
    return 2 * common / (len(found) + len(answer)) if common else 0.0
