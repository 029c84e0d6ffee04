"""A thread whose processor flushes denormals, and processes whose other threads do."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch


@contextmanager
def flushing() -> Iterator[None]:
    """As `torch.set_flush_denormal` leaves this thread; the others stay what they are."""
    threads = torch.get_num_threads()
    if not torch.set_flush_denormal(True):
        pytest.skip("this machine cannot flush denormals")
    torch.set_num_threads(1)
    try:
        least, twice = 1e-310, 2e-310
        assert not least < twice, "the negative control: plain floats do not compare here"
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)
