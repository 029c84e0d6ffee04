"""`python -m benchmarks.distributed`."""

from benchmarks.distributed.driver import main

main()
