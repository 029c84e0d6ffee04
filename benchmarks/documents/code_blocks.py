"""The code blocks of a Markdown document, with the outputs written below them.

A code block, and its output block if it prints:

    ```python
    print(1 + 1)
    ```
    ```output
    2
    ```

A line `…` in an output block matches any lines, such as times and progress.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pins.errors import FileError

FENCE = re.compile(r"^(`{3,})[ \t]*(\S*).*\n?", re.MULTILINE)
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
        end: index in the document of the first character after the block of code.
        after: index of the first character after the output block; `end` without one.
    """

    language: str
    code: str
    output: str
    line: int
    end: int
    after: int

    def matches(self, printed: str) -> bool:
        """Whether `printed` is the output, in which a line `…` stands for any lines."""
        pattern = "".join(
            "(?:.*\n)*" if line.strip() == ANY_LINES else re.escape(line)
            for line in self.output.splitlines(keepends=True)
        )
        return re.fullmatch(pattern, printed) is not None


def code_blocks(text: str, name: str = "the document") -> list[CodeBlock]:
    """The code blocks of a document in order, each with its output block.

    Raises:
        FileError: a fence is not closed, or an output block does not follow a code block.
    """
    found: list[CodeBlock] = []
    at = 0
    while fence := FENCE.search(text, at):
        line = text.count("\n", 0, fence.start()) + 1
        closing = re.compile(rf"^{fence[1]}[ \t]*$\n?", re.MULTILINE).search(text, fence.end())
        if closing is None:
            raise FileError(f"{name}, line {line}: the block that begins here has no end")
        body, at = text[fence.end() : closing.start()], closing.end()
        if fence[2] != OUTPUT:
            found.append(CodeBlock(fence[2], body, "", line + 1, at, at))
        elif found and found[-1].end == found[-1].after == fence.start():
            found[-1] = replace(found[-1], output=body, after=at)
        else:
            raise FileError(
                f"{name}, line {line}: an output block stands directly below the code that "
                "prints it, and code has one at most"
            )
    return found


def with_outputs(text: str, printed: Sequence[tuple[CodeBlock, str]]) -> str:
    """The document with the present output below each of these blocks.

    An output with `…` is kept if it matches.

    Raises:
        FileError: an output with `…` does not match.
    """
    for block, output in sorted(printed, key=lambda pair: -pair[0].line):
        if block.matches(output):
            continue
        if ANY_LINES in block.output.splitlines():
            raise FileError(
                f"line {block.line}: the output leaves lines out and is no longer what is printed; "
                f"write it anew from\n{output}"
            )
        end = "" if output.endswith("\n") else "\n"
        made = f"```{OUTPUT}\n{output}{end}```\n" if output else ""
        text = text[: block.end] + made + text[block.after :]
    return text
