"""`stdlib-docs` on libraries made here, and on the one of the running Python."""

import warnings
from pathlib import Path

import pytest

from pins.errors import TaskError
from pins.tasks import TextClassification, load_task
from pins.tasks.datasets.stdlib_docs import CLASSES, MIN_LENGTH, load


def text(*parts: object) -> str:
    """A docstring that is long enough and says `parts`."""
    return f"{' '.join(map(str, parts))}: a docstring of more than {MIN_LENGTH} characters, this"


def write(path: Path, *docstrings: str) -> None:
    """A module whose functions have these docstrings."""
    path.parent.mkdir(parents=True, exist_ok=True)
    functions = [f"def f{i}():\n    {doc!r}\n" for i, doc in enumerate(docstrings)]
    path.write_text("".join(functions), encoding="utf-8")


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Twelve packages p00 … p11, the i-th of i + 1 docstrings."""
    for i in range(CLASSES):
        write(tmp_path / f"p{i:02}" / "__init__.py", *[text(i, j) for j in range(i + 1)])
    return tmp_path


def rows(task: TextClassification) -> dict[str, set[str]]:
    """Texts by label."""
    found: dict[str, set[str]] = {label: set() for label in task.labels}
    for example in (*task.train, *task.test):
        found[task.labels[int(example.label)]].add(example.text)
    return found


def test_the_largest_packages_are_the_classes(library: Path) -> None:
    write(library / "small" / "__init__.py", text("small"))
    task = load(library)
    assert task.labels == tuple(f"p{i:02}" for i in range(CLASSES - 1, -1, -1))
    assert rows(task) == {f"p{i:02}": {text(i, j) for j in range(i + 1)} for i in range(CLASSES)}


def test_of_equal_packages_the_earlier_name_comes_first(library: Path) -> None:
    write(library / "a" / "__init__.py", text("a"), text("b"))
    assert load(library).labels[-2:] == ("a", "p01")


def test_docstrings_of_modules_classes_and_functions_count(library: Path) -> None:
    source = (
        f"{text('module')!r}\n"
        f"class A:\n    {text('class')!r}\n    async def f():\n        {text('coroutine')!r}\n"
        f"x = {text('no docstring')!r}\n"
    )
    (library / "p11" / "inner").mkdir()
    (library / "p11" / "inner" / "module.py").write_text(source)
    found = rows(load(library))["p11"]
    assert {text("module"), text("class"), text("coroutine")} <= found
    assert text("no docstring") not in found


def test_what_two_packages_share_is_left_out(library: Path) -> None:
    for package in ("p10", "p11"):
        write(library / package / "shared.py", text("shared"))
    write(library / "p11" / "twice.py", text(11, 0))  # twice in one package is once
    found = rows(load(library))
    assert all(text("shared") not in texts for texts in found.values())
    assert text(11, 0) in found["p11"]


def test_short_docstrings_tests_and_broken_files_are_left_out(library: Path) -> None:
    before = rows(load(library))
    write(library / "p11" / "short.py", "s" * (MIN_LENGTH - 1))
    write(library / "p11" / "test" / "__init__.py", text("a test"))
    write(library / "test" / "__init__.py", *[text("tests", j) for j in range(50)])
    (library / "p11" / "broken.py").write_text("def f(:\n")
    (library / "p11" / "binary.py").write_bytes(b"\x00\xff")
    assert rows(load(library)) == before
    write(library / "p11" / "long.py", "s" * MIN_LENGTH)
    assert rows(load(library))["p11"] == before["p11"] | {"s" * MIN_LENGTH}


def test_the_split_of_a_docstring_depends_on_nothing_else(library: Path) -> None:
    before = load(library)
    assert load(library) == before
    write(library / "p00" / "more.py", *[text("more", j) for j in range(200)])
    after = load(library)
    assert {e.text for e in before.test} <= {e.text for e in after.test}
    assert {e.text for e in before.train} <= {e.text for e in after.train}
    more = [e for e in (*after.train, *after.test) if e.text.startswith("more")]
    share = sum(e in after.test for e in more) / len(more)
    # 20 % of 200 by a hash: five standard deviations are 14 %
    assert len(more) == 200
    assert 0.06 < share < 0.34


@pytest.mark.parametrize("action", ["error", "ignore"])
def test_rows_do_not_depend_on_what_is_done_with_warnings(library: Path, action: str) -> None:
    # an escape that Python warns of when it parses the file
    source = f'def f():\n    """{text("escape")} \\d"""\n'
    (library / "p11" / "escape.py").write_text(source)
    with warnings.catch_warnings():
        warnings.simplefilter(action)  # type: ignore[arg-type]
        assert text("escape") + r" \d" in rows(load(library))["p11"]


def test_too_few_packages_are_counted(tmp_path: Path) -> None:
    for i in range(3):
        write(tmp_path / f"p{i}" / "__init__.py", text(i))
    with pytest.raises(TaskError, match="holds 3 packages with docstrings, stdlib-docs needs 12"):
        load(tmp_path)


def test_packages_without_docstrings_are_not_counted_as_such(library: Path) -> None:
    write(library / "p00" / "__init__.py")
    with pytest.raises(TaskError, match="holds 11 packages with docstrings, stdlib-docs needs 12"):
        load(library)


def test_the_running_python_has_the_task() -> None:
    task = load_task("stdlib-docs")
    assert len(task.labels) == len(set(task.labels)) == CLASSES
    texts = [e.text for e in (*task.train, *task.test)]
    assert len(set(texts)) == len(texts) > 1000
    assert min(map(len, texts)) >= MIN_LENGTH
    assert {e.label for e in task.train} == {e.label for e in task.test} == set(range(CLASSES))
    assert 0.15 < len(task.test) / len(texts) < 0.25
    assert "train" not in repr(task)  # thousands of rows do not belong into a message
