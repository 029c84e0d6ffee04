"""Numbers and lists as the empirical ledger prints them."""

from collections.abc import Sequence


def percent(ratio: float) -> str:
    """0.00001 → "0.001 %"."""
    return f"{100 * ratio:.6g} %"


def signed(value: float, digits: int = 3) -> str:
    """A difference with its sign, to so many significant digits."""
    if value == 0:
        return "0"
    return f"{value:+.{digits}g}".replace("-", "−")


def joined(words: Sequence[str]) -> str:
    """The words with commas and an "and"; "none" of no words."""
    if not words:
        return "none"
    return " and ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)


def runs_of(some: Sequence[float], tried: Sequence[float]) -> str:
    """Ratios of those tried, in their order; three or more neighbours as "1 % to 50 %"."""
    groups: list[list[float]] = []
    for at, ratio in enumerate(tried):
        if ratio in some:
            if at and tried[at - 1] in some:
                groups[-1].append(ratio)
            else:
                groups.append([ratio])
    words = []
    for group in groups:
        ends = [percent(ratio) for ratio in group]
        words += [f"{ends[0]} to {ends[-1]}"] if len(ends) > 2 else ends
    return joined(words)


def counted(number: int, what: str) -> str:
    """A number of things, such as 1 seed, 3 seeds."""
    return f"{number} {what}{'' if number == 1 else 's'}"
