"""`python -m benchmarks.transposable`."""

from benchmarks.harness.cli import execute
from benchmarks.transposable.driver import run

execute(run)
