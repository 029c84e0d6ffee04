"""`python -m benchmarks.selection`."""

from benchmarks.harness.cli import execute
from benchmarks.selection.driver import run

execute(run)
