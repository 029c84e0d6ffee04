"""`python -m benchmarks.loss_decrease`."""

from benchmarks.loss_decrease.driver import main

main()
