"""`python -m benchmarks.checker`."""

from benchmarks.checker.driver import run
from benchmarks.harness.cli import execute

execute(run)
