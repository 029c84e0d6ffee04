"""Fixtures of the trainings with the Trainer."""

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def _only_new_garbage() -> Iterator[None]:
    """Each training begins with a garbage collection, which takes 0.2 s with all imports."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
