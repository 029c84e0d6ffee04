"""`python -m benchmarks.end_accuracy`."""

from benchmarks.end_accuracy.driver import main

main()
