"""The code blocks of a Markdown document, with the outputs written below them.

A code block, and its output block if it prints:

    ```python
    print(1 + 1)
    ```
    ```output
    2
    ```

A line `…` in an output block matches any lines: times, progress and such.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pins.errors import FileError

FENCE = re.compile(r"(`{3,})\s*(\S*)")
OUTPUT = "output"
ANY_LINES = "…"


@dataclass(frozen=True)
class CodeBlock:
    """A fenced block and its output block.

    Attributes:
        language: the word after the fence; may be empty.
        code: the lines between the fences.
        output: the lines of the output block; empty without one.
        line: number of the first line of code in the document, from 1.
        end: number of lines up to and including the closing fence of the code.
        after: likewise for the output block; `end` without one.
    """

    language: str
    code: str
    output: str
    line: int
    end: int
    after: int

    def printed_as_said(self, printed: str) -> bool:
        """Whether `printed` matches the output, in which a line `…` matches any lines."""
        pattern = "".join(
            "(?:.*\n)*" if line.strip() == ANY_LINES else re.escape(line)
            for line in self.output.splitlines(keepends=True)
        )
        return re.fullmatch(pattern, printed) is not None

    @property
    def elided(self) -> bool:
        """Whether the output has a line `…`."""
        return ANY_LINES in self.output.splitlines()


def code_blocks(text: str, name: str = "the document") -> list[CodeBlock]:
    """The code blocks of a document in order, each with its output block.

    Raises:
        FileError: a fence is not closed, or an output block does not follow a code block.
    """
    lines = text.splitlines(keepends=True)
    found: list[CodeBlock] = []
    number = 0
    while number < len(lines):
        fence = FENCE.match(lines[number])
        if fence is None:
            number += 1
            continue
        marks, language = fence.groups()
        start = number + 1
        number = start
        while number < len(lines) and lines[number].rstrip() != marks:
            number += 1
        if number == len(lines):
            raise FileError(f"{name}, line {start}: the block that begins here has no end")
        body, number = "".join(lines[start:number]), number + 1
        if language != OUTPUT:
            found.append(CodeBlock(language, body, "", start + 1, number, number))
        elif not found or found[-1].after != found[-1].end or found[-1].end != start - 1:
            raise FileError(
                f"{name}, line {start}: an output block stands directly below the code that "
                "prints it, and code has one at most"
            )
        else:
            code = found.pop()
            found.append(CodeBlock(code.language, code.code, body, code.line, code.end, number))
    return found


def with_outputs(text: str, printed: Sequence[tuple[CodeBlock, str]]) -> str:
    """The document with the present output below each of these blocks.

    An output with `…` is kept if it matches.

    Raises:
        FileError: an output with `…` does not match.
    """
    lines = text.splitlines(keepends=True)
    for block, output in sorted(printed, key=lambda pair: -pair[0].line):
        if block.printed_as_said(output):
            continue
        if block.elided:
            raise FileError(
                f"line {block.line}: the output leaves lines out and is no longer what is printed; "
                f"write it anew from\n{output}"
            )
        made = [f"```{OUTPUT}\n", output if output.endswith("\n") else f"{output}\n", "```\n"]
        lines[block.end : block.after] = made if output else []
    return "".join(lines)
