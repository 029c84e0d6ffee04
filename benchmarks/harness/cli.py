"""A benchmark as a command: its options from its signature, its errors in one line."""

import sys
from collections.abc import Callable

import typer

from pins.errors import PinsError


def execute(run: Callable[..., None]) -> None:
    """Run; an error PINS raises on purpose becomes one line and exit code 2."""
    try:
        typer.run(run)
    except PinsError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        sys.exit(2)
