"""The k-th largest score: found exactly and in as many passes as promised, whatever the scores."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.harness.process import fresh, peak_resident, reset_peak, resident
from pins import select
from pins.distributed.process_group import SINGLE_PROCESS
from pins.selection import kth_largest as threshold
from pins.selection.kth_largest import kth_largest, sample_size, validate_and_sample
from pins.selection.scan import float_keys, numpy_backend
from pins.selection.scan import reference as scan
from pins.selection.scan.numpy_backend import ArrayScan
from pins.selection.scan.reference import Partition, Scan
from pins.selection.segments import whole_model
from pins.selection.select import decide
from verification.strategies import DTYPES, selections

BITS = {torch.float16: 16, torch.bfloat16: 16, torch.float32: 32, torch.float64: 64}
Family = Callable[[int, torch.Generator], Tensor]


class Ending(Scan):
    """Passes that are refused when there are more than any search may take."""

    left = 160

    def partition(self, *arguments: Any, **options: Any) -> Partition:
        self.left -= 1
        assert self.left >= 0, "the search does not end"
        return super().partition(*arguments, **options)


class EndingArrays(Ending, ArrayScan):
    """Those of numpy."""


class Found(NamedTuple):
    """The masks, the two scores beside their border, and the passes that it took."""

    masks: Mapping[str, Tensor]
    kept_min: float
    pruned_max: float
    passes: int


def found(importance: Mapping[str, Tensor], keep: int, way: type[Scan] = EndingArrays) -> Found:
    """The k largest scores, in no more passes than are promised."""
    scores = way(importance)
    ranked = validate_and_sample(scores, whole_model(scores.sizes, SINGLE_PROCESS), SINGLE_PROCESS)
    result = kth_largest(ranked, np.array([keep]))
    assert result.passes <= 2 * (threshold.SAMPLED + BITS[scores.dtype] + 1)
    both = torch.from_numpy(np.concatenate([result.kept_min, result.pruned_max]))
    least, most = float_keys.scores(both, scores.dtype).double().tolist()
    return Found(result.masks, least, most, result.passes)


def reference(scores: Tensor, keep: int) -> tuple[Tensor, float, float]:
    """The mask of a stable sort, and the two scores beside its border."""
    exact = scores.double().numpy()
    order = np.argsort(-exact, kind="stable")
    mask = torch.zeros(len(exact), dtype=torch.bool)
    mask[torch.from_numpy(order[:keep].copy())] = True
    return mask, float(exact[order[keep - 1]]), float(exact[order[keep]])


def require_exact(scores: Tensor, keep: int) -> int:
    """The mask of one tensor and its border are the reference's; the passes it took."""
    result, (mask, kept_min, pruned_max) = found({"w": scores}, keep), reference(scores, keep)
    assert torch.equal(result.masks["w"], mask)
    assert (result.kept_min, result.pruned_max) == (kept_min, pruned_max)
    return result.passes


def two_values(size: int, generator: torch.Generator) -> Tensor:
    return (torch.rand(size, generator=generator) < 0.3).float() - 0.5


def magnitudes(size: int, generator: torch.Generator) -> Tensor:
    exponents = torch.rand(size, generator=generator, dtype=torch.float64) * 76 - 38
    signs = torch.randint(0, 2, (size,), generator=generator) * 2 - 1
    return (signs * 10.0**exponents).float()


def denormals(size: int, generator: torch.Generator) -> Tensor:
    patterns = torch.randint(0, 1 << 16, (size,), generator=generator, dtype=torch.int32)
    return patterns.view(torch.float32)


def zeros(size: int, generator: torch.Generator) -> Tensor:
    values = torch.tensor([0.0, -0.0, 0.0, -0.0, 1e-45, -1e-45])
    return values[torch.randint(0, 6, (size,), generator=generator)]


def heavy_hitters(size: int, generator: torch.Generator) -> Tensor:
    """Half of all have one value, half of the rest the next one below it, and so on."""
    level = torch.rand(size, generator=generator, dtype=torch.float64).log2().neg().ceil()
    return (1 - level * 2.0**-23).float()


def periodic(size: int, _: torch.Generator) -> Tensor:
    """Every so-many-th score is large: what looks at multiples sees those alone, or none."""
    places = torch.arange(size)
    return torch.where(places % 3 == 0, 100.0, 0.0) + (places * 101 % 257) / 257


def misleading(size: int, generator: torch.Generator) -> Tensor:
    """Small wherever the sample looks, large everywhere else."""
    values = torch.rand(size, generator=generator) + 10
    drawn = torch.Generator().manual_seed(scan._SEED)
    count = sample_size(size)
    values[torch.randint(size, (count,), generator=drawn)] -= 10
    return values


def normal(size: int, generator: torch.Generator) -> Tensor:
    return torch.randn(size, generator=generator)


FAMILIES: dict[str, Family] = {
    "equal": lambda size, _: torch.full((size,), -3.25),
    "two-values": two_values,
    "ascending": lambda size, _: torch.arange(size, dtype=torch.float32),
    "descending": lambda size, _: -torch.arange(size, dtype=torch.float32),
    "magnitudes": magnitudes,
    "denormals": denormals,
    "zeros": zeros,
    "heavy-hitters": heavy_hitters,
    "periodic": periodic,
    "misleading": misleading,
    "normal": normal,
}


def borders(scores: Tensor) -> list[int]:
    """k at both ends, in the middle, and at, below and above the border of the largest value."""
    size, largest = len(scores), int((scores == scores.max()).sum())
    wanted = (1, 2, size // 3, size // 2, size - 2, size - 1, largest - 1, largest, largest + 1)
    return sorted({keep for keep in wanted if 0 < keep < size})


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Constants with which a few thousand scores are many."""
    for name, value in {"LEAST_ROOM": 16, "MOST_ROOM": 32, "SAMPLE": 64}.items():
        monkeypatch.setattr(threshold, name, value)
    monkeypatch.setattr(scan, "BLOCK", 256)
    monkeypatch.setattr(numpy_backend, "BLOCK", 256)
    return monkeypatch


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("sampled", [0, 1, 8])
def test_every_family_is_cut_as_a_stable_sort_does(
    family: str, sampled: int, small: pytest.MonkeyPatch
) -> None:
    small.setattr(threshold, "SAMPLED", sampled)
    scores = FAMILIES[family](1500, torch.Generator().manual_seed(1))
    for keep in borders(scores):
        require_exact(scores, keep)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("family", ["normal", "magnitudes", "heavy-hitters", "zeros"])
@pytest.mark.usefixtures("small")
def test_every_type_is_cut_as_a_stable_sort_does(dtype: torch.dtype, family: str) -> None:
    """In 16 bits these are a few values, each of them often."""
    scores = FAMILIES[family](1500, torch.Generator().manual_seed(2))
    scores = scores.clamp(-6e4, 6e4).to(dtype)
    for keep in borders(scores):
        require_exact(scores, keep)


@pytest.mark.parametrize("deviations", [0.0, 0.5, 50.0])
def test_intervals_too_narrow_or_too_wide_find_the_same(
    deviations: float, small: pytest.MonkeyPatch
) -> None:
    small.setattr(threshold, "DEVIATIONS", deviations)
    for name in ("normal", "two-values", "periodic", "misleading"):
        scores = FAMILIES[name](1500, torch.Generator().manual_seed(3))
        for keep in borders(scores):
            require_exact(scores, keep)


@settings(max_examples=100)
@given(
    selections(max_size=30, zero_size=True),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(0, 3),
    st.sampled_from([8, 16]),
    st.sampled_from([Ending, EndingArrays]),
)
def test_any_scores_are_cut_as_a_stable_sort_does_whatever_the_constants(
    instance: tuple[dict[str, Tensor], int],
    room: int,
    sample: int,
    sampled: int,
    block: int,
    way: type[Scan],
) -> None:
    importance, keep = instance
    flat = torch.cat([scores.reshape(-1).double() for scores in importance.values()])
    if not 0 < keep < len(flat):
        return
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"LEAST_ROOM": room, "MOST_ROOM": room, "SAMPLE": sample}.items():
            patch.setattr(threshold, name, value)
        patch.setattr(threshold, "SAMPLED", sampled)
        patch.setattr(scan, "BLOCK", block)
        patch.setattr(numpy_backend, "BLOCK", block)
        result = found(importance, keep, way)
    mask, kept_min, pruned_max = reference(flat, keep)
    assert torch.equal(torch.cat([each.reshape(-1) for each in result.masks.values()]), mask)
    assert (result.kept_min, result.pruned_max) == (kept_min, pruned_max)


def test_halving_takes_as_many_passes_as_keys_have_bits(small: pytest.MonkeyPatch) -> None:
    """The bound is not an idle one; and sampling is what makes it so."""
    scores = torch.tensor([1.0, 1.0 + 2.0**-23, -1.0]).repeat(500)
    small.setattr(threshold, "SAMPLED", 0)
    assert require_exact(scores, 500) >= 32
    small.setattr(threshold, "SAMPLED", 8)
    assert require_exact(scores, 500) <= 4


def test_a_search_that_does_not_end_would_be_seen(small: pytest.MonkeyPatch) -> None:
    """The negative control of the count of passes: intervals that stay what they are."""

    def whole(self: Any, j: int, _: int) -> tuple[int, int, int, int]:
        return int(self._low[j]), int(self._high[j]), 1, 0

    small.setattr(threshold._Search, "_next", whole)
    with pytest.raises(AssertionError, match="the search does not end"):
        require_exact(torch.randn(1500, generator=torch.Generator().manual_seed(0)), 700)


# ---- With the constants as they are --------------------------------------------------------------


@pytest.mark.parametrize("family", ["heavy-hitters", "misleading", "periodic", "magnitudes"])
def test_millions_of_scores_are_cut_as_a_stable_sort_does(family: str) -> None:
    scores = FAMILIES[family](2_000_003, torch.Generator().manual_seed(4))
    require_exact(scores, 700_000)


@pytest.mark.parametrize("dtype", DTYPES)
def test_millions_of_scores_of_every_type_take_few_passes(dtype: torch.dtype) -> None:
    scores = normal(2_000_003, torch.Generator().manual_seed(5)).to(dtype)
    passes = require_exact(scores, 1_000_000)
    assert passes <= (2 if dtype == torch.bfloat16 else 1)  # of which thousands are equal


def test_a_typical_draw_takes_one_pass() -> None:
    scores = normal(1 << 20, torch.Generator().manual_seed(6))
    total = len(scores)
    sizes = [found({"w": scores}, total * tenth // 100).passes for tenth in (1, 10, 50, 90, 99)]
    assert sizes == [1] * 5


def test_the_sample_misleads_where_it_is_made_to() -> None:
    """The negative control of the family: nearly all drawn are small, nearly all scores large."""
    scores = misleading(1 << 20, torch.Generator().manual_seed(7))
    found = Scan({"w": scores})
    (sample,) = validate_and_sample(
        found, whole_model(found.sizes, SINGLE_PROCESS), SINGLE_PROCESS
    ).sample
    assert (
        float((float_keys.scores(torch.from_numpy(sample), torch.float32) < 5).double().mean()) == 1
    )
    assert float((scores < 5).float().mean()) < 0.2
    assert require_exact(scores, len(scores) // 2) > 1


# ---- Memory --------------------------------------------------------------------------------------

SIZE = 8 << 20
SPARE = 8 << 20  # bytes, however many scores: blocks, the sample, what the allocator keeps


def extra_bytes(dtype: torch.dtype, tied: bool, share: float, decided: bool) -> int | None:
    """What a selection needs at most beside scores and masks; None where it cannot be told."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(8)
    scores = torch.empty(SIZE, dtype=dtype).normal_(generator=generator)
    if tied:
        scores.clamp_(min=0.9)
    select(torch.randn(100_000, generator=generator), 1000)  # what the first call of all loads
    reset_peak()
    before = resident()
    if peak_resident() > before + (1 << 20):
        return None
    keep = int(share * SIZE)
    masks = decide({"w": scores}, keep).masks if decided else {"w": select(scores, keep)}
    return peak_resident() - before - masks["w"].numel()


@pytest.mark.parametrize(
    ("dtype", "tied", "share", "decided"),
    [(torch.float32, False, 0.5, False), (torch.float16, True, 0.3, True)],
)
def test_the_memory_of_a_selection_is_a_twentieth_of_the_scores(
    dtype: torch.dtype, tied: bool, share: float, decided: bool
) -> None:
    extra = fresh(extra_bytes, dtype, tied, share, decided)
    if extra is None:
        pytest.skip("this system does not tell the peak of memory since a moment")
    assert isinstance(extra, int), extra
    assert extra < 0.05 * 4 * SIZE + SPARE
    # a pass that makes one copy of the scores could not do with that
    assert 2 * SIZE > 0.05 * 4 * SIZE + SPARE


def test_keys_are_as_many_as_promised() -> None:
    for dtype, width in BITS.items():
        low, high = float_keys.finite(dtype)
        assert width - 1 < math.log2(high - low + 1) < width
