"""`python -m benchmarks.oneshot`."""

from benchmarks.harness.cli import execute
from benchmarks.oneshot.driver import run

execute(run)
