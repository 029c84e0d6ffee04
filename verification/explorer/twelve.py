"""Twelve weights of a layer whose scores a reader can rank by hand: keep five.

Four scores are positive and eight negative if the layer has enough of both. So the optimum keeps
one negative score, because the mask keeps five; a ranking by |s| keeps other weights.
"""

import math
from itertools import islice
from typing import Any

from torch import Tensor

SIZE, KEEP = 12, 5
POSITIVE = 4  # fewer than KEEP
DIGITS = 3  # of the largest score, in a unit that is a power of ten
LEAST = 10  # in that unit: every score has two digits at least


def twelve(scores: Tensor) -> dict[str, Any] | None:
    """Places, scores as integers in a unit 10^e, and e; None without twelve of different size.

    The same scores give the same twelve: the first in flat order whose sizes in the unit differ.

    Args:
        scores: (n,) float64, finite.
    """
    sizes = scores.abs().sort().values
    typical = sizes[math.floor(0.9 * (len(sizes) - 1))].item()
    if not typical:
        return None
    exponent = math.ceil(math.log10(typical)) - DIGITS
    wanted = {True: POSITIVE, False: SIZE - POSITIVE}
    chosen: dict[int, int] = {}
    spare: dict[int, int] = {}
    seen = set()
    for place, score in enumerate(scores.tolist()):
        digits = round(score / 10.0**exponent)
        if not LEAST <= abs(digits) < 10**DIGITS or abs(digits) in seen:
            continue
        seen.add(abs(digits))
        if wanted[digits > 0]:
            wanted[digits > 0] -= 1
            chosen[place] = digits
        else:
            spare[place] = digits
    chosen |= dict(islice(spare.items(), SIZE - len(chosen)))
    if len(chosen) < SIZE:
        return None
    places = sorted(chosen)
    digits = [chosen[place] for place in places]
    return {"places": places, "digits": digits, "exponent": exponent, "keep": KEEP}
