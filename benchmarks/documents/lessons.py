"""Run the lessons of the course, and write the output of each code block below it.

    python -m benchmarks.documents.lessons [FILE …]

The blocks of a lesson run in order. Python blocks share one namespace; a block marked `sh` holds
one command a line. The comment `# exit code 1` marks a command that must fail. A lesson starts in
an empty folder `course` of a checkout. A block marked `text` is not run.
`tests/docs/test_lessons.py` compares the lessons with their outputs.
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
from pins.utils import child_process
from pins.utils.io import write_text

ROOT = Path(__file__).parents[2]
COURSE = ROOT / "docs" / "course"
LINKED = ("benchmarks", "docs", "pins", "solvers", "verification", "README.md")
PROGRAMS = {"python": [sys.executable], "pins": [sys.executable, "-m", "pins"]}
EXIT_CODE = re.compile(r"#.*\bexit code (\d+)")


class LessonError(PinsError, RuntimeError):
    """A block of a lesson fails, or cannot be run."""


class _Prompt(InteractiveInterpreter):
    """One namespace for the Python blocks of a lesson; keeps the error of a block."""

    error: BaseException | None = None

    def showtraceback(self) -> None:
        """Keep the error that the block raised."""
        self.error = sys.exception()


def run_blocks(blocks: list[CodeBlock], name: str, folder: Path) -> Iterator[tuple[CodeBlock, str]]:
    """Run the blocks of Python and of commands in order, in `folder`; yield each with its output.

    Raises:
        LessonError: a block raises, or a command ends with an unexpected exit code.
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
        # with these empty lines a traceback shows the line of the document
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
    # the width without a terminal, whatever terminal this process has
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    done = child_process.run(
        [*program, *words[1:]],
        env={**environment, "PYTHONIOENCODING": "utf-8"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    said = EXIT_CODE.search(line)
    if done.returncode != (int(said[1]) if said else 0):
        raise LessonError(f"{where}: exit code {done.returncode}, and prints\n{done.stdout}")
    return str(done.stdout)


def make_course(checkout: Path) -> Path:
    """An empty folder `course` in a copy of this checkout made of symbolic links."""
    for name in LINKED:
        (checkout / name).symlink_to(ROOT / name)
    course = checkout / "course"
    course.mkdir()
    return course


def lesson_files() -> list[Path]:
    """The lessons, in order."""
    return sorted(COURSE.glob("*.md"))


def rewrite(file: Path) -> bool:
    """Write the present output of each block of a lesson below it; return whether it changed.

    Raises:
        LessonError: a block fails.
        FileError: an output with `…` no longer matches.
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
        print(f"{file.name}: {'rewritten' if rewrite(file) else 'unchanged'}", flush=True)


if __name__ == "__main__":
    execute(main)
