"""`python -m benchmarks.oneshot_loss`."""

from benchmarks.harness.cli import execute
from benchmarks.oneshot_loss.driver import run

execute(run)
