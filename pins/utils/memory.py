"""Free memory, as Linux and CUDA report it."""

import contextlib
from pathlib import Path

import torch

CONTROL_GROUP = Path("/sys/fs/cgroup")
# files with limit, use and details of this control group, in versions 2 and 1 of the interface
LIMITS = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)


def free_bytes(device: torch.device) -> int | None:
    """Bytes that can still be allocated on the device; None if the system does not report them.

    Copies of files in memory that the system drops when it needs room count as free.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    found = [kilobytes(Path("/proc/meminfo")).get("MemAvailable")]
    for *names, details, dropped in LIMITS:
        # without a control group there are no files; "max" is no limit
        with contextlib.suppress(OSError, ValueError):
            limit, used = (int((CONTROL_GROUP / name).read_text("ascii")) for name in names)
            lines = (CONTROL_GROUP / details).read_text("ascii").splitlines()
            found.append(limit - used + int(dict(line.split() for line in lines).get(dropped, 0)))
    return min((number for number in found if number is not None), default=None)


def kilobytes(file: Path) -> dict[str, int]:
    """Bytes by name, from the lines `NAME: N kB`; empty if there is no such file."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    words = [line.split() for line in lines if line.endswith(" kB")]
    return {word[0].rstrip(":"): int(word[1]) * 1024 for word in words}
