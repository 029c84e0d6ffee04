"""`python -m benchmarks.loss_decrease`."""

from benchmarks.harness.cli import execute
from benchmarks.loss_decrease.driver import run

execute(run)
