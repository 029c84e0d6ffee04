"""Where PINS is published, and so how it is installed; imports nothing."""

REPOSITORY = ""
"""The public address of the repository, https://…, without a slash at its end; empty: none yet."""

REINSTALL = "in a checkout of another version run pip install --no-deps -e ."
"""What renews the entry points that an installation wrote down."""


def install_command(extra: str) -> str:
    """The command that installs PINS with one of its extras, for an error message."""
    if REPOSITORY:
        return f"pip install 'pins-pruning[{extra}] @ git+{REPOSITORY}'"
    return f"pip install '.[{extra}]' in a checkout of PINS"


def linked(words: str) -> str:
    """The words as a Markdown link to the repository; as they are where there is no address."""
    return f"[{words}]({REPOSITORY})" if REPOSITORY else words
