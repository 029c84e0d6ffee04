"""Examples as token numbers, and batches of them padded to their longest row."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pins.tasks.text_classification import Example

Batch = dict[str, Tensor]  # input_ids and attention_mask (rows, tokens), labels (rows,); int64

POOL = 16  # batches drawn together: a heuristic between randomness and little padding


@dataclass(frozen=True)
class EncodedExamples:
    """Tokenised rows, ready to be put together.

    Attributes:
        tokens: token numbers of each row.
        labels: class of each row.
        padding: the number that fills up short rows.
    """

    tokens: tuple[tuple[int, ...], ...]
    labels: tuple[int, ...]
    padding: int

    @classmethod
    def encode(
        cls, examples: Sequence[Example], tokenizer: Callable[..., Any], max_length: int
    ) -> "EncodedExamples":
        """Tokenise; what is longer than `max_length` tokens is cut."""
        encoded = tokenizer([e.text for e in examples], truncation=True, max_length=max_length)
        padding = getattr(tokenizer, "pad_token_id", None)
        return cls(
            tokens=tuple(tuple(row) for row in encoded["input_ids"]),
            labels=tuple(example.label for example in examples),
            padding=0 if padding is None else padding,
        )

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, rows: Sequence[int]) -> Batch:
        """The rows of these numbers, padded to the longest of them."""
        width = max(len(self.tokens[row]) for row in rows)
        input_ids = torch.full((len(rows), width), self.padding)
        attention_mask = torch.zeros(len(rows), width, dtype=torch.int64)
        for at, row in enumerate(rows):
            length = len(self.tokens[row])
            input_ids[at, :length] = torch.tensor(self.tokens[row])
            attention_mask[at, :length] = 1
        labels = torch.tensor([self.labels[row] for row in rows])
        return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}

    def shuffled(self, size: int, generator: torch.Generator) -> Iterator[Batch]:
        """Batches of `size` rows without end, in a new order each epoch.

        Every row comes once an epoch, but for the few that would make a short batch. Rows are drawn
        into pools, and batches cut from a pool sorted by length: less padding, and the batches of
        a pool come in random order.
        """
        while len(self):
            order = torch.randperm(len(self), generator=generator)
            order = order[: max(len(self) // size, 1) * size]  # fewer than one batch: all
            for pool in torch.split(order, POOL * size):
                rows = sorted(pool.tolist(), key=lambda row: len(self.tokens[row]))
                starts = torch.randperm(-(-len(rows) // size), generator=generator) * size
                for at in starts.tolist():
                    yield self.batch(rows[at : at + size])

    def batches(self, size: int) -> list[Batch]:
        """All rows once, those of similar length together to save padding."""
        order = sorted(range(len(self)), key=lambda row: len(self.tokens[row]))
        return [self.batch(order[at : at + size]) for at in range(0, len(order), size)]

    def sample(self, rows: int, generator: torch.Generator) -> "EncodedExamples":
        """`rows` rows drawn without replacement (all, where there are fewer)."""
        drawn = torch.randperm(len(self), generator=generator)[:rows].tolist()
        return EncodedExamples(
            tuple(self.tokens[row] for row in drawn),
            tuple(self.labels[row] for row in drawn),
            self.padding,
        )
