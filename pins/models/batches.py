"""Tokenised rows, and batches of them padded to their longest row."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

Batch = dict[str, Tensor]  # the arguments of a model
Value = int | float | tuple[int, ...]
Feature = Mapping[str, Value]  # one row of each tensor of a batch

IGNORED = -100  # the label of a position that is not predicted, as in torch and transformers
POOL = 16  # batches in a pool: a heuristic between randomness and little padding


@dataclass(frozen=True)
class Encoded:
    """Tokenised rows.

    Attributes:
        features: the arguments of the model, row by row: token sequences, numbers.
        fill: padding value by name of a sequence; default 0.
        side: the side of the padding: "left" for prompts that a decoder continues.
        about: what the metric needs and the model does not read (offsets, references …), one for
            each feature, or nothing.
    """

    features: tuple[Feature, ...]
    fill: Mapping[str, int] = field(default_factory=dict)
    side: Literal["left", "right"] = "right"
    about: tuple[Any, ...] = field(default=(), repr=False)

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, row: int) -> Feature:
        return self.features[row]

    def length(self, row: int) -> int:
        """The number of tokens in a row."""
        tokens = self.features[row]["input_ids"]
        assert isinstance(tokens, tuple)
        return len(tokens)

    def batch(self, rows: Sequence[int]) -> Batch:
        """The rows with these numbers; each sequence padded to the longest of its name."""
        return self.collate([self.features[row] for row in rows])

    def collate(self, features: Sequence[Feature]) -> Batch:
        """These features as tensors (rows,) or (rows, longest): int64, or float32 for numbers."""
        batch = {}
        for name, first in features[0].items():
            values = [feature[name] for feature in features]
            if isinstance(first, tuple):
                batch[name] = self._padded(values, self.fill.get(name, 0))
            else:
                batch[name] = torch.tensor(values)
        return batch

    def _padded(self, values: Sequence[Any], fill: int) -> Tensor:
        width = max(len(value) for value in values)
        padded = torch.full((len(values), width), fill)
        for at, value in enumerate(values):
            start = width - len(value) if self.side == "left" else 0
            padded[at, start : start + len(value)] = torch.tensor(value)
        return padded

    def steps_per_epoch(self, size: int) -> int:
        """Number of full batches of `size` rows in an epoch; at least 1."""
        return max(len(self) // size, 1)

    def stream(self, size: int, *, seed: int, start: int = 0) -> Iterator[Batch]:
        """Yield batches of `size` rows without end, in a new order each epoch, from number `start`.

        Batch number i depends on `size`, `seed` and i alone, so a resumed run sees the same batches
        as an uninterrupted one. Every row occurs once per epoch, except those of a short last
        batch; fewer than `size` rows make one batch.
        """
        per_epoch = self.steps_per_epoch(size)
        while len(self):
            epoch, at = divmod(start, per_epoch)
            for rows in self._epoch(size, seed, epoch)[at:]:
                yield self.batch(rows)
                start += 1

    def _epoch(self, size: int, seed: int, epoch: int) -> list[list[int]]:
        """The rows of each batch of one epoch.

        Rows are divided at random into pools, each pool is sorted by length and divided into
        batches, which saves padding; the batches of a pool are shuffled.
        """
        generator = torch.Generator().manual_seed(seed)
        # one draw per epoch: with seed + epoch, runs with neighbouring seeds would share epochs
        for _ in range(epoch + 1):
            order = torch.randperm(len(self), generator=generator)
        order = order[: self.steps_per_epoch(size) * size]
        batches = []
        for pool in torch.split(order, min(POOL * size, max(len(order), 1))):
            rows = sorted(pool.tolist(), key=self.length)
            starts = torch.randperm(-(-len(rows) // size), generator=generator) * size
            batches += [rows[at : at + size] for at in starts.tolist()]
        return batches

    def by_length(self, size: int) -> list[list[int]]:
        """Every row number once, rows of similar length together to save padding."""
        order = sorted(range(len(self)), key=self.length)
        return [order[at : at + size] for at in range(0, len(order), size)]

    def batches(self, size: int) -> list[Batch]:
        """All rows once, in the batches of `by_length`."""
        return [self.batch(rows) for rows in self.by_length(size)]

    def sample(self, rows: int, generator: torch.Generator) -> "Encoded":
        """`rows` rows drawn without replacement (all rows, if there are fewer)."""
        drawn = torch.randperm(len(self), generator=generator)[:rows].tolist()
        return self.take(drawn)

    def take(self, rows: Sequence[int]) -> "Encoded":
        """The rows with these numbers."""
        about = tuple(self.about[row] for row in rows) if self.about else ()
        return Encoded(tuple(self.features[row] for row in rows), self.fill, self.side, about)
