"""Every law holds on every path to a mask, and is broken by a selector that is wrong on purpose."""

from typing import Any

import pytest
import torch
from hypothesis import Phase, find, given, settings

from solvers import SOLVERS
from tests.laws.paths import PATHS, Path, as_mapping
from tests.laws.wrong_selectors import (
    BROKEN_BY,
    WRONG_SELECTORS,
    absolute_value,
    rounded,
    ties_to_the_higher_index,
)
from verification.claims.laws import all_ties_kept, first_k
from verification.laws import LAWS, Law, Selector, flat
from verification.strategies import Instance, counterexample, instances

# Any counterexample will do, without shrinking, and the same one at each run.
SEARCH = settings(
    max_examples=3000, derandomize=True, database=None, phases=[Phase.explicit, Phase.generate]
)
BY_NAME = {law.name: law for law in LAWS}


def name_of(thing: Any) -> str:
    return str(getattr(thing, "name", None) or thing.__name__).replace("_", "-")


@pytest.mark.parametrize("path", PATHS, ids=name_of)
@pytest.mark.parametrize("law", LAWS, ids=name_of)
def test_the_law_holds(law: Law, path: Path) -> None:
    profile = settings() if path.max_examples is None else settings(max_examples=path.max_examples)

    @profile
    @given(path.instances(integers=law.integers, tie_rule=law.tie_rule))
    def holds(instance: Instance) -> None:
        assert law.holds(path.select, *instance)

    holds()


@pytest.mark.parametrize(
    ("law", "selector"),
    [(law, selector) for law in LAWS for selector in BROKEN_BY[law.name]],
    ids=name_of,
)
def test_the_law_is_broken_by(law: Law, selector: Selector) -> None:
    find(instances(law), lambda instance: not law.holds(selector, *instance), settings=SEARCH)


def test_every_wrong_selector_breaks_a_law_and_every_law_is_broken() -> None:
    assert {wrong for selectors in BROKEN_BY.values() for wrong in selectors} == set(
        WRONG_SELECTORS
    )
    assert BROKEN_BY.keys() == BY_NAME.keys()
    assert all(BROKEN_BY.values())


def test_every_solver_is_a_path() -> None:
    assert set(SOLVERS) <= {path.name for path in PATHS}


def test_names_and_statements_of_laws_are_unique() -> None:
    assert len(BY_NAME) == len({law.statement for law in LAWS}) == len(LAWS)


@pytest.mark.parametrize(
    ("law", "selector", "scores", "keep"),
    [
        ("theorem-1", first_k, [0.0, 1.0], 1),
        ("exact-count", all_ties_kept, [0.0, 0.0], 1),
        ("tie-rule", ties_to_the_higher_index, [0.0, 0.0], 1),
        ("affine", absolute_value, [0.0, 1.0], 1),
    ],
)
def test_a_small_counterexample_is_found_and_the_same_at_each_run(
    law: str, selector: Selector, scores: list[float], keep: int
) -> None:
    found = [counterexample(selector, BY_NAME[law]) for _ in range(2)]
    for instance in found:
        assert instance is not None
        assert (flat(instance[0]).tolist(), instance[1]) == (scores, keep)


def test_a_counterexample_that_needs_floats_is_found() -> None:
    found = counterexample(rounded, BY_NAME["float64"], max_examples=60)
    assert found is not None
    assert flat(found[0]).numel() <= 4


def test_a_counterexample_that_needs_large_instances_is_found() -> None:
    def wrong_from_nine_on(importance: Any, keep: int) -> torch.Tensor:
        total = flat(importance).numel()
        return (as_mapping if total < 9 else first_k)(importance, keep)

    found = counterexample(wrong_from_nine_on, BY_NAME["theorem-1"], max_examples=40)
    assert found is not None
    assert flat(found[0]).numel() >= 9


def test_a_correct_selector_has_no_counterexample() -> None:
    for law in LAWS:
        assert counterexample(as_mapping, law, max_examples=5) is None


def test_a_selector_that_changes_its_scores_does_not_change_the_counterexample() -> None:
    def erases(importance: Any, keep: int) -> torch.Tensor:
        for scores in importance.values():
            scores.fill_(7.0)
        return first_k(importance, keep)

    found = counterexample(erases, BY_NAME["unchanged"])
    assert found is not None
    assert flat(found[0]).tolist() == [0.0]


def test_without_ties_another_tie_rule_satisfies_the_law() -> None:
    law = BY_NAME["tie-rule"]
    backwards = ties_to_the_higher_index
    assert counterexample(backwards, law, max_examples=200) is not None
    assert counterexample(backwards, law, instances(law, ties=False), max_examples=200) is None
    assert counterexample(first_k, law, instances(law, ties=False)) is not None


def test_an_error_of_the_selector_is_raised() -> None:
    def fails(importance: Any, keep: int) -> torch.Tensor:
        raise RuntimeError(f"told to keep {keep} of {flat(importance).tolist()}")

    with pytest.raises(RuntimeError, match=r"told to keep 0 of \[0\.0\]"):
        counterexample(fails, BY_NAME["exact-count"])
