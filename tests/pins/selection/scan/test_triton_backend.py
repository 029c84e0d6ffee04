"""Triton's kernels: interpreted here, where there is no GPU, and compiled for several.

Both happen in processes of their own: the interpreter is chosen before Triton is imported, and
PyTorch behaves differently once it has been.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="triton is not installed; it comes with PyTorch's builds for CUDA",
)


def run(*command: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_interpreted_kernels_find_what_a_scan_finds() -> None:
    out = run(
        "-m", "pytest", "-q", "tests/pins/selection/scan/interpreted_scan.py", TRITON_INTERPRET="1"
    )
    assert " passed" in out


@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile_without_a_gpu(capability: int, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    out = run(
        "-m",
        "tests.pins.selection.scan.compiled_kernels",
        str(capability),
        TRITON_CACHE_DIR=cache,
        PYTHONPATH=".",
    )
    assert out.split() == ["4", "kernels"]
