"""Ranks as threads: they exchange values as processes do, and all end when one fails."""

import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import pins
from pins.errors import ImportanceError
from verification.strategies import score_mappings
from verification.testing import threaded_group
from verification.testing.threaded_group import ThreadRank, shards, together


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_total_is_the_sum_over_all_ranks_on_every_rank(size: int) -> None:
    def work(rank: ThreadRank) -> list[Tensor]:
        assert rank.size == size
        own = torch.tensor([rank.rank, 1], dtype=torch.int32)
        return [rank.total(own), rank.total(torch.tensor(rank.rank)), own]

    for number, (pair, one, own) in enumerate(together(size, work)):
        assert pair.tolist() == [size * (size - 1) // 2, size]
        assert pair.dtype == torch.int32
        assert int(one) == size * (size - 1) // 2
        assert own.tolist() == [number, 1]  # left as it is


@pytest.mark.parametrize("size", [1, 2, 5])
def test_gathered_values_are_in_the_order_of_the_ranks(size: int) -> None:
    def work(rank: ThreadRank) -> list[list[float]]:
        rounds = [rank.gathered(torch.full((rank.rank % 3,), float(rank.rank + i))) for i in (0, 9)]
        return [part.tolist() for parts in rounds for part in parts]

    expected = [[float(r + i)] * (r % 3) for i in (0, 9) for r in range(size)]
    assert together(size, work) == [expected] * size


def test_exchanges_and_sent_bytes_are_counted() -> None:
    def work(rank: ThreadRank) -> tuple[int, int]:
        rank.total(torch.zeros(3, dtype=torch.int64))
        rank.gathered(torch.zeros(rank.rank, dtype=torch.float16))
        return rank.exchanges, rank.sent

    assert together(3, work) == [(2, 24), (2, 26), (2, 28)]


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_an_error_of_one_rank_ends_all_ranks(failing: int) -> None:
    reached = []

    def work(rank: ThreadRank) -> None:
        rank.total(torch.tensor(1))
        if rank.rank == failing:
            raise ValueError(f"rank {failing}")
        rank.total(torch.tensor(1))
        reached.append(rank.rank)

    with pytest.raises(ValueError, match=f"^rank {failing}$"):
        together(3, work)
    assert not reached


def test_of_several_errors_the_error_of_the_first_rank_is_raised() -> None:
    def work(rank: ThreadRank) -> None:
        raise ValueError(f"rank {rank.rank}")

    with pytest.raises(ValueError, match=r"^rank 0$"):
        together(3, work)


def test_the_wait_for_a_rank_that_exchanges_less_often_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threaded_group, "PATIENCE", 0.2)
    with pytest.raises(threading.BrokenBarrierError):
        together(2, lambda rank: [rank.total(torch.tensor(1)) for _ in range(rank.rank)])


def test_a_score_that_cannot_be_ranked_is_an_error_on_every_rank() -> None:
    messages = {}

    def work(rank: ThreadRank) -> None:
        scores = torch.tensor([1.0, float("nan") if rank.rank == 1 else 2.0])
        with pytest.raises(ImportanceError) as refused:
            pins.select(scores, 3, rank)
        messages[rank.rank] = str(refused.value)

    together(3, work)
    assert sorted(messages) == [0, 1, 2]
    assert messages[1].startswith("importance at index (1) is nan")
    assert messages[0] == messages[2]
    assert messages[0].startswith("importance cannot be ranked on 1 of 3 ranks, of which this is")


@given(score_mappings(zero_size=True), st.lists(st.floats(0, 1), max_size=4))
def test_shards_are_the_tensors_cut_in_their_order(
    tensors: dict[str, Tensor], cuts: list[float]
) -> None:
    parts = shards(tensors, cuts)
    assert len(parts) == len(cuts) + 1
    for name, tensor in tensors.items():
        assert torch.equal(torch.cat([part[name] for part in parts]), tensor.reshape(-1))
