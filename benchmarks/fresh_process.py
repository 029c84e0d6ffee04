"""A measurement in a process of its own: its memory is its own, and its end is no one else's."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

from benchmarks.results_file import describe


def fresh(function: Callable[..., Any], *arguments: object) -> Any:
    """What the function returns in a process of its own; an error's text, if it failed."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except BrokenProcessPool:
            return "the process was killed: there may be too little memory"
        except Exception as error:  # a failure is a result
            return describe(error)
