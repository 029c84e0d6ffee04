"""How a tool rounded the number of weights to prune: what s·n became, and what happened to ties."""

import math
from fractions import Fraction

from pins.selection.constraints import keep_count

STEPS = (10, 20, 100)  # a ratio that nobody states is taken for tenths, else finer


def rounding(pruned: int, total: int, ties: int, ratio: Fraction | None = None) -> str | None:
    """The phrase that says which number of n weights was pruned.

    A tool that sorts |w| and prunes what is at most the value at index ⌊s·n⌋, counted from 0,
    prunes one weight more than ⌊s·n⌋, and all that are equal to that value.

    Args:
        pruned: number of pruned weights.
        total: n.
        ties: number of pruned weights that are equal to the largest pruned one, itself included; 0
            if kept ones are equal to it too.
        ratio: s; None: a ratio near what was pruned that explains the number, exactly if one does;
            else the first of tenths, twentieths and whole percent.

    Returns:
        None if no ratio explains it.
    """
    near = [Fraction(round(Fraction(pruned * step, total)), step) for step in STEPS]
    ratios = sorted(near, key=lambda each: each * total != pruned) if ratio is None else [ratio]
    return next((said for each in ratios if (said := _said(pruned, total, ties, each))), None)


def _said(pruned: int, total: int, ties: int, ratio: Fraction) -> str | None:
    exact = ratio * total
    said, below = f"{float(100 * ratio):g} % of {total:,}", math.floor(exact)
    if pruned == exact:
        return f"exactly {said}"
    if pruned == total - keep_count(ratio, total):
        return f"{said}, to the nearest number"
    if pruned in (below, math.ceil(exact)):
        return f"{said}, rounded {'down' if pruned == below else 'up'}"
    if pruned - ties <= below < pruned:
        equal = "" if ties < 2 else f", of which {ties:,} are equal to the threshold"
        return f"{pruned - below:,} more than {said}, rounded down: all up to a threshold{equal}"
    return None
