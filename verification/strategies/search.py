"""Search for scores that break a law, whatever Hypothesis profile is loaded."""

import contextlib
import itertools
from collections.abc import Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch
from hypothesis import HealthCheck, Phase, currently_in_test_context, find, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from verification.counterexample import Counterexample, identity, judge
from verification.laws import Law, Selector
from verification.scopes import FLAT
from verification.strategies.instances import Instance, instances, integer_selections, selections
from verification.strategies.smallest import smallest


def assert_law(
    selector: Selector,
    law: Law,
    *tried_on: st.SearchStrategy[Instance],
    max_examples: int = 1000,
) -> None:
    """Require that `counterexample`, which has the same arguments, finds none.

    Raises:
        AssertionError: the law was seen broken; the message is the text of the `Counterexample`.
    """
    found = counterexample(selector, law, *tried_on, max_examples=max_examples)
    if found is not None:
        raise AssertionError(str(found))


def counterexample(
    selector: Selector,
    law: Law,
    *tried_on: st.SearchStrategy[Instance],
    max_examples: int = 1000,
) -> Counterexample | None:
    """A small (importance, keep) for which the selector breaks the law; None if the search fails.

    Strategies are tried in order, and the counterexample is shrunk. Each instance is judged once,
    so that one on which a random or stateful selector failed is reported as it was seen; for other
    selectors the result is deterministic. The settings of the caller's tests do not matter; within
    a test with @given, the search runs in a thread of its own, and such a test needs deadline=None
    if the search may go beyond the smallest instances. None does not prove the law.

    Args:
        selector: (importance, keep) ↦ mask, as the law's scope says. It gets copies of the scores,
            so that changing them has no effect. Its exceptions are not caught.
        law: one of `verification.laws.LAWS`, of `laws_of` another scope, or another `Law`.
        tried_on: strategies from small to large, because searching small instances first is faster
            than shrinking; default: those of `smallest`, then in scope flat four integers, a few
            floats, and `instances(law)`, in other scopes `instances(law)`, small ones first.
        max_examples: the number of instances of each strategy.

    Raises:
        MaskError: the selector returned a mask that is not bool, or of another shape.
    """
    verdicts: dict[Hashable, Counterexample | Exception | None] = {}

    def broken(instance: Instance) -> bool:
        key = identity(*instance)
        if key not in verdicts:
            verdicts[key] = judge(selector, law, *instance)
        verdict = verdicts[key]
        if isinstance(verdict, Exception):
            raise verdict
        return verdict is not None

    def found() -> Iterator[Instance]:
        if not tried_on:
            yield from filter(broken, itertools.islice(smallest(law), max_examples))
        for strategy in tried_on or _from_small_to_large(law):
            with contextlib.suppress(NoSuchExample):
                yield find(strategy, broken, settings=_search(max_examples))

    def search(gradients: bool) -> Counterexample | None:
        with torch.set_grad_enabled(gradients):
            first = next(found(), None)
        verdict = None if first is None else verdicts[identity(*first)]
        assert not isinstance(verdict, Exception)
        return verdict

    if not currently_in_test_context():
        return search(torch.is_grad_enabled())
    with ThreadPoolExecutor(1) as thread:  # Hypothesis refuses @given in @given in one thread
        return thread.submit(search, torch.is_grad_enabled()).result()


def _search(max_examples: int) -> settings:
    """Settings that take nothing that decides from the profile that is loaded."""
    return settings(
        max_examples=max_examples,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
        deadline=None,
        backend="hypothesis",
    )


def _from_small_to_large(law: Law) -> tuple[st.SearchStrategy[Instance], ...]:
    if law.scope is FLAT:
        floats = () if law.integers else (selections(max_tensors=2, max_size=4),)
        return integer_selections(max_total=4, max_value=4), *floats, instances(law)
    integers = replace(law, integers=True)
    return instances(integers, max_total=3), instances(integers), instances(law)
