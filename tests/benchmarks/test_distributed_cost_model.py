import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.distributed.communication_plan import COUNT, SCORE, Constants, Exchange, Plan, plan
from benchmarks.distributed.cost_model import (
    BY_KERNELS,
    BY_OPERATIONS,
    HOPPER,
    MODELS,
    RANKS,
    Gathering,
    Link,
    expected,
    seconds,
)
from benchmarks.distributed.counting_group import Counted
from benchmarks.distributed.runs import scaled
from benchmarks.harness.score_sets import MODEL, SCORE_SETS
from pins.selection import kth_largest
from pins.selection.select import decide
from verification.testing.threaded_group import ThreadRank, shards, together

PRESENT = Constants.present()
SCALED = replace(PRESENT, sample=1 << 11, least_room=1 << 9, most_room=1 << 9)
SIZES = (100_000, 250_000, 50_001)
CLOSE = 0.05

sizes_of_models = st.lists(st.integers(1_000, 10**8), min_size=1, max_size=6)


def counted(ranks: int, constants: Constants, sizes: tuple[int, ...] = SIZES) -> list[Exchange]:
    """What the algorithm itself exchanges."""
    generator = torch.Generator().manual_seed(ranks)
    scores = {str(i): torch.randn(n, generator=generator) for i, n in enumerate(sizes)}
    parts = shards(scores, [rank / ranks for rank in range(1, ranks)])

    def work(rank: ThreadRank) -> list[Exchange]:
        group = Counted(rank)
        decide(parts[rank.rank], sum(sizes) // 5, group)
        given = sum(each.given(ranks) for each in group.exchanges)
        assert abs(rank.sent / given - 1) < 0.1  # the mean of the ranks, of which this is one
        return group.exchanges

    with scaled(constants):
        return together(ranks, work)[0]


def planned(ranks: int, constants: Constants, sizes: tuple[int, ...] = SIZES) -> Plan:
    return expected(sizes, sum(sizes) // 5, ranks, constants, BY_OPERATIONS)


def given_by(exchanges: list[Exchange], ranks: int) -> float:
    return sum(each.given(ranks) for each in exchanges)


@pytest.mark.parametrize("ranks", [1, 2, 7])
def test_the_algorithm_exchanges_what_the_model_says(ranks: int) -> None:
    found, work = counted(ranks, PRESENT), planned(ranks, PRESENT)
    assert [each.kind for each in found] == [each.kind for each in work.exchanges]
    assert work.passes == 1
    assert abs(work.given / given_by(found, ranks) - 1) < CLOSE
    received = sum(each.received(ranks) for each in found)
    assert abs(work.received - received) <= CLOSE * received
    for one, other in zip(found, work.exchanges, strict=True):
        if one.kind == "total":
            assert one == other


def test_where_the_room_is_too_small_the_path_is_the_longer_one() -> None:
    """Its candidates are a matter of chance; its samples, too, where the first one is small."""
    found, work = counted(4, SCALED), planned(4, SCALED)
    assert work.passes == 3
    assert [each.kind for each in found] == [each.kind for each in work.exchanges]
    for number in (2, 4):
        sample, other = found[number], work.exchanges[number]
        assert sample.kind == "gathered"
        # scores between the same two order statistics, 256 apart: ± 1/√256
        assert abs(other.whole / sample.whole - 1) < (3 / math.sqrt(256) if number > 2 else CLOSE)
    assert found[7].whole <= SCORE * SCALED.most_room


def test_a_model_with_other_constants_is_found_out() -> None:
    found = given_by(counted(2, PRESENT), 2)
    halved = planned(2, replace(PRESENT, room_share=2 * PRESENT.room_share)).given
    assert abs(halved / found - 1) > CLOSE
    inside = counted(2, PRESENT)[4].whole
    wider = planned(2, replace(PRESENT, deviations=2 * PRESENT.deviations)).candidates
    assert abs(SCORE * wider / inside - 1) > 0.5
    with scaled(SCALED):
        assert SCALED.sample == kth_largest.SAMPLE
        assert Constants.present() == SCALED
    assert Constants.present() == PRESENT


@given(sizes=sizes_of_models, ranks=st.integers(1, 64), factor=st.integers(2, 1000))
@settings(max_examples=60, deadline=None)
def test_bytes_do_not_grow_with_n_beyond_samples_and_room(
    sizes: list[int], ranks: int, factor: int
) -> None:
    parts = ranks * len(sizes)
    for by in (BY_OPERATIONS, BY_KERNELS):
        for times in (1, factor):
            larger = [times * each for each in sizes]
            work = expected(larger, sum(larger) // 5, ranks, PRESENT, by)
            assert all(each <= ranks * (PRESENT.sample + len(sizes)) for each in work.samples)
            assert work.samples[:1] <= (PRESENT.sample + parts,)
            assert work.candidates <= PRESENT.room(sum(larger))
            bound = SCORE * (sum(work.samples) + PRESENT.most_room) / ranks
            bound += COUNT * (len(sizes) + 6 + 3 * work.passes)
            assert work.given <= bound
    whole = [Gathering.of(times * sum(sizes), 2).received for times in (1, factor)]
    assert whole[1] == factor * whole[0]  # the control: all scores


@given(sizes=sizes_of_models, ranks=st.integers(1, 500), more=st.integers(1, 500))
@settings(max_examples=60, deadline=None)
def test_more_ranks_are_never_longer_at_their_own_scores(
    sizes: list[int], ranks: int, more: int
) -> None:
    # without the sample, of which each part of a tensor gives at least one score
    machine = replace(HOPPER, draw=0.0, touch=0.0)
    keep = sum(sizes) // 5
    few, many = (
        seconds(plan(sizes, keep, r, PRESENT, block=1 << 20), machine)
        for r in (ranks, ranks + more)
    )
    assert many.scanning <= few.scanning
    assert many.calling <= few.calling


def test_more_ranks_have_more_to_exchange() -> None:
    """The control: not everything gets less."""
    for sizes in MODELS.values():
        times = [
            seconds(expected(sizes, sum(sizes) // 5, r, PRESENT, BY_KERNELS), HOPPER) for r in RANKS
        ]
        waits = [each.exchanging for each in times]
        assert waits == sorted(waits)
        assert waits[0] < waits[-1]
        scans = [each.scanning for each in times]
        assert scans == sorted(scans, reverse=True)


def test_paths_of_models_follow_from_the_constants() -> None:
    bert = [math.prod(shape) for shape in SCORE_SETS[MODEL].shapes.values()]
    assert expected(bert, sum(bert) // 5, 4, PRESENT, BY_OPERATIONS).passes == 1
    for name, total in (("7 B", 7 * 10**9), ("70 B", 70 * 10**9)):
        assert sum(MODELS[name]) == total
        work = expected(MODELS[name], total // 5, 64, PRESENT, BY_KERNELS)
        assert work.passes == 3
        roomy = replace(PRESENT, most_room=total)
        assert expected(MODELS[name], total // 5, 64, roomy, BY_KERNELS).passes == 1
    small = planned(3, PRESENT, (1_000, 500))
    assert (small.passes, small.samples, small.candidates) == (1, (), 1_500)


def test_messages_are_those_of_rings_and_trees() -> None:
    link = Link(1.0, math.inf)
    still = replace(
        HOPPER, bandwidth=math.inf, dispatch=0.0, draw=0.0, touch=0.0, sort=0.0, partition=0.0
    )

    def steps(work: Plan, *, tree: bool) -> float:
        return seconds(work, replace(still, near=link, far=link, tree=tree)).total

    work = planned(8, PRESENT)
    gathers = sum(each.kind == "gathered" for each in work.exchanges)
    sums = len(work.exchanges) - gathers
    assert steps(work, tree=False) == (2 * gathers + 2 * sums) * 7
    assert steps(work, tree=True) == 2 * gathers * 7 + 2 * sums * 3
    assert steps(planned(1, PRESENT), tree=False) == 0
    far = replace(still, near=link, far=Link(100.0, math.inf), node=4, tree=True)
    assert seconds(work, far).total == 2 * gathers * (6 + 100) + 2 * sums * (2 + 100)
    slow = replace(still, near=Link(0.0, 1.0), far=Link(0.0, 1.0), tree=False)
    assert seconds(work, slow).total == pytest.approx(work.received)


def test_gathering_takes_all_scores_but_ones_own_and_a_mask() -> None:
    whole = Gathering.of(1_000, 4)
    assert (whole.received, whole.mask) == (3_000, 1_000)
    assert whole.seconds(4, HOPPER) == 4_000 / HOPPER.near.rate
    assert whole.seconds(16, HOPPER) == 4_000 / HOPPER.far.rate
    assert Gathering.of(1_000, 1) == Gathering(0, 0)
