import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.distributed.cost_model import (
    COUNT,
    HOPPER,
    MODELS,
    PRESENT,
    RANKS,
    SCORE,
    Constants,
    Exchange,
    Link,
    Plan,
    on_paper,
    plan,
    seconds,
)
from benchmarks.distributed.counting_group import CountingGroup
from benchmarks.distributed.runs import scaled
from benchmarks.harness.score_sets import MODEL, SCORE_SETS
from pins.selection import kth_largest
from pins.selection.select import decide
from verification.testing.threaded_group import ThreadRank, shards, together

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
        group = CountingGroup(rank)
        decide(parts[rank.rank], sum(sizes) // 5, group)
        given = sum(each.given(ranks) for each in group.exchanges)
        assert abs(rank.sent / given - 1) < 0.1  # the mean of the ranks, of which this is one
        return group.exchanges

    with scaled(constants):
        return together(ranks, work)[0]


def planned(ranks: int, constants: Constants, sizes: tuple[int, ...] = SIZES) -> Plan:
    return plan(sizes, sum(sizes) // 5, ranks, constants)


def given_by(exchanges: list[Exchange], ranks: int) -> float:
    return sum(each.given(ranks) for each in exchanges)


@pytest.mark.parametrize("ranks", [1, 2, 7])
def test_the_algorithm_exchanges_what_the_model_says(ranks: int) -> None:
    found, work = counted(ranks, PRESENT), planned(ranks, PRESENT)
    exchanges = work.exchanges if ranks > 1 else work.exchanges[1:]  # one rank knows all sizes
    assert [each.kind for each in found] == [each.kind for each in exchanges]
    assert work.passes == 1
    assert abs(work.given / given_by(found, ranks) - 1) < CLOSE
    received = sum(each.received(ranks) for each in found)
    assert abs(work.received - received) <= CLOSE * received
    for one, other in zip(found, exchanges, strict=True):
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
    wider = planned(2, replace(PRESENT, deviations=2 * PRESENT.deviations)).exchanges[4].whole
    assert abs(wider / inside - 1) > 0.5
    with scaled(SCALED):
        assert SCALED.sample == kth_largest.SAMPLE
        assert Constants.present() == SCALED
    assert Constants.present() == PRESENT


@given(sizes=sizes_of_models, ranks=st.integers(1, 64), factor=st.integers(2, 1000))
@settings(max_examples=60, deadline=None)
def test_bytes_do_not_grow_with_n_beyond_samples_and_room(
    sizes: list[int], ranks: int, factor: int
) -> None:
    for times in (1, factor):
        larger = [times * each for each in sizes]
        total = sum(larger)
        work = plan(larger, total // 5, ranks, PRESENT)
        first, candidates = work.exchanges[3], work.exchanges[-3]
        assert first.whole <= SCORE * PRESENT.sample
        assert candidates.whole <= SCORE * PRESENT.room(total)
        later = (work.passes - 1) // 2  # samples of R·SAMPLE scores at most
        assert work.ranked <= PRESENT.sample * (1 + ranks * later) + PRESENT.room(total)
        bound = SCORE * work.ranked / ranks + COUNT * (len(sizes) + 7 + 3 * work.passes)
        assert work.given <= bound * (1 + 1e-12)  # sums in another order


@given(sizes=sizes_of_models, ranks=st.integers(1, 500), more=st.integers(1, 500))
@settings(max_examples=60, deadline=None)
def test_more_ranks_are_never_longer_at_their_own_scores(
    sizes: list[int], ranks: int, more: int
) -> None:
    few, many = (
        seconds(plan(sizes, sum(sizes) // 5, r, PRESENT), HOPPER) for r in (ranks, ranks + more)
    )
    assert many["scanning"] <= few["scanning"]
    assert many["calling"] <= few["calling"]


def test_more_ranks_have_more_to_exchange() -> None:
    """The control: not everything gets less."""
    for name in MODELS:
        rows = [row for row in on_paper() if row["model"] == name]
        assert [row["ranks"] for row in rows] == list(RANKS)
        waits = [row["seconds"]["exchanging"] for row in rows]
        assert waits == sorted(waits)
        assert waits[0] < waits[-1]
        scans = [row["seconds"]["scanning"] for row in rows]
        assert scans == sorted(scans, reverse=True)


def test_paths_of_models_follow_from_the_constants() -> None:
    bert = [math.prod(shape) for shape in SCORE_SETS[MODEL].shapes.values()]
    assert plan(bert, sum(bert) // 5, 4, PRESENT).passes == 1
    for name, total in (("7 B", 7 * 10**9), ("70 B", 70 * 10**9)):
        assert sum(MODELS[name]) == total
        assert plan(MODELS[name], total // 5, 64, PRESENT).passes == 3
        roomy = replace(PRESENT, most_room=total)
        assert plan(MODELS[name], total // 5, 64, roomy).passes == 1
    small = planned(3, PRESENT, (1_000, 500))
    assert (small.passes, small.ranked) == (1, 1_500)


def test_the_time_is_four_terms() -> None:
    work = planned(8, PRESENT)
    gathers = sum(each.kind == "gathered" for each in work.exchanges)
    sums = len(work.exchanges) - gathers
    nothing = Link(0.0, math.inf)
    still = replace(HOPPER, bandwidth=math.inf, dispatch=0.0, sort=0.0, near=nothing, far=nothing)
    assert sum(seconds(work, still).values()) == 0

    def term(name: str, **given: float | Link | int) -> float:
        found = seconds(work, replace(still, **given))  # type: ignore[arg-type]
        assert sum(found.values()) == found[name]
        return found[name]

    assert term("scanning", bandwidth=1.0) == 3 * 5 * sum(SIZES) / 8
    assert term("ranking", sort=1.0) == work.ranked
    step = Link(1.0, math.inf)
    assert term("exchanging", near=step) == 2 * gathers * 7 + 2 * sums * 3
    far = Link(100.0, math.inf)
    found = term("exchanging", near=step, far=far, node=4)
    assert found == 2 * gathers * (6 + 100) + 2 * sums * (2 + 100)
    rated = term("exchanging", near=Link(0.0, 1.0))
    gathered = sum(each.received(8) for each in work.exchanges if each.kind == "gathered")
    counts = sum(each.whole for each in work.exchanges if each.kind == "total")
    assert rated == pytest.approx(gathered + 2 * 3 * counts)
    called = seconds(work, replace(still, dispatch=1.0))
    assert called["calling"] == 3 * 3 * len(SIZES)
    assert called["exchanging"] == 6 * 8 * gathers
    assert seconds(planned(1, PRESENT), replace(still, near=step))["exchanging"] == 0


def test_gathering_takes_all_scores_but_ones_own_and_a_mask() -> None:
    for row in on_paper():
        scores = 4 * row["weights"] * (row["ranks"] - 1) / row["ranks"]
        rate = (HOPPER.near if row["ranks"] == 8 else HOPPER.far).rate
        assert row["gathering_bytes"] == scores
        assert row["gathering_seconds"] == (scores + row["weights"]) / rate
