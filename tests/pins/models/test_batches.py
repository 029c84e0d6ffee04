"""Batches: padded, complete, and drawn again from the same seed."""

from itertools import islice
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pins.models.batches import Batch, Encoded
from pins.tasks.text_classification import Example, encode_texts
from tests.pins.networks import encoded


def numbered(*lengths: int) -> Encoded:
    """Rows of these lengths; row i is all tokens i + 1, and its label is i."""
    return encoded([[row + 1] * length for row, length in enumerate(lengths)], range(len(lengths)))


row_lengths = st.lists(st.integers(1, 9), min_size=1, max_size=60)


def rows_of(batches: list[Batch]) -> list[int]:
    """The row numbers, after a look that tokens, masks and labels belong together."""
    rows = []
    for batch in batches:
        widths = batch["attention_mask"].sum(1)
        assert batch["input_ids"].shape == batch["attention_mask"].shape
        assert int(widths.max()) == batch["input_ids"].shape[1]
        assert all(tensor.dtype == torch.int64 for tensor in batch.values())
        for tokens, seen, label in zip(*batch.values(), strict=True):
            width = int(seen.sum())
            assert seen.tolist() == [1] * width + [0] * (len(seen) - width)
            assert tokens.tolist() == [int(label) + 1] * width + [0] * (len(seen) - width)
            rows.append(int(label))
    return rows


def test_a_batch_is_padded_to_its_longest_row() -> None:
    examples = encoded([[5, 6], [7], [8, 9, 10]], [1, 0, 1], padding=3)
    batch = examples.batch([1, 0])
    assert batch["input_ids"].tolist() == [[7, 3], [5, 6]]
    assert batch["attention_mask"].tolist() == [[1, 0], [1, 1]]
    assert batch["labels"].tolist() == [0, 1]
    assert len(examples) == 3


@given(row_lengths, st.integers(1, 70))
def test_all_rows_come_once_those_of_like_length_together(lengths: list[int], size: int) -> None:
    batches = numbered(*lengths).batches(size)
    rows = rows_of(batches)
    assert sorted(rows) == list(range(len(lengths)))
    assert [lengths[row] for row in rows] == sorted(lengths)
    assert all(len(batch["labels"]) == size for batch in batches[:-1])


@given(row_lengths, st.integers(1, 20), st.integers(0, 100))
def test_an_epoch_of_shuffled_batches_holds_a_row_once_and_all_batches_are_full(
    lengths: list[int], size: int, seed: int
) -> None:
    stream = numbered(*lengths).stream(size, seed=seed)
    size = min(size, len(lengths))
    for _ in range(2):
        epoch = list(islice(stream, len(lengths) // size))
        assert [len(batch["labels"]) for batch in epoch] == [size] * len(epoch)
        rows = rows_of(epoch)
        assert len(set(rows)) == len(rows) > len(lengths) - size


def test_what_an_epoch_leaves_out_comes_in_another() -> None:
    assert rows_of([next(numbered(1, 2).stream(2**63 - 1, seed=0))]) in ([0, 1], [1, 0])
    stream = numbered(*[1] * 5).stream(3, seed=0)
    assert set(rows_of(list(islice(stream, 20)))) == set(range(5))


def test_shuffled_batches_differ_by_epoch_and_repeat_by_seed() -> None:
    examples = numbered(*[1] * 30)

    def epochs(seed: int) -> list[int]:
        stream = examples.stream(5, seed=seed)
        return rows_of(list(islice(stream, 12)))

    assert epochs(0) == epochs(0)
    assert epochs(0) != epochs(1)
    assert epochs(0)[:30] != epochs(0)[30:]


@given(row_lengths, st.integers(1, 20), st.integers(0, 100), st.integers(0, 25))
def test_a_stream_goes_on_where_it_stopped(
    lengths: list[int], size: int, seed: int, start: int
) -> None:
    rows = numbered(*lengths)
    whole = list(islice(rows.stream(size, seed=seed), start + 4))[start:]
    assert rows_of(whole) == rows_of(list(islice(rows.stream(size, seed=seed, start=start), 4)))


def test_numbers_and_sequences_beside_the_tokens_are_put_together() -> None:
    rows = Encoded(
        (
            {"input_ids": (1, 2), "labels": (7, -100), "score": 0.5},
            {"input_ids": (3,), "labels": (8, 9, 9), "score": 2.0},
        ),
        fill={"labels": -100},
        side="left",
    )
    batch = rows.batch([1, 0])
    assert batch["input_ids"].tolist() == [[0, 3], [1, 2]]
    assert batch["labels"].tolist() == [[8, 9, 9], [-100, 7, -100]]
    assert batch["score"].tolist() == [2.0, 0.5]


def test_a_sample_is_drawn_without_replacement() -> None:
    examples = numbered(*range(1, 21))
    sample = examples.sample(8, torch.Generator().manual_seed(0))
    assert len(sample) == 8
    assert len(set(rows_of(sample.batches(3)))) == 8
    again = examples.sample(8, torch.Generator().manual_seed(0))
    assert sample == again
    assert sample != examples.sample(8, torch.Generator().manual_seed(1))
    assert sorted(rows_of(examples.sample(99, torch.Generator()).batches(7))) == list(range(20))


def letters(texts: list[str], *, truncation: bool, max_length: int) -> dict[str, Any]:
    """A tokenizer of letters, a = 1."""
    assert truncation
    return {"input_ids": [[ord(c) - 96 for c in text][:max_length] for text in texts]}


def test_texts_are_encoded_and_cut() -> None:
    examples = [Example("abc", 1), Example("z", 0)]
    rows = encode_texts(examples, letters, max_length=2)
    assert rows.features == (
        {"input_ids": (1, 2), "labels": 1},
        {"input_ids": (26,), "labels": 0},
    )


def test_the_tokenizer_names_its_padding() -> None:
    class Padded:
        pad_token_id = 7

        def __call__(self, texts: list[str], **options: Any) -> dict[str, Any]:
            return letters(texts, **options)

    rows = encode_texts([Example("a", 0), Example("ab", 1)], Padded(), max_length=2)
    assert rows.batch([0, 1])["input_ids"].tolist() == [[1, 7], [1, 2]]


def test_no_rows_make_no_batches() -> None:
    assert numbered().batches(4) == []


def test_a_stream_without_end_of_no_rows_is_not_waited_for() -> None:
    asked = []

    class Impatient(Encoded):
        def __len__(self) -> int:
            asked.append(1)
            assert len(asked) < 100, "it looks for a batch for ever"
            return super().__len__()

    with pytest.raises((StopIteration, ValueError)):
        next(Impatient(()).stream(4, seed=0))
