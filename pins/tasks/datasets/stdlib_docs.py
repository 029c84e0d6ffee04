"""`stdlib-docs`: which standard-library package does this docstring document?

The text is on every machine: the docstrings of the running Python's library, read with `ast` and
never imported. The rows depend on the Python version: compare runs of one version only.
"""

import ast
import hashlib
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pins.errors import TaskError
from pins.tasks.task import Recipe
from pins.tasks.text_classification import Example, TextClassification

NAME = "stdlib-docs"
CLASSES = 12  # the largest packages
MIN_LENGTH = 40  # characters; shorter docstrings identify no package
TEST_PERCENT = 20
RECIPE = Recipe(epochs=4, batch_size=16, learning_rate=2e-4, max_length=64)
NOT_LIBRARY = {"test", "tests", "idle_test", "site-packages", "dist-packages"}

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def load(library: Path | None = None) -> TextClassification:
    """Read the task from a library folder; default: the library of the running Python.

    The SHA-256 of a docstring decides its split, so the split is the same on every machine. A
    docstring that two packages share identifies neither and is left out.

    Raises:
        TaskError: fewer than 12 packages with docstrings are found.
    """
    library = library or Path(sysconfig.get_path("stdlib"))
    packages = {
        initial.parent.name: _package_docstrings(initial.parent)
        for initial in sorted(library.glob("*/__init__.py"))
        if initial.parent.name not in NOT_LIBRARY
    }
    owners = Counter(text for texts in packages.values() for text in texts)
    unique = {
        package: sorted(text for text in texts if owners[text] == 1)
        for package, texts in packages.items()
    }
    # the largest first, equal ones by name
    labels = sorted(unique, key=lambda package: (-len(unique[package]), package))[:CLASSES]
    labels = [package for package in labels if unique[package]]
    if len(labels) < CLASSES:
        raise TaskError(
            f"{library} holds {len(labels)} packages with docstrings, {NAME} needs {CLASSES}: "
            "run it with a Python whose standard library is installed as source"
        )
    rows = [
        (Example(text, label), _is_test(text))
        for label, package in enumerate(labels)
        for text in unique[package]
    ]
    return TextClassification(
        name=NAME,
        question="Which standard-library package does this docstring document?",
        labels=tuple(labels),
        train=tuple(example for example, test in rows if not test),
        test=tuple(example for example, test in rows if test),
        recipe=RECIPE,
        digests={"rows": hashlib.sha256(repr(rows).encode()).hexdigest()},
    )


def _package_docstrings(package: Path) -> set[str]:
    return {
        text
        for file in sorted(package.rglob("*.py"))
        if not NOT_LIBRARY & set(file.relative_to(package).parts)
        for text in _docstrings(file)
    }


def _docstrings(file: Path) -> Iterator[str]:
    """The docstrings of a source file; none if it does not parse (templates, bad encodings)."""
    try:
        with warnings.catch_warnings(action="ignore"):  # also if warnings are errors elsewhere
            tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED):
            text = ast.get_docstring(node)
            if text is not None and len(text) >= MIN_LENGTH:
                yield text


def _is_test(text: str) -> bool:
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") % 100 < TEST_PERCENT
