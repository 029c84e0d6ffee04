"""`python -m benchmarks.overhead`."""

from benchmarks.overhead.driver import main

main()
