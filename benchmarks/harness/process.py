"""Memory of this process, and what is free, as Linux tells it."""

import ctypes
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness.results import describe

STATUS = Path("/proc/self/status")
RESET = Path("/proc/self/clear_refs")
_MMAP_THRESHOLD, _LARGE = -3, 1 << 16  # of mallopt; bytes
# limit and use of the group of processes that this one is in: versions 2 and 1 of the interface
GROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)


def resident() -> int:
    """Bytes that this process has in memory now; its peak where the system does not tell."""
    return _status("VmRSS") or _usage()


def peak_resident() -> int:
    """Bytes of the most memory this process has had at a time, since `reset_peak`.

    Linux hands the figure of `getrusage` on from a parent to what it starts, but not VmHWM.
    """
    return _status("VmHWM") or _usage()


def reset_peak() -> None:
    """Count the peak from here on; where the system does not let us, it stays what it was.

    Memory that was freed and is kept for the next to ask goes back first: what is taken from it
    would not be seen.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:  # glibc has it, musl has not
        trim(0)
    try:
        RESET.write_text("5", encoding="ascii")
    except OSError:
        return


def return_memory() -> None:
    """Have glibc give back at once what is freed, so that a peak is what is in use at a time.

    By itself it raises the size from which it does so with every tensor that is freed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE)


def free_bytes(device: torch.device) -> int | None:
    """What can still be had on the device; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    found = [_lines(Path("/proc/meminfo")).get("MemAvailable")]
    found += [_left(limit, used) for limit, used in GROUPS]
    return min((number for number in found if number is not None), default=None)


def _left(limit: Path, used: Path) -> int | None:
    try:
        return int(limit.read_text(encoding="ascii")) - int(used.read_text(encoding="ascii"))
    except (OSError, ValueError):  # no such group, or "max": no limit
        return None


def _status(name: str) -> int | None:
    return _lines(STATUS).get(name)


def _lines(file: Path) -> dict[str, int]:
    """Bytes by name, of the lines `NAME: N kB`."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    words = [line.split() for line in lines if line.endswith(" kB")]
    return {word[0].rstrip(":"): int(word[1]) * 1024 for word in words}


def _usage() -> int:
    import resource  # there is none on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def fresh(function: Callable[..., Any], *arguments: object) -> Any:
    """What the function returns in a process of its own; an error's text, if it failed."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except BrokenProcessPool:
            return "the process was killed: there may be too little memory"
        except Exception as error:  # a failure is a result
            return describe(error)
