"""Every block of the course runs and prints what the lesson says."""

import re
from pathlib import Path

import pytest

from benchmarks.documents.code_blocks import CodeBlock, code_blocks, with_outputs
from benchmarks.documents.lessons import (
    COURSE,
    LessonError,
    lesson_files,
    make_course,
    rewrite,
    run_blocks,
)
from pins.errors import FileError

PRINTS = """\
# A lesson

```python
numbers = [1, 2]
```
Between the blocks.
```python
print(sum(numbers))
```
```output
3
```
```sh
ls
cat ../README.md   # the project's own
```
```output
# PINS
…
```
```text
not run
```
"""


def run(text: str, tmp_path: Path) -> list[tuple[CodeBlock, str]]:
    return list(run_blocks(code_blocks(text), "a lesson", make_course(tmp_path)))


@pytest.mark.parametrize("file", lesson_files(), ids=lambda file: file.stem)
def test_every_block_prints_what_the_lesson_says(file: Path, tmp_path: Path) -> None:
    text = file.read_text(encoding="utf-8")
    for block, printed in run(text, tmp_path):
        assert block.matches(printed), (
            f"{file.name}, line {block.line} prints\n{printed}\nand not\n{block.output}\n"
            "run `python -m benchmarks.documents.lessons`"
        )


def test_the_course_lists_every_lesson_by_its_title() -> None:
    index = (COURSE / "index.md").read_text(encoding="utf-8")
    titles = {
        file.name: file.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        for file in lesson_files()
        if file.name != "index.md"
    }
    listed = re.findall(r"^(\d+)\. \[(.*)\]\((.*)\)$", index, flags=re.M)
    assert {file: f"{number} · {title}" for number, title, file in listed} == titles


def test_the_blocks_of_a_lesson_share_one_namespace_and_an_empty_folder(tmp_path: Path) -> None:
    ran = run(PRINTS, tmp_path)
    assert [block.language for block, _ in ran] == ["python", "python", "sh"]
    assert ran[1][1] == "3\n"
    assert ran[2][1].startswith("# PINS\n")  # `ls` found nothing
    assert all(block.matches(printed) for block, printed in ran)


def test_commands_are_those_of_this_checkout(tmp_path: Path) -> None:
    commands = (
        "```sh\npins --version\npython ../verification/checker.py none.json # exit code 2\n```"
    )
    ((_, printed),) = run(commands, tmp_path)
    assert printed.startswith("pins 0.")
    assert "none.json" in printed


def test_a_wrong_output_is_found(tmp_path: Path) -> None:
    for right, wrong in (("\n3\n", "\n4\n"), ("# PINS\n", "# PIN\n"), ("\n3\n", "\n3\n\n")):
        course = tmp_path / str(len(list(tmp_path.iterdir())))
        course.mkdir()
        ran = run(PRINTS.replace(right, wrong), course)
        assert not all(block.matches(printed) for block, printed in ran)


def test_output_that_the_lesson_leaves_out_is_found(tmp_path: Path) -> None:
    ((block, printed),) = run("```python\nprint(1)\n```\n", tmp_path)
    assert not block.matches(printed)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("\n```python\n\n1 / 0\n```", r"a lesson, line 3: the block raises ZeroDivisionError"),
        ("```python\n\n1 +\n```", r"a lesson, line 3: no Python: invalid syntax"),
        ("```python\nassert False\n```", r"the block raises AssertionError"),
        ("```sh\npins check none.json\n```", r"pins check none.json: exit code 2, and prints\n"),
        ("```sh\npins --version # exit code 1\n```", r"exit code 0, and prints\npins 0"),
        ("```sh\ncat a | head\n```", r"write one command a line"),
    ],
)
def test_a_block_that_fails_is_found(block: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(LessonError, match=message):
        run(block, tmp_path)


def test_a_line_of_dots_stands_for_any_lines_and_for_nothing_else() -> None:
    def said(output: str, printed: str) -> bool:
        (block,) = code_blocks(f"```python\n```\n```output\n{output}```\n")
        return block.matches(printed)

    assert said("…\nend\n", "a\nb\nend\n")
    assert said("…\nend\n", "end\n")
    assert said("start\n…\nend\n", "start\nend\n")
    assert said("1…2\n", "1…2\n")
    assert not said("…\nend\n", "a\nthe end\n")
    assert not said("…\nend\n", "end\nb\n")
    assert not said("start\n…\nend\n", "start\n")
    assert not said("1…2\n", "1\n2\n")


def test_a_malformed_document_is_refused() -> None:
    with pytest.raises(FileError, match=r"the document, line 2: the block .* has no end"):
        code_blocks("text\n```python\n1\n")
    twice = "```sh\n```\n```output\n```\n```output\n```"
    for text in ("```output\n1\n```", "```sh\n```\n\n```output\n1\n```", twice):
        with pytest.raises(FileError, match="stands directly below the code"):
            code_blocks(text)


def test_blocks_within_a_longer_fence_are_its_text() -> None:
    (block,) = code_blocks("````text\n```python\n1\n```\n````\n")
    assert (block.language, block.code) == ("text", "```python\n1\n```\n")


def test_outputs_are_written_where_they_differ_and_nowhere_else(
    tmp_path: Path,
) -> None:
    lesson = tmp_path / "lesson.md"
    stale = PRINTS.replace("```output\n3\n```\n", "")
    for text in (PRINTS, stale, PRINTS.replace("\n3\n", "\n4\n5\n")):
        lesson.write_text(text, encoding="utf-8")
        assert rewrite(lesson) == (text != PRINTS)
        assert lesson.read_text(encoding="utf-8") == PRINTS
    lesson.write_text("```python\n1\n```\n```output\n1\n```\n", encoding="utf-8")
    assert rewrite(lesson)
    assert lesson.read_text(encoding="utf-8") == "```python\n1\n```\n"


def test_output_with_lines_left_out_is_not_guessed() -> None:
    text = "```python\n```\n```output\n…\nend\n```\n"
    (block,) = code_blocks(text)
    assert with_outputs(text, [(block, "any\nend\n")]) == text
    with pytest.raises(FileError, match=r"line 2: the output leaves lines out .* anew from\nother"):
        with_outputs(text, [(block, "other\n")])
