"""The search for a counterexample: what it reports, for any pruner and under any profile."""

import subprocess
import sys
import time
import unittest
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import FailedHealthCheck, Flaky, NoSuchExample
from torch import Tensor

from pins.errors import MaskError
from tests.laws.paths import as_mapping
from tests.laws.wrong_selectors import (
    absolute_value,
    order_of_memory,
    sorts_in_place,
)
from verification.claims.laws import first_k
from verification.laws import LAWS, Law, flat, right_mask
from verification.strategies import (
    Instance,
    assert_law,
    counterexample,
    instances,
    integer_selections,
    selections,
)

LAW = {law.name: law for law in LAWS}
PAIR = st.just(({"b": torch.tensor([0.0]), "a": torch.tensor([1.0, 1.0])}, 2))  # ties at index 1, 2


def message(selector: Any, law: str, instance: st.SearchStrategy[Instance]) -> list[str]:
    """The lines of the message for a selector that breaks the law."""
    with pytest.raises(AssertionError) as broken:
        assert_law(selector, LAW[law], instance)
    return str(broken.value).splitlines()


def ties_at_random(importance: Mapping[str, Tensor], keep: int) -> Tensor:
    """The k largest; which of equal scores are kept is chance."""
    scores = flat(importance)
    order = torch.randperm(scores.numel())
    mask = torch.empty(scores.numel(), dtype=torch.bool)
    mask[order] = as_mapping({"w": scores[order]}, keep)
    return mask


class Averaging:
    """Ranks the mean of the scores and of those before, as long as their number is the same."""

    def __init__(self) -> None:
        self.mean = torch.empty(0, dtype=torch.float64)

    def __call__(self, importance: Mapping[str, Tensor], keep: int) -> Tensor:
        scores = flat(importance).double()
        if self.mean.shape == scores.shape:
            scores = self.mean / 2 + scores / 2
        self.mean = scores
        return as_mapping({"w": scores}, keep)


class Seen:
    """A selector, and what it got and returned at each call."""

    def __init__(self, select: Any) -> None:
        self.select = select
        self.calls: list[tuple[list[float], int, list[bool]]] = []

    def __call__(self, importance: Mapping[str, Tensor], keep: int) -> Tensor:
        scores, mask = flat(importance).tolist(), self.select(importance, keep)
        self.calls.append((scores, keep, mask.tolist()))
        return mask  # type: ignore[no-any-return]


def test_the_message_has_scores_both_masks_and_the_first_difference() -> None:
    assert message(first_k, "tie-rule", PAIR) == [
        "the law 'tie-rule' is broken: "
        "The k largest scores are kept, of equal ones those with the lower index.",
        "  call 1 of 1: k = 2, scores {'b': torch.tensor([0.0], dtype=torch.float32), "
        "'a': torch.tensor([1.0, 1.0], dtype=torch.float32)}",
        "  found:    [1, 1, 0]",
        "  expected: [0, 1, 1], the k largest scores, ties to the lower index",
        "  first difference: index 0, b[0] of score 0.0, is kept, not pruned",
    ]


def test_without_the_tie_rule_the_nearest_right_mask_is_expected() -> None:
    scores = {"w": torch.tensor([1.0, 1.0, 0.0, 1.0])}
    wrong = torch.tensor([False, False, True, True])
    said = message(lambda *_: wrong, "theorem-1", st.just((scores, 2)))
    assert said[3:] == [
        "  expected: [1, 0, 0, 1], the k largest scores",
        "  first difference: index 0, w[0] of score 1.0, is pruned, not kept",
    ]
    assert right_mask(scores, 2).tolist() == [True, True, False, False]
    assert right_mask(scores, 2, wrong).tolist() == [True, False, False, True]


def test_changed_scores_and_strides_are_in_the_message() -> None:
    falling = st.just(({"w": torch.tensor([1.0, 0.0])}, 1))
    assert message(sorts_in_place, "unchanged", falling)[-1] == (
        "  call 1 changed the scores to {'w': torch.tensor([0.0, 1.0], dtype=torch.float32)}"
    )
    rising = st.just(({"w": torch.tensor([0.0, 1.0, 2.0])}, 1))
    said = message(order_of_memory, "strides", rising)
    assert said[1].startswith("  call 2 of 2: ")
    assert "torch.tensor([0.0, 1.0, 2.0], dtype=torch.float32) with strides (2,)" in said[1]


def test_a_law_that_asks_for_more_than_the_right_mask_shows_all_calls() -> None:
    law = Law("never", "Never.", lambda select, scores, keep: not select(scores, keep).numel())
    with pytest.raises(AssertionError, match=r"call 1 of 1: k = 2.*\n  found:    \[0, 1, 1\]$"):
        assert_law(as_mapping, law, PAIR)


@pytest.mark.parametrize("law", ["tie-rule", "zero", "concatenation", "determinism"])
def test_a_random_selector_is_reported_as_it_was_seen(law: str) -> None:
    torch.manual_seed(0)
    seen = Seen(ties_at_random)
    found = counterexample(seen, LAW[law], max_examples=100)
    assert found is not None
    reported = [(flat(c.importance).tolist(), c.keep, c.mask.tolist()) for c in found.calls]
    number = len(reported)
    assert reported in [seen.calls[i : i + number] for i in range(len(seen.calls))]
    assert "first difference: index " in str(found)


def test_one_law_tells_chance_and_state_from_a_function_of_the_scores() -> None:
    torch.manual_seed(0)
    said = message(ties_at_random, "determinism", PAIR.map(lambda pair: (pair[0], 1)))
    assert said[0] == (
        "the law 'determinism' is broken: The same scores have the same mask at each call."
    )
    assert said[1].startswith("  call 3 of 3: k = 1, scores {'b'")
    assert said[3].endswith(", the mask of call 1 for the same scores and k")
    state = st.just(({"w": torch.tensor([0.0, 1.0, 10.0])}, 2))
    assert message(Averaging(), "determinism", state)[2:4] == [
        "  found:    [1, 0, 1]",
        "  expected: [0, 1, 1], the mask of call 1 for the same scores and k",
    ]
    # an average that starts anew at each call is a function of the scores
    assert_law(lambda s, k: Averaging()(s, k), LAW["determinism"], max_examples=10)
    # the control: without the memory of its verdicts Hypothesis calls the selector flaky
    turns = iter([False] + [True] * 100)
    with pytest.raises(Flaky):
        find(st.integers(), lambda _: not next(turns), settings=settings(database=None))


def test_a_selector_that_reuses_its_mask_is_judged_by_each_mask() -> None:
    masks: dict[int, Tensor] = {}

    def reuses(select: Any) -> Any:
        def into_one_buffer(importance: Mapping[str, Tensor], keep: int) -> Tensor:
            mask = select(importance, keep)
            return masks.setdefault(mask.numel(), torch.empty_like(mask)).copy_(mask)

        return into_one_buffer

    small = integer_selections(max_total=3, max_value=3)
    for law in ("nesting", "affine", "determinism"):
        assert_law(reuses(as_mapping), LAW[law], small, max_examples=20)
    assert counterexample(reuses(absolute_value), LAW["affine"], small) is not None


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
@pytest.mark.parametrize(
    ("convert", "came"),
    [
        (lambda m: m.float(), "a tensor of dtype torch.float32 and shape (3,)"),
        (lambda m: m.long(), "a tensor of dtype torch.int64 and shape (3,)"),
        (lambda m: m[:, None], "a tensor of dtype torch.bool and shape (3, 1)"),
        (lambda m: m[:0], "a tensor of dtype torch.bool and shape (0,)"),
        (lambda _: None, "an object of type NoneType"),
        (lambda m: {"w": m}, "an object of type dict"),
        (lambda m: m.numpy(), "an object of type ndarray"),
    ],
    ids=["float", "int", "column", "empty", "None", "mapping", "numpy"],
)
def test_a_mask_that_is_not_bool_of_one_dimension_is_one_error(
    law: Law, convert: Any, came: str
) -> None:
    scores, keep = {"w": torch.tensor([3.0, 1.0, 2.0])}, 2
    with pytest.raises(MaskError) as refused:
        law.holds(lambda s, k: convert(as_mapping(s, k)), scores, keep)
    assert str(refused.value) == (
        f"the selector returned {came}; with n = 3 scores, return one tensor of dtype torch.bool "
        "and shape (3,), True = keep: mask.bool() converts 0 and 1, and verification.laws.flat "
        "joins the masks of a mapping"
    )
    assert law.holds(as_mapping, scores, keep)


def test_a_mask_that_is_not_bool_is_the_error_of_the_search() -> None:
    with pytest.raises(MaskError, match=r"returned a tensor of dtype torch\.float32 and shape"):
        assert_law(lambda s, k: as_mapping(s, k).float(), LAW["complement"])


def test_an_error_at_random_is_raised_as_it_is() -> None:
    turns = iter(range(10_000))

    def fails_once(importance: Mapping[str, Tensor], keep: int) -> Tensor:
        if next(turns) == 3:
            raise RuntimeError("out of memory")
        return as_mapping(importance, keep)

    with pytest.raises(RuntimeError, match=r"^out of memory"):
        assert_law(fails_once, LAW["exact-count"])
    assert_law(fails_once, LAW["exact-count"], max_examples=5)


def has_zero_size(instance: Instance) -> bool:
    return any(scores.numel() == 0 for scores in instance[0].values())


@pytest.mark.parametrize(
    "strategy",
    [
        selections,
        integer_selections,
        partial(instances, LAW["zero"]),
        partial(instances, LAW["affine"]),
        partial(instances, LAW["tie-rule"], ties=False),
    ],
)
def test_tensors_have_an_entry_unless_asked_otherwise(strategy: Any) -> None:
    search = settings(
        max_examples=50, database=None, derandomize=True, phases=[Phase.generate]
    )  # any will do: without shrinking
    with pytest.raises(NoSuchExample):
        find(strategy(), has_zero_size, settings=search)
    assert find(strategy(zero_size=True), has_zero_size, settings=search)


def test_a_selector_that_refuses_empty_tensors_can_keep_all_laws() -> None:
    def refuses(importance: Mapping[str, Tensor], keep: int) -> Tensor:
        assert all(scores.numel() for scores in importance.values()), "empty"
        return as_mapping(importance, keep)

    for law in LAWS:
        assert_law(refuses, law, integer_selections(max_total=2, max_value=2), max_examples=10)
    with pytest.raises(AssertionError, match=r"^empty"):
        assert_law(refuses, LAW["exact-count"], integer_selections(zero_size=True))


PROFILES: dict[str, dict[str, Any]] = {
    "explicit": {"phases": [Phase.explicit]},
    "reuse": {"phases": [Phase.explicit, Phase.reuse]},
    "one-example": {"max_examples": 1},
    "derandomized": {"derandomize": True, "database": None},
    "deadline": {"deadline": 1, "suppress_health_check": []},
}


@pytest.fixture(params=PROFILES)
def profile(request: pytest.FixtureRequest) -> Iterator[str]:
    ours = settings.get_current_profile_name()
    settings.register_profile("of-the-user", settings(), **PROFILES[request.param])
    settings.load_profile("of-the-user")
    yield request.param
    settings.load_profile(ours)


def test_no_profile_decides_whether_a_broken_selector_is_found(profile: str) -> None:
    # a filter that fails a health check
    rare = integer_selections(max_total=4, max_value=3).filter(lambda instance: instance[1] == 3)
    for tried_on in ((), (rare,)):
        try:
            found = counterexample(absolute_value, LAW["theorem-1"], *tried_on)
        except unittest.SkipTest:
            pytest.fail("pytest would skip this test")
        assert found is not None
    assert_law(as_mapping, LAW["theorem-1"], max_examples=5)
    if profile in ("explicit", "reuse"):  # the control: the profile skips other searches
        with pytest.raises(unittest.SkipTest):
            find(st.integers(), bool, settings=settings(database=None))


@pytest.mark.parametrize(
    ("selector", "law"), [(absolute_value, "theorem-1"), (first_k, "tie-rule")]
)
def test_a_small_counterexample_is_found_within_the_deadline_of_an_outer_test(
    selector: Any, law: str
) -> None:
    @settings(max_examples=5, deadline=200, database=None)
    @given(st.integers())
    def nested(_: int) -> None:
        assert counterexample(selector, LAW[law]) is not None

    nested()
    # the control: Hypothesis alone takes many times as long, so that a busy machine misses 200 ms
    small = integer_selections(max_total=2, max_value=2)
    searches: tuple[tuple[Any, ...], ...] = ((), (small,))
    times = [min(timed(selector, LAW[law], *tried_on) for _ in range(3)) for tried_on in searches]
    assert times[1] > 2 * times[0]  # on a quiet machine over 50 times


def timed(*given: Any) -> float:
    """The seconds of one search that finds a counterexample."""
    start = time.perf_counter()
    assert counterexample(*given) is not None
    return time.perf_counter() - start


def test_the_search_works_within_a_test_with_given() -> None:
    @settings(max_examples=1, deadline=None, database=None, suppress_health_check=[])
    @given(st.integers())
    def nested(_: int) -> None:
        def without_gradients(importance: Mapping[str, Tensor], keep: int) -> Tensor:
            assert not torch.is_grad_enabled()
            return as_mapping(importance, keep)

        with pytest.raises(AssertionError, match="the law 'theorem-1' is broken"):
            assert_law(absolute_value, LAW["theorem-1"])
        with torch.no_grad():
            assert_law(without_gradients, LAW["theorem-1"], max_examples=5)
        with pytest.raises(FailedHealthCheck):  # the control
            find(st.integers(), bool)

    nested()
    assert HealthCheck.nested_given not in settings().suppress_health_check


WITHOUT_PULP = """
import sys
sys.modules["pulp"] = sys.modules["matplotlib"] = None
import torch
from verification.laws import LAWS, flat
from verification.strategies import counterexample
first_k = lambda importance, keep: torch.arange(flat(importance).numel()) < keep
print(LAWS[1].name, counterexample(first_k, LAWS[1])[1])
try:
    import solvers
except ImportError as error:
    print(error.name)
"""


def test_the_kit_needs_neither_pulp_nor_matplotlib(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PULP],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("theorem-1 1\npulp\n", 0), done.stderr
