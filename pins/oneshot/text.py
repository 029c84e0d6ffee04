"""Windows of tokens: of a task's training text for calibration, of its test text for perplexity."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pins.errors import CalibrationError, TaskError
from pins.tasks.language_modeling import LanguageModeling, tokens_of
from pins.tasks.task import Task
from pins.tasks.text_classification import Example


@dataclass(frozen=True)
class Windows:
    """Windows of one length, each with the number of its first tokens that another one scores.

    Attributes:
        tokens: one (1, length) int64 tensor for each window.
        known: of each window, how many tokens at its start are not scored: at least 1.
        rest: tokens of the text after the last window.
        text_sha256: of the text as UTF-8.
    """

    tokens: tuple[Tensor, ...]
    known: tuple[int, ...]
    rest: int
    text_sha256: str

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def counts(self) -> list[int]:
        """Of each window, how many tokens are scored."""
        return [w.shape[1] - known for w, known in zip(self.tokens, self.known, strict=True)]

    @property
    def scored(self) -> int:
        """The number of predicted tokens."""
        return sum(self.counts)


def plain_text(task: Task, rows: Sequence[Any]) -> str:
    """The rows of a task as one text.

    Raises:
        TaskError: they are no texts.
    """
    if isinstance(task, LanguageModeling):
        return "".join(rows)
    if all(isinstance(row, Example) and row.second is None for row in rows):
        return "".join(f"{row.text}\n\n" for row in rows)
    raise TaskError(f"{task.name} has no plain text: calibrate on wikitext, text or stdlib-docs")


def drawn(text: str, tokenizer: Any, length: int, number: int, seed: int) -> Windows:
    """`number` windows that begin at random places, each place at most once; nothing is scored.

    Raises:
        CalibrationError: the text has fewer tokens.
    """
    stream = torch.tensor(tokens_of(text, tokenizer))
    places = len(stream) - length + 1
    if places < number:
        raise CalibrationError(
            f"the calibration text has {len(stream)} tokens, and {number} windows of {length} are "
            "to be drawn from it: give a longer text, or fewer or shorter windows"
        )
    generator = torch.Generator().manual_seed(seed)
    starts = torch.randperm(places, generator=generator)[:number].tolist()
    windows = tuple(stream[None, start : start + length] for start in starts)
    return Windows(windows, (length,) * number, 0, text_digest(text))


def sliding(text: str, tokenizer: Any, length: int, stride: int, most: int | None) -> Windows:
    """The windows that begin at 0, stride, 2·stride, …; each token is scored by the first of them.

    Whole windows only, without padding; what is left at the end is counted as rest.

    Raises:
        CalibrationError: the text is shorter than one window.
    """
    stream = torch.tensor(tokens_of(text, tokenizer))
    starts = range(0, len(stream) - length + 1, stride)[:most]
    if not starts:
        raise CalibrationError(
            f"the test text has {len(stream)} tokens, fewer than one window of {length}: give a "
            "longer text, or a shorter window"
        )
    windows = tuple(stream[None, start : start + length] for start in starts)
    known = (1, *(length - stride if stride < length else 1 for _ in starts[1:]))
    return Windows(windows, known, len(stream) - starts[-1] - length, text_digest(text))


def text_digest(text: str) -> str:
    """The SHA-256 of a text as UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()
