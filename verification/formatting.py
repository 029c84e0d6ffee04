"""Numbers as people read them: signs, percentages, thousands."""


def signed(value: float) -> str:
    """A change: sign, and as many digits as tell something."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1:
        digits = f"{size:.1f}" if size >= 10 else f"{size:.2f}"
    else:
        digits = f"{size:.2g}" if size >= 0.0001 else f"{size:.0e}"
    return ("−" if value < 0 else "+") + digits


def percent(value: float, digits: int = 1) -> str:
    """A ratio in per cent; small ones keep their first digit."""
    if 0 < abs(value) < 0.5 * 10 ** (-digits - 2):
        return f"{100 * value:.0g} %"
    return f"{100 * value:.{digits}f} %"


def count(value: int) -> str:
    """An integer with thousands apart."""
    return f"{value:,}"
