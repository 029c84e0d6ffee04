"""`python -m benchmarks.solvers`."""

from benchmarks.harness.cli import execute
from benchmarks.solvers.driver import run

execute(run)
