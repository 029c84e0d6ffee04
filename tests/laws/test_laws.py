"""Every law holds on every path to a mask, and is broken by a selector that is wrong on purpose."""

from typing import Any

import pytest
from hypothesis import Phase, find, given, settings

from solvers import SOLVERS
from tests.laws.laws import LAWS, Law
from tests.laws.paths import PATHS, Instance, Path, Selector
from tests.laws.wrong_selectors import WRONG_SELECTORS
from verification.strategies import integer_selections, selections

# Wanted is some counterexample, not the smallest, and the same one at each run.
SEARCH = settings(
    max_examples=3000, derandomize=True, database=None, phases=[Phase.explicit, Phase.generate]
)


def name_of(thing: Any) -> str:
    if isinstance(thing, Law):
        thing = thing.holds
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
    ("law", "wrong"), [(law, wrong) for law in LAWS for wrong in law.broken_by], ids=name_of
)
def test_the_law_is_broken_by(law: Law, wrong: Selector) -> None:
    instances = integer_selections() if law.integers else selections()
    find(instances, lambda instance: not law.holds(wrong, *instance), settings=SEARCH)


def test_every_wrong_selector_breaks_a_law_and_every_law_is_broken() -> None:
    assert {wrong for law in LAWS for wrong in law.broken_by} == set(WRONG_SELECTORS)
    assert all(law.broken_by for law in LAWS)


def test_every_solver_is_a_path() -> None:
    assert set(SOLVERS) <= {path.name for path in PATHS}
