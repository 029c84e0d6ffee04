"""`python -m benchmarks.scope_map`."""

from benchmarks.harness.cli import execute
from benchmarks.scope_map.driver import run

execute(run)
