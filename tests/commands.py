"""A command of `pins`, run in this process as somebody types it."""

from collections.abc import Callable

Command = Callable[..., tuple[int, str, str]]
"""(arguments …, columns=200) ↦ exit code, standard output, standard error: the fixture `pins`."""
