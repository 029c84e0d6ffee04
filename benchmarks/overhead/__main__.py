"""`python -m benchmarks.overhead`."""

from benchmarks.harness.cli import execute
from benchmarks.overhead.driver import run

execute(run)
