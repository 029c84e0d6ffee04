"""`python -m benchmarks.budget`."""

from benchmarks.budget.driver import run
from benchmarks.harness.cli import execute

execute(run)
