"""Docstrings as they are written here, and the reStructuredText made of them."""

from typing import Any

import pytest
from docutils import nodes  # type: ignore[import-untyped]
from docutils.core import publish_doctree  # type: ignore[import-untyped]
from docutils.utils import SystemMessage  # type: ignore[import-untyped]
from sphinx.ext.napoleon.docstring import GoogleDocstring

import pins
import solvers
from docs.docstrings import linker, process, process_signature, public_name, to_rst
from pins import masks
from pins.importance import criteria
from pins.pruning import pruner
from solvers import BinaryProgram

STRICT = {"report_level": 1, "halt_level": 2, "warning_stream": False}


def rst(text: str) -> str:
    return "\n".join(to_rst(text.splitlines()))


def read(text: str) -> nodes.document:
    """Read by docutils, which refuses what it would only warn of."""
    return publish_doctree(rst(text), settings_overrides=STRICT)


@pytest.mark.parametrize(
    "text",
    [
        "|gθ| of m* and s·m* − s·m′, |x|",
        "l_t, m_ and s_t: each λ_t ≤ λ_",
        "(R) without its radius.",
        "1. is no list\nand goes on",
        "T.",
        "- is no list either\nand goes on",
        ":no: field",
        ".. no comment",
        "an end::",
        r"a \ b",
        "`` two, ` one",
    ],
)
def test_prose_is_read_as_it_stands(text: str) -> None:
    (paragraph,) = read(text)
    assert isinstance(paragraph, nodes.paragraph)
    assert paragraph.astext() == text


@pytest.mark.parametrize("text", ["|gθ| and |x|", "m_ and s_t", "(R) without", "T.", "an end::"])
def test_what_is_not_escaped_is_misread(text: str) -> None:
    try:
        document = publish_doctree(text, settings_overrides=STRICT)
    except SystemMessage:
        return
    assert document.astext() != text


def test_backticks_are_code_and_stars_around_words_are_stress() -> None:
    (paragraph,) = read("**All (k).** The *only* mask of `keep`, `m[i]`s, (`a|b`): `−1`−`x`.")
    assert paragraph.astext() == "All (k). The only mask of keep, m[i]s, (a|b): −1−x."
    assert [code.astext() for code in paragraph.findall(nodes.literal)] == [
        "keep",
        "m[i]",
        "a|b",
        "−1",
        "x",
    ]
    assert [stress.astext() for stress in paragraph.findall(nodes.emphasis)] == ["only"]
    assert [stress.astext() for stress in paragraph.findall(nodes.strong)] == ["All (k)."]


@pytest.mark.parametrize(
    "block",
    [
        "max s·m\n\n       s.t. 1·m = k",
        "| a   | b |\n| c*  | d |",
        "OUT/\n├── run.json   what ran\n└── *.tmp",
    ],
)
def test_formulas_tables_and_drawings_keep_their_lines(block: str) -> None:
    lines = block.splitlines()
    if lines[0].startswith("max"):
        lines = ["    " + line if line else "" for line in lines]
    before, literal, after = read("\n".join(["Before:", "", *lines, "", "After."]))
    assert isinstance(literal, nodes.literal_block)
    assert literal.astext() == block
    assert (before.astext(), after.astext()) == ("Before:", "After.")


def test_a_line_that_begins_with_a_bar_is_no_table() -> None:
    (paragraph,) = read("|g ⊙ (θ+u)|.")
    assert isinstance(paragraph, nodes.paragraph)


def sections(text: str, what: Any = "function", documented: Any = None) -> list[str]:
    lines = text.splitlines()
    application: Any = None
    process(application, what, "", documented, None, lines)
    return [line for line in GoogleDocstring(lines, what=what, name="x").lines() if line]


def test_sections_are_left_for_napoleon() -> None:
    text = """\
    Solve.

    Args:
        max_examples: T.
        first, second: |s| of m*,
            and `more`: all.
        *parts: each.

    Returns:
        (m, λ): a proof.

    Raises:
        MaskError, ValueError: l_ is none.
    """
    made = sections("\n".join(line[4:] for line in text.splitlines()), documented=pruner.Pruner)
    assert ":param max_examples: \\T." in made
    assert ":param first: \\|s\\| of m\\*," in made
    assert ":param \\*parts: each." in made
    raised = next(line for line in made if line.startswith(":raises"))
    assert raised == ":raises ~pins.errors.MaskError, ValueError: l\\_ is none."


def test_the_first_line_of_a_property_is_no_type() -> None:
    text = "Theorem 1: the mask is optimal.\n\nRaises:\n    MaskError: it is none."
    made = sections(text, "property", BinaryProgram.is_cardinality)
    assert "Theorem 1: the mask is optimal." in made
    assert any(line.startswith(":raises") for line in made)
    untouched = GoogleDocstring(text, what="property", name="x").lines()
    assert ":type: Theorem 1" in untouched


def test_names_are_linked_where_the_reference_has_them() -> None:
    linked = linker(pins.prunable_parameters)
    assert linked("pins.select") == linked("pins.selection.select.select") == "pins.select"
    assert linked("PrunableParameters") == "pins.PrunableParameters"
    assert linked("prunable_parameters()") == "pins.prunable_parameters"
    assert linked("verification.strategies") == "verification.strategies"
    assert linked("pins.masks.load") == "pins.masks.load"
    assert linked("pins.CRITERIA") == "pins.CRITERIA"
    assert linker(BinaryProgram.is_cardinality)("Sense") == "solvers.Sense"
    for name in ("keep", "torch.topk", "Tensor", "pins.nothing", "no name", "k < n", "step", "1"):
        assert linked(name) is None
    assert to_rst(["as `pins.select`s"], linked)[0] == (
        "as :py:obj:`pins.select <pins.select>`\\ s"
    )


def test_public_names_are_those_to_import_by() -> None:
    assert public_name(pins.decide) == "pins.decide"
    assert public_name(criteria.Pins) == "pins.importance.criteria.Pins"
    assert public_name(masks) == "pins.masks"
    assert public_name(solvers.SOLVERS) == "solvers.SOLVERS"
    assert public_name(len) is None
    assert public_name(nodes) is None


@pytest.mark.parametrize(
    ("what", "signature", "shown"),
    [
        ("function", "(c: FloatArray)", "(c: FloatArray)"),
        ("function", "(c: list[TypeAliasForwardRef('FloatArray')])", "(c: list[FloatArray])"),
        ("class", "(n: ~typing.Any = <factory>)", "(n: ~typing.Any = ...)"),
        ("class", "(group: ~p.Group = <p.SingleProcess object>)", "(group: ~p.Group = ...)"),
        ("class", "(*args, **kwargs)", ""),
        ("function", "(*args, **kwargs)", "(*args, **kwargs)"),
        ("module", None, None),
    ],
)
def test_signatures_are_readable(what: str, signature: str | None, shown: str | None) -> None:
    application: Any = None
    assert process_signature(application, what, "", None, None, signature, signature)[0] == shown
