"""Provenance of a result: command, date, versions, machine."""

import importlib.metadata
import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

PACKAGES = (
    "torch", "numpy", "scipy", "pulp", "safetensors", "transformers", "accelerate", "datasets",
    "torchmetrics", "sacrebleu", "seqeval",
)  # fmt: skip


def provenance() -> dict[str, Any]:
    """JSON values to be stored with every result; they name no person and no host."""
    return {
        "command": command(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "versions": versions(),
        "machine": {
            "system": platform.system(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
        },
    }


def versions() -> dict[str, str]:
    """The version of PINS, and of each package that computes, by name."""
    found = {"pins": importlib.metadata.version("pins-pruning")}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def command() -> str:
    """The command line as it was typed, without the interpreter's and the script's folders."""
    words = [word for word in sys.orig_argv[1:] if word != "-u"]  # torchrun adds -u
    if words[:1] == ["-m"]:
        return shlex.join(["python", *words])
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def _processor() -> str:
    """The architecture, and the processor's name if the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{platform.machine()} {names[0] if names else platform.processor()}".strip()
