"""Markdown of the results: tables, numbers, and the line that says how they were measured."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

BAR = "\\|"  # a bar inside a cell
ALIGNMENTS = {"l": "---", "r": "---:"}


def table(head: str, align: str, rows: Iterable[str]) -> list[str]:
    """The lines of a table.

    Args:
        head: titles of the columns, with | between them.
        align: a letter for each column, l or r; the last letter is repeated.
        rows: cells, with | between them; missing cells at the end are empty.
    """
    ends = head.count("|")
    rule = "|".join(ALIGNMENTS[letter] for letter in align.ljust(ends + 1, align[-1]))
    filled = (f"| {row} |{' |' * (ends - row.replace(BAR, '').count('|'))}" for row in rows)
    return [f"| {head} |", f"|{rule}|", *filled]


def escaped(text: str) -> str:
    """The text with its bars escaped, for a cell of a table."""
    return text.replace("|", BAR)


def document(*blocks: str | Sequence[str]) -> str:
    """Paragraphs and blocks of lines with an empty line between them; empty ones are left out."""
    texts = [block if isinstance(block, str) else "\n".join(block) for block in blocks]
    return "\n\n".join(text for text in texts if text) + "\n"


def number(value: float) -> str:
    """Three significant digits, all digits from 100 on; a power of ten only for tiny values."""
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return text.replace("-", "−")


def ranged(middle: float, low: float, high: float) -> str:
    """A number, with its range unless that is one number."""
    return number(middle) + (f" ({number(low)} to {number(high)})" if low < high else "")


def share(value: float, digits: int = 1, sign: str = "-") -> str:
    """A ratio in per cent; `sign` "+" shows the sign of positive ones too."""
    return f"{value:{sign}.{digits}%}".replace("-", "−").replace("%", " %")


def interval(values: Sequence[float], form: str) -> str:
    """Least and greatest, or the one value; – without values."""
    if not values:
        return "–"
    low, high = (form.format(end).replace("%", " %") for end in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def measured_with(provenance: Mapping[str, Any], end: str | None = None) -> str:
    """Command, date, versions and machine in one line; `end` replaces the number of threads."""
    versions, machine = provenance["versions"], provenance["machine"]
    return (
        f"`{provenance['command']}`, {provenance['date']}, Python {provenance['python']}, "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + f", {machine['processor']}, {machine['cores']} cores, "
        + (end or f"threads {machine['torch_threads']}")
        + "."
    )
