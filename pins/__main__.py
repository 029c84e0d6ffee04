"""`python -m pins`: the command line, where its script is not on the path."""

from pins.cli import main

main()
