"""Numbers and lists as people read them: signs, percentages, thousands, ranges."""

from collections.abc import Sequence
from itertools import groupby


def signed(value: float) -> str:
    """A change with its sign and two or three significant digits; "0" for 0."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1:
        digits = f"{size:.1f}" if size >= 10 else f"{size:.2f}"
    else:
        digits = f"{size:.2g}" if size >= 0.0001 else f"{size:.0e}"
    return ("−" if value < 0 else "+") + digits


def percent(value: float, digits: int = 1) -> str:
    """A ratio in per cent; a ratio that would round to 0 keeps its first digit."""
    if 0 < abs(value) < 0.5 * 10 ** (-digits - 2):
        return f"{100 * value:.0g} %"
    return f"{100 * value:.{digits}f} %"


def count(value: int) -> str:
    """An integer with commas between the thousands."""
    return f"{value:,}"


def exact_percent(ratio: float) -> str:
    """A ratio in per cent, to six significant digits and without zeros at the end.

    >>> exact_percent(0.00001)
    '0.001 %'
    """
    return f"{100 * ratio:.6g} %"


def rounded(value: float, digits: int = 3) -> str:
    """A change with its sign, to a number of significant digits."""
    return f"{value:+.{digits}g}".replace("-", "−") if value else "0"


def joined(words: Sequence[str]) -> str:
    """The words with commas and "and"; "none" without words."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]])) or "none"


def ranges(some: Sequence[float], tried: Sequence[float]) -> str:
    """Some of the ratios tried; three or more neighbours as "1 % to 50 %"."""
    words: list[str] = []
    for chosen, group in groupby(tried, key=lambda ratio: ratio in some):
        ends = [exact_percent(ratio) for ratio in group] if chosen else []
        words += [f"{ends[0]} to {ends[-1]}"] if len(ends) > 2 else ends
    return joined(words)


def counted(number: int, what: str) -> str:
    """A number with its noun: 1 seed, 3 seeds."""
    return f"{number} {what}{'' if number == 1 else 's'}"
