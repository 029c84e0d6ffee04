"""Memory of this process, as Linux reports it; functions in a fresh process."""

import contextlib
import ctypes
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import torch

from benchmarks.harness.results import describe
from benchmarks.harness.timing import synchronize
from pins.utils.child_process import end_with
from pins.utils.memory import kilobytes

T = TypeVar("T")

STATUS = Path("/proc/self/status")
RESET = Path("/proc/self/clear_refs")
_MMAP_THRESHOLD, _LARGE = -3, 1 << 16  # mallopt's parameter, and its value in bytes


def resident() -> int:
    """Bytes that this process has in memory now; its peak if the system does not report them."""
    return kilobytes(STATUS).get("VmRSS") or _usage()


def peak_resident() -> int:
    """Peak of the process's memory in bytes since `reset_peak`.

    On Linux a child process inherits the peak of `getrusage` from its parent, but not VmHWM.
    """
    return kilobytes(STATUS).get("VmHWM") or _usage()


def reset_peak() -> None:
    """Count the peak from now on, if the system allows it.

    Freed memory goes back to the system first: memory that is allocated from it is not counted.
    """
    if trim := _libc("malloc_trim"):
        trim(0)
    with contextlib.suppress(OSError):
        RESET.write_text("5", encoding="ascii")


def return_memory() -> None:
    """Let glibc return freed memory at once, so that a peak counts only memory in use.

    By default only large blocks are returned, and "large" grows with every tensor that is freed.
    """
    if mallopt := _libc("mallopt"):
        mallopt(_MMAP_THRESHOLD, _LARGE)


def _libc(name: str) -> Any:
    """A function of glibc; None on other systems (musl has no malloc_trim)."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


def peak_of(work: Callable[[], T], device: torch.device) -> tuple[int, T]:
    """Peak bytes of the work beyond the memory in use before, and its result.

    On CUDA the memory of tensors. On a CPU the memory of the whole process, which on some systems
    never shrinks: call it in a fresh process.
    """
    cuda = device.type == "cuda"
    synchronize(device)
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    else:
        reset_peak()
    before = torch.cuda.memory_allocated(device) if cuda else resident()
    result = work()
    synchronize(device)
    peak = torch.cuda.max_memory_allocated(device) if cuda else peak_resident()
    return peak - before, result


def _usage() -> int:
    import resource  # Windows has no such module

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def fresh(function: Callable[..., Any], *arguments: object) -> Any:
    """The function's result, computed in a new process; the text of its error if it failed."""
    with ProcessPoolExecutor(
        1, mp_context=get_context("spawn"), initializer=end_with, initargs=(os.getpid(),)
    ) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except BrokenProcessPool:
            return "the process was killed: there may be too little memory"
        except Exception as error:  # a failure is a result
            return describe(error)
