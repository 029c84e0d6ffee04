"""What ranks tell each other: alone, and as processes that gloo joins."""

from functools import partial
from pathlib import Path

import pytest
import torch

import pins
from pins.distributed.process_group import SINGLE_PROCESS, ProcessGroup, world
from pins.errors import DeviceError, ImportanceError
from tests.pins.ranks import Check, raises, run_together
from verification.strategies import DTYPES

TYPES = (*DTYPES, torch.int64, torch.int32, torch.int16, torch.uint8, torch.bool)


def totals_are_the_same_on_every_rank(rank: int, size: int, _folder: Path) -> None:
    ranks = ProcessGroup()
    assert (ranks.rank, ranks.size) == (rank, size)
    for dtype in (torch.int64, torch.int32):
        own = torch.tensor([[rank, 1], [2**20, 0]], dtype=dtype)
        found = ranks.total(own)
        assert found.tolist() == [[size * (size - 1) // 2, size], [size * 2**20, 0]]
        assert found.dtype == dtype
        assert own.tolist() == [[rank, 1], [2**20, 0]]
    assert int(ranks.total(torch.tensor(2**40 + rank))) == size * 2**40 + size * (size - 1) // 2
    assert ranks.total(torch.zeros(0, dtype=torch.int64)).shape == (0,)


def gathered_keep_every_bit_of_every_type(rank: int, size: int, _folder: Path) -> None:
    for dtype in TYPES:
        memory = torch.arange(64, dtype=torch.uint8).add(rank)
        own = (memory % 2).bool() if dtype == torch.bool else memory.view(dtype)
        for parts in (ProcessGroup().gathered(own), ProcessGroup().gathered(own[::2])):
            assert len(parts) == size
            assert all(part.dtype == dtype for part in parts)
        assert torch.equal(parts[rank].view(torch.uint8), own[::2].contiguous().view(torch.uint8))
        # beginning where a rank before it was
        shifted = ProcessGroup().gathered(own)[0].view(torch.uint8)
        first = torch.arange(64, dtype=torch.uint8)
        assert torch.equal(shifted, first % 2 if dtype == torch.bool else first)


def gathered_may_be_of_any_lengths(rank: int, size: int, _folder: Path) -> None:
    for lengths in ([3, 1, 2], [0, 5, 0], [0, 0, 0], [1, 0, 0]):
        own = torch.full((lengths[rank],), float(rank), dtype=torch.bfloat16)
        parts = ProcessGroup().gathered(own)
        assert [len(part) for part in parts] == lengths[:size]
        assert all(bool((part == number).all()) for number, part in enumerate(parts))
        assert all(part.dtype == torch.bfloat16 for part in parts)


def several_processes_are_the_world(_rank: int, size: int, _folder: Path) -> None:
    found = world()
    assert isinstance(found, ProcessGroup)
    assert found.size == size


def not_a_number_on_one_rank_is_an_error_on_all(rank: int, size: int, _folder: Path) -> None:
    for bad in range(size):
        scores = torch.tensor([1.0, float("nan") if rank == bad else 2.0])
        message = (
            "importance at index (1) is nan"
            if rank == bad
            else f"importance cannot be ranked on 1 of {size} ranks, of which this is none"
        )
        raises(ImportanceError, message, partial(pins.select, scores, 2, ProcessGroup()))
        raises(
            ImportanceError,
            message.replace("importance at", "importance['w'] at"),
            partial(pins.decide, {"w": scores}, 2, ProcessGroup()),
        )
    nothing: dict[str, torch.Tensor] = {"w": torch.zeros(0)}
    raises(ImportanceError, "importance is empty", lambda: pins.select(nothing, 0, ProcessGroup()))


def a_rank_without_scores_takes_part(rank: int, size: int, _folder: Path) -> None:
    own = torch.arange(4.0) if rank == size - 1 else torch.zeros(0)
    mask = pins.select(own, 3, ProcessGroup())
    assert mask.tolist() == ([False, True, True, True] if rank == size - 1 else [])


CHECKS: tuple[Check, ...] = (
    totals_are_the_same_on_every_rank,
    gathered_keep_every_bit_of_every_type,
    gathered_may_be_of_any_lengths,
    several_processes_are_the_world,
    not_a_number_on_one_rank_is_an_error_on_all,
    a_rank_without_scores_takes_part,
)


@pytest.mark.parametrize("size", [2, 3])
def test_processes_tell_each_other_the_same(size: int, tmp_path: Path) -> None:
    assert run_together(CHECKS, size, tmp_path / "ranks") == dict.fromkeys(
        (check.__name__ for check in CHECKS), None
    )


def fails_on_the_last_rank(rank: int, size: int, _folder: Path) -> None:
    assert rank < size - 1, "said on purpose"


def test_a_check_that_fails_on_one_rank_is_seen(tmp_path: Path) -> None:
    """The negative control."""
    (said,) = run_together([fails_on_the_last_rank], 2, tmp_path / "ranks").values()
    assert said is not None
    assert "said on purpose" in said


def test_one_process_is_alone() -> None:
    assert world() is SINGLE_PROCESS
    assert (SINGLE_PROCESS.rank, SINGLE_PROCESS.size) == (0, 1)
    counts = torch.tensor([3, 4])
    assert SINGLE_PROCESS.total(counts) is counts
    assert SINGLE_PROCESS.gathered(counts) == [counts]


def test_ranks_need_processes_to_join() -> None:
    with pytest.raises(
        DeviceError, match=r"^ProcessGroup\(\) found no group of processes: call torch"
    ):
        ProcessGroup()
