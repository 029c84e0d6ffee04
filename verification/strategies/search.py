"""Search for scores that break a law, whatever Hypothesis profile is loaded."""

import contextlib
from collections.abc import Hashable
from concurrent.futures import ThreadPoolExecutor

import torch
from hypothesis import HealthCheck, Phase, currently_in_test_context, find, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from verification.counterexample import Counterexample, identity, judge
from verification.laws import Law, Selector
from verification.strategies.instances import Instance, instances, integer_selections, selections


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
    a test with @given, the search runs in a thread of its own. None does not prove the law.

    Args:
        selector: (importance, keep) ↦ mask. It gets copies of the scores, so that changing them has
            no effect. Its exceptions are not caught.
        law: one of `verification.laws.LAWS`, or another `Law`.
        tried_on: strategies from small to large, because searching small instances first is faster
            than shrinking; default: two integers, four, a few floats, then `instances(law)`.
        max_examples: the number of instances of each strategy.

    Raises:
        MaskError: the selector returned a mask that is not a bool tensor of shape (n,).
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

    def search(gradients: bool) -> Counterexample | None:
        for strategy in tried_on or _from_small_to_large(law):
            with contextlib.suppress(NoSuchExample), torch.set_grad_enabled(gradients):
                found = find(strategy, broken, settings=_search(max_examples))
                verdict = verdicts[identity(*found)]
                assert isinstance(verdict, Counterexample)
                return verdict
        return None

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
    integers = [integer_selections(max_total=total, max_value=total) for total in (2, 4)]
    floats = () if law.integers else (selections(max_tensors=2, max_size=4),)
    return *integers, *floats, instances(law)
