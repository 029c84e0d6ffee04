"""`python -m benchmarks.end_accuracy`."""

from benchmarks.end_accuracy.driver import run
from benchmarks.harness.cli import execute

execute(run)
