"""Numbers for people: signs, percentages, thousands."""


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
