"""`python -m benchmarks.distributed`."""

from benchmarks.distributed.driver import run
from benchmarks.harness.cli import execute

execute(run)
