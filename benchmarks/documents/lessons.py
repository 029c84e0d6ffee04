"""Run the lessons of the course, and write below each block of code what it prints.

    python -m benchmarks.documents.lessons [FILE …]

The blocks of a lesson run in order: those in Python in one namespace, as if typed at one prompt;
those marked `sh` one command a line. A command that is to fail says so in a comment,
`# exit code 1`. A lesson begins in an empty folder of a checkout, called `course`. What is not to
be run is marked `text`. `tests/docs/test_lessons.py` holds the lessons to what is written there.
"""

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from code import InteractiveInterpreter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.documents.code_blocks import CodeBlock, code_blocks, with_outputs
from benchmarks.harness.cli import execute
from pins.errors import PinsError
from pins.utils.io import write_text

ROOT = Path(__file__).parents[2]
COURSE = ROOT / "docs" / "course"
SEEN = ("benchmarks", "docs", "pins", "solvers", "verification", "README.md")
PROGRAMS = {"python": [sys.executable], "pins": [sys.executable, "-m", "pins"]}
EXIT_CODE = re.compile(r"#.*\bexit code (\d+)")


class LessonError(PinsError, RuntimeError):
    """A block of a lesson that fails, or that cannot be run."""


class _Prompt(InteractiveInterpreter):
    """One namespace for the Python blocks of a lesson; remembers what a block raised."""

    error: BaseException | None = None

    def showtraceback(self) -> None:
        """Called where the block raises."""
        self.error = sys.exception()


def run_blocks(blocks: list[CodeBlock], name: str, folder: Path) -> Iterator[tuple[CodeBlock, str]]:
    """Run those in Python and of commands in order, in `folder`: each with what it printed.

    Raises:
        LessonError: a block raises, or a command ends with another exit code than it says.
    """
    prompt = _Prompt({"__name__": "__main__"})
    with contextlib.chdir(folder):
        for block in blocks:
            if block.language == "python":
                yield block, _run_python(prompt, block, name)
            elif block.language == "sh":
                lines = block.code.splitlines()
                yield block, "".join(_run_command(line, f"{name}: {line}") for line in lines)


def _run_python(prompt: _Prompt, block: CodeBlock, name: str) -> str:
    printed = io.StringIO()
    try:
        # the empty lines let a traceback name the line of the document
        compiled = compile("\n" * (block.line - 1) + block.code, name, "exec")
    except SyntaxError as error:
        raise LessonError(f"{name}, line {error.lineno}: no Python: {error.msg}") from error
    with contextlib.redirect_stdout(printed):
        prompt.runcode(compiled)
    if prompt.error is not None:
        raise LessonError(
            f"{name}, line {block.line}: the block raises {type(prompt.error).__name__}: "
            f"{prompt.error}"
        ) from prompt.error
    return printed.getvalue()


def _run_command(line: str, where: str) -> str:
    words = shlex.split(line, comments=True)
    if not words:
        return ""
    if set(words) & {"|", ">", ">>", "<", "&&", ";"}:
        raise LessonError(f"{where}: no shell runs the lessons; write one command a line")
    program = PROGRAMS.get(words[0], words[:1])
    # as wide as where no terminal is, whatever the one is that this was started from
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    done = subprocess.run(  # noqa: S603 (the lessons are our own)
        [*program, *words[1:]],
        env={**environment, "PYTHONIOENCODING": "utf-8"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
    )
    said = EXIT_CODE.search(line)
    if done.returncode != (int(said[1]) if said else 0):
        raise LessonError(f"{where}: exit code {done.returncode}, and prints\n{done.stdout}")
    return done.stdout


def make_course(checkout: Path) -> Path:
    """An empty folder `course` in a copy of this checkout that is made of links."""
    for name in SEEN:
        (checkout / name).symlink_to(ROOT / name)
    course = checkout / "course"
    course.mkdir()
    return course


def lesson_files() -> list[Path]:
    """The lessons in order."""
    return sorted(COURSE.glob("*.md"))


def rewrite(file: Path) -> bool:
    """Write below each block of a lesson what it prints now; whether that changed anything.

    Raises:
        LessonError: a block fails.
        FileError: an output that leaves lines out no longer agrees.
    """
    text = file.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as checkout:
        course = make_course(Path(checkout).resolve())
        printed = list(run_blocks(code_blocks(text, file.name), file.name, course))
    now = with_outputs(text, printed)
    if now != text:
        write_text(now, file)
    return now != text


def main(files: Annotated[list[Path] | None, typer.Argument(help="Default: all.")] = None) -> None:
    """Rewrite the outputs of lessons."""
    for file in files or lesson_files():
        print(f"{file.name}: {'rewritten' if rewrite(file) else 'as it was'}", flush=True)


if __name__ == "__main__":
    execute(main)
