"""`python -m benchmarks.solvers`."""

from benchmarks.solvers.driver import main

main()
