"""`python -m benchmarks.selection`."""

from benchmarks.selection.driver import main

main()
