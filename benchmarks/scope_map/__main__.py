"""`python -m benchmarks.scope_map`."""

from benchmarks.scope_map.driver import main

main()
