"""`python -m benchmarks.oneshot_layers`."""

from benchmarks.harness.cli import execute
from benchmarks.oneshot_layers.driver import run

execute(run)
