"""`python -m benchmarks.checker`."""

from benchmarks.checker.driver import main

main()
