"""The exact core: every choice whose V is below a threshold, layer by layer.

A partial choice is dropped when its reduced costs reach the threshold, since V is at least their
sum; and when another one, of the same layers, costs no more and has no greater error, since
whatever completes it completes the other one as well. So permutations of equal layers, and partial
choices of equal cost, are one. Layers with the largest costs come first.
"""

from __future__ import annotations

from typing import NamedTuple

from pins.selection.budget.program import Indices, Lagrangian

LIMIT = 10**6
"""Partial choices that a search may form, before those that another one replaces are dropped."""


class Found(NamedTuple):
    """The end of a search.

    Attributes:
        choice: one with the least V of all; None if no V is below the threshold.
        states: the number of partial choices that were formed.
        complete: False if the limit ended the search: then nothing was found, nor excluded.
    """

    choice: Indices | None
    states: int
    complete: bool = True


def search(lagrangian: Lagrangian, threshold: int, limit: int = LIMIT) -> Found:
    """A choice within the budget with the least q·V, if that is below `threshold`.

    Exact: all numbers are integers. Of several such choices it is one, the same for the same
    program.

    Args:
        lagrangian: the program at one multiplier.
        threshold: of q·V.
        limit: of partial choices that are formed.
    """
    program, p, formed = lagrangian.program, lagrangian.multiplier.numerator, 0
    costly = [sorted(costs, reverse=True) for costs in program.costs]
    order = sorted(range(len(costly)), key=costly.__getitem__, reverse=True)
    states, history = [(0, 0)], []  # cost and reduced cost; which option of which state each was
    for t in order:
        numbers = range(len(program.costs[t]))
        options = sorted(zip(lagrangian.reduced[t], program.costs[t], numbers, strict=True))
        new = []
        for place, (cost, reduced) in enumerate(states):
            for more, price, j in options:
                if reduced + more >= threshold:
                    break
                new.append((cost + price, reduced + more, place, j))
            if formed + len(new) > limit:
                return Found(None, formed + len(new), complete=False)
        formed += len(new)
        new.sort()
        states, links = [], []
        least = None  # of q · error, up to a constant of these layers
        for cost, reduced, place, j in new:
            error = reduced - p * cost
            if least is None or error < least:
                least = error
                states.append((cost, reduced))
                links.append((place, j))
        history.append(links)
    value, place = min(
        (
            (reduced + p * (program.budget - cost), place)
            for place, (cost, reduced) in enumerate(states)
            if cost <= program.budget
        ),
        default=(threshold, 0),
    )
    if value >= threshold:
        return Found(None, formed)
    choice = [0] * len(order)
    for t, links in zip(reversed(order), reversed(history), strict=True):
        place, choice[t] = links[place]
    return Found(tuple(choice), formed)
