"""Docstrings as they are written here, made into the reStructuredText that autodoc reads.

They are plain text: `code` in backticks, |gθ| and s* as they stand, formulas in indented blocks,
drawings and tables of characters, and the sections Args, Attributes, Raises, Returns. Nothing in
them is reStructuredText, so whatever that would take for markup is escaped.
"""

import importlib
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from types import ModuleType
from typing import TYPE_CHECKING, Any

from sphinx.domains.python._object import PyObject

import pins
import solvers

if TYPE_CHECKING:
    from sphinx.application import Sphinx

Linked = Callable[[str], str | None]
"""A name in backticks ↦ the full name that the reference has it under; None where it has none."""

SECTIONS = ("Args:", "Attributes:", "Raises:", "Returns:", "Yields:")
PACKAGES = ("pins", "solvers", "verification")
ENTRY = re.compile(r"(\*{0,2}\w[\w.]*(?:, \*{0,2}\w[\w.]*)*):( |$)")
BRANCH = re.compile(r"[├└│]")
ROW = re.compile(r"\|.*\|$")
STRONG = re.compile(r"\\\*\\\*(\w[^*]*)\\\*\\\*")
EMPHASIS = re.compile(r"(?<![\w*])\\\*(\w[\w -]*)\\\*(?![\w*])")
ENUMERATOR = re.compile(r"\(?(\d+|[A-Za-z#]|[ivxlcdmIVXLCDM]+)[.)](\s|$)|[-+•]\s|\.\.\s|:")
NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def to_rst(lines: Sequence[str], linked: Linked = lambda _: None) -> list[str]:
    """The docstring in reStructuredText, its sections left for napoleon to read."""
    made: list[str] = []
    section = ""
    for paragraph in _paragraphs(lines):
        first = paragraph[0]
        if not _indented(first):
            section = first if first in SECTIONS else ""
        if section:
            made += [_of_section(line, section, linked) for line in paragraph]
        elif _indented(first) or _drawn(paragraph):
            margin = "" if _indented(first) else "    "
            made += ["::", "", *(margin + line for line in paragraph)]
        else:
            made += [_prose(line, linked) for line in paragraph]
        made.append("")
    return made


def _drawn(paragraph: Sequence[str]) -> bool:
    """Whether it is a tree, or a table of two rows or more."""
    table = len(paragraph) > 1 and all(ROW.match(line) for line in paragraph)
    return table or any(BRANCH.match(line) for line in paragraph)


def _indented(line: str) -> bool:
    return line.startswith("    ")


def _paragraphs(lines: Sequence[str]) -> Iterator[list[str]]:
    """Lines between empty ones; indented blocks in a row are one, with the empty lines in it."""
    held: list[str] = []
    gap = 0
    for line in [*lines, ""]:
        if not line.strip():
            gap += 1
            continue
        together = gap == 0 or (held and _indented(held[0]) and _indented(line))
        if held and not together:
            yield held
            held, gap = [], 0
        held += [""] * (gap if held else 0) + [line]
        gap = 0
    if held:
        yield held


def _of_section(line: str, section: str, linked: Linked) -> str:
    text = line.lstrip()
    margin = line[: len(line) - len(text)]
    entry = ENTRY.match(text) if len(margin) == 4 and section != "Returns:" else None
    if entry is None:
        return line if not margin else margin + _prose(text, linked)
    names = entry[1]
    if section == "Raises:":
        names = ", ".join(_short(linked(name)) or name for name in names.split(", "))
    return f"{margin}{names}:{entry[2]}{_prose(text[entry.end() :], linked)}"


def _short(full: str | None) -> str | None:
    return full and f"~{full}"


def _prose(text: str, linked: Linked) -> str:
    """A line of prose: backticks become code, linked where that is possible; the rest escaped."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        parts = [text]  # a backtick without its fellow is none
    made = ""
    for place, part in enumerate(parts):
        if place % 2 == 0:
            made += _escaped(part)
            continue
        full = linked(part)
        before = "" if not made or made[-1] in " ([{</'\"" else "\\ "
        after = "" if parts[place + 1][:1] in " )]}>.,;:!?/-'\"" else "\\ "
        made += (
            f"{before}:py:obj:`{part} <{full}>`{after}" if full else f"{before}``{part}``{after}"
        )
    return "\\" + made if ENUMERATOR.match(text) else made


def _escaped(text: str) -> str:
    text = re.sub(r"([\\*|`])", r"\\\1", text)
    text = EMPHASIS.sub(r"*\1*", STRONG.sub(r"**\1**", text))
    text = re.sub(r"_(?!\w)", r"\\_", text)
    return text.replace("::", ":\\:")


def public_name(value: object) -> str | None:
    """The name to document something of PINS under: the public one; None for what is not PINS'."""
    for package in (pins, solvers):
        for name in package.__all__:
            if getattr(package, name) is value:
                return f"{package.__name__}.{name}"
    if isinstance(value, ModuleType):
        return value.__name__ if value.__name__.split(".")[0] in PACKAGES else None
    module = getattr(value, "__module__", None)
    qualified = getattr(value, "__qualname__", None)
    if module and qualified and module.split(".")[0] in PACKAGES:
        return f"{module}.{qualified}"
    return None


def linker(documented: object) -> Linked:
    """What names mean in the docstring of an object: full names, and those of its module."""
    module = inspect.getmodule(getattr(documented, "fget", documented))

    def linked(name: str) -> str | None:
        name = name.removesuffix("()")
        if not NAME.fullmatch(name):
            return None
        value = imported(name)
        if value is None and module is not None:
            value = _attribute(module, name.split("."))
        return None if value is None else public_name(value)

    return linked


def imported(name: str) -> object | None:
    """What a dotted name of PINS stands for."""
    parts = name.split(".")
    if parts[0] not in PACKAGES:
        return None
    value: object | None = importlib.import_module(parts[0])
    for length, part in enumerate(parts[1:], start=2):
        if isinstance(value, ModuleType) and not hasattr(value, part):
            with suppress(ModuleNotFoundError):
                importlib.import_module(".".join(parts[:length]))
        value = getattr(value, part, None)
    return value


def _attribute(value: object, names: Sequence[str]) -> object | None:
    for name in names:
        value = getattr(value, name, None)
    return value


def process(
    _app: "Sphinx", what: str, _name: str, documented: Any, _options: Any, lines: list[str]
) -> None:
    """Called by autodoc with each docstring; changes `lines`."""
    # napoleon reads a property's first line as `type: description`; an empty comment is neither
    first = ["..", ""] if what in ("attribute", "data", "property") else []
    lines[:] = first + to_rst(lines, linker(documented))


def process_signature(
    _app: "Sphinx",
    what: str,
    _name: str,
    _documented: Any,
    _options: Any,
    signature: str | None,
    returns: str | None,
) -> tuple[str | None, str | None]:
    """Called by autodoc with each signature: aliases by their names, and nothing unreadable."""
    if what == "class" and signature == "(*args, **kwargs)":
        return "", returns  # a protocol, which is not made

    def plain(text: str | None) -> str | None:
        # one default that is no expression, and Sphinx reads none of the types
        named = text and re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r"\1", text)
        return named and re.sub(r"<[\w. ]+>", "...", named)

    return plain(signature), plain(returns)


def setup(app: "Sphinx") -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", process, priority=400)  # napoleon has 500
    app.connect("autodoc-process-signature", process_signature)
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"  # as the docstrings call them
    return {"parallel_read_safe": True}
