r"""The integer program that a certificate is about, and multipliers that bound it.

With integers S = 2ᵉs and the nodes A of the claim's tree:

    max S·x   s.t.   Σx = k,   l_A ≤ Σ_{i∈A} xᵢ ≤ h_A,   x ∈ {0,1}ⁿ,   C·x ≥ ΣC − 2ᶠρ

where the last row, C = 2ᶠc, is there for a trust region alone. One linear combination of the rows
proves the upper bound. In integers let R = S, or R = p2ᶠS + q2ᵉC for a region with μ = p/q, and
T_A = clip(T_parent, a_A, b_A) the thresholds of Theorem 6 (`pins.selection.optimality`) for R:

    R·x  =  Σ xᵢ (Rᵢ − T_A(i))  +  Σ_A (T_A − T_parent) Σ_{i∈A} xᵢ

So Rᵢ − T_A(i) multiplies a bound of xᵢ, and T_A − T_parent a row; with −q2ᵉ for the last row, and
all of it divided by p2ᶠ, the left side is S·x. The right side is the score sum of the optimum, or
within a region that of the claimed mask plus the gap.

Where elements are blocks, S and C are sums over their weights. A square has a row for each of its
rows and columns, Σx = N, and its potentials a, b in the unit of S in the place of a threshold:
Rᵢⱼ − aᵢ − bⱼ multiplies a bound of xᵢⱼ, aᵢ − T_A the row i and bⱼ the column j.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, compress, repeat
from math import prod
from typing import Any, NamedTuple, Self

_NOT = bytes([1, 0]) + bytes(254)  # a table for bytes.translate: 0 to 1, 1 to 0


class Row(NamedTuple):
    """Σ aᵢxᵢ ≤, = or ≥ `bound` over consecutive variables, and its multiplier times `unit`."""

    name: str
    sense: str  # L, E or G
    bound: int | Fraction
    multiplier: int
    variables: range
    coefficients: Sequence[int] | None = None  # None: all 1

    def terms(self) -> Iterator[tuple[int, int]]:
        """Each variable with its coefficient."""
        return zip(self.variables, self.coefficients or repeat(1), strict=False)


@dataclass(frozen=True)
class Program:
    """max S·x under bounds of the variables and rows, with a multiplier for each.

    Attributes:
        exponent: e; S is 2ᵉ times the scores.
        objective: S, one integer for each variable.
        least: the lower bound of each variable, 1 where a weight is frozen.
        most: the upper bound, 0 where a zero is frozen.
        rows: the others.
        excess: `unit` times the multiplier of a bound of each variable: of the upper one if > 0.
        unit: what all multipliers are divided by.
        solutions: masks that satisfy all rows, by role; the first is the best.
        lower: S·x of the first solution.
        upper: the right side of the combination: no x has a larger S·x.
    """

    exponent: int
    objective: list[int]
    least: bytes
    most: bytes
    rows: list[Row]
    excess: list[int]
    unit: int
    solutions: Mapping[str, bytes]
    lower: int
    upper: Fraction

    @classmethod
    def of(
        cls,
        claim: Mapping[str, Any],
        multiplier: float | None,
        scores: Sequence[float],
        costs: Sequence[float],
        masks: Mapping[str, bytes],
        potentials: Sequence[Sequence[int]],
    ) -> Self:
        """The program of a claim that the checker proved.

        Args:
            claim: of kind "selection", as the checker reads it.
            multiplier: μ of a trust region.
            scores: s of each weight, in flat order.
            costs: likewise c; empty without a region.
            masks: likewise a byte, 0 or 1, for each element, by role.
            potentials: a, b and e of each square.
        """
        size, radius, mask = claim["total"], claim["radius"], masks["mask"]
        each, none = prod(claim["block"]), bytes(size)
        best, least = masks.get("best", mask), masks.get("fixed", none)
        most = masks.get("zeros", none).translate(_NOT)
        finest = max((-line[-1] for line in potentials), default=0)
        objective, exponent = _integers(scores, each, finest)
        weighed, places = _integers(costs, each)
        unit, weight, excess = 1, 0, [*objective]
        if multiplier is not None:
            above, below = multiplier.as_integer_ratio()
            unit, weight = above << places, below << exponent
            excess = [unit * s + weight * c for s, c in zip(objective, weighed, strict=True)]
        nodes = _nodes(claim)
        _set_thresholds(nodes, excess, best, bytes(map(int.__gt__, most, least)))
        for node in nodes:
            if node.innermost and not node.side:
                here = slice(node.start, node.stop)
                excess[here] = [rank - node.threshold for rank in excess[here]]

        lines = iter(potentials)
        rows = [
            row
            for i, node in enumerate(nodes)
            for row in chain(
                _rows(f"A{i}", node), _square_rows(f"A{i}", node, lines, exponent, excess)
            )
        ]
        if radius is not None:
            bound = sum(weighed) - radius * 2**places
            rows.append(Row("radius", "G", bound, -weight, range(size), weighed))
        bounds = (
            each * (high if each > 0 else low)
            for each, low, high in zip(excess, least, most, strict=True)
        )
        sides = (Fraction(row.bound * row.multiplier) for row in rows)
        upper = sum(sides, Fraction(sum(bounds))) / unit
        regret = "best" in masks and radius is None
        solutions = {"best": best, "mask": mask} if regret else {"mask": mask}
        lower, claimed = (
            sum(compress(objective, each)) for each in (next(iter(solutions.values())), mask)
        )
        assert upper - claimed == claim["gap"] * 2**exponent, "the claim is what the rows prove"
        return cls(exponent, objective, least, most, rows, excess, unit, solutions, lower, upper)


def _integers(values: Sequence[float], each: int, least: int = 0) -> tuple[list[int], int]:
    """The sums of `each` values times 2ᵉ, and the least e ≥ `least` for which all are integers."""
    ratios = [value.as_integer_ratio() for value in values]
    exponent = max(least, max((below.bit_length() for _, below in ratios), default=1) - 1)
    whole = [above << exponent + 1 - below.bit_length() for above, below in ratios]
    return [sum(whole[i : i + each]) for i in range(0, len(whole), each)], exponent


@dataclass(slots=True)
class _Node:
    """The variables `start` … `stop` − 1, of which `minimum` … `maximum` are ones."""

    start: int
    stop: int
    minimum: int
    maximum: int
    parent: "_Node | None"
    innermost: bool = False
    side: int = 0  # of its squares
    each: int = 0  # ones in each of their rows and columns
    ones: int = 0
    gain: int | None = None  # a_A
    lose: int | None = None  # b_A
    threshold: int = 0  # T_A


def _nodes(claim: Mapping[str, Any]) -> list[_Node]:
    """The tree, parents first; frozen weights are bounds of their variables, and no nodes."""
    each = prod(claim["block"])
    sizes = {tensor["name"]: prod(tensor["shape"]) // each for tensor in claim["scope"]}
    root = _Node(0, 0, claim["keep"], claim["keep"], None)
    found = [root]

    def visit(part: Mapping[str, Any], parent: _Node) -> None:
        start = parent.stop
        node = _Node(start, start, part["minimum"], part["maximum"], parent)
        found.append(node)
        for child in part.get("parts", ()):
            visit(child, node)
        if "tensor" in part:
            node.stop += sizes[part["tensor"]]
            if part["squares"]:
                node.side, node.each = part["squares"]["side"], part["squares"]["keep"]
            inner = [node]
            for runs in part["runs"]:
                length, least, most = runs["length"], runs["minimum"], runs["maximum"]
                inner = [
                    _Node(begin, begin + length, least, most, outer)
                    for outer in inner
                    for begin in range(outer.start, outer.stop, length)
                ]
                found.extend(inner)
            for each in inner:
                each.innermost = True
        parent.stop = node.stop

    for part in claim["tree"]:
        visit(part, root)
    return found


def _set_thresholds(nodes: list[_Node], ranks: list[int], mask: bytes, free: bytes) -> None:
    """a_A and b_A from the leaves to the root, T_A from the root to the leaves."""
    for node in reversed(nodes):
        if node.innermost:
            here = slice(node.start, node.stop)
            kept, own, may = mask[here], ranks[here], free[here]
            node.ones = kept.count(1)
            if not node.side:
                node.gain = max(compress(own, map(int.__gt__, may, kept)), default=None)
                node.lose = min(compress(own, map(int.__and__, may, kept)), default=None)
        if (parent := node.parent) is not None:
            parent.ones += node.ones
            if node.ones < node.maximum:
                parent.gain = _pick(max, parent.gain, node.gain)
            if node.ones > node.minimum:
                parent.lose = _pick(min, parent.lose, node.lose)
    for node in nodes:
        ends = (end for end in (node.lose, node.gain) if end is not None)
        near = node.parent.threshold if node.parent else next(ends, 0)
        low = near if node.gain is None else max(near, node.gain)
        node.threshold = low if node.lose is None else min(low, node.lose)


def _pick(pick: Callable[..., int | None], *among: int | None) -> int | None:
    return pick((each for each in among if each is not None), default=None)


def _rows(name: str, node: _Node) -> Iterator[Row]:
    """The rows of a node that exclude some choice of its variables."""
    least, most, inside = node.minimum, node.maximum, range(node.start, node.stop)
    y = node.threshold - (node.parent.threshold if node.parent else 0)
    if least == most:
        yield Row(name, "E", most, y, inside)
        return
    if least > 0:
        yield Row(f"{name}min", "G", least, min(y, 0), inside)
    if most < len(inside):
        yield Row(f"{name}max", "L", most, max(y, 0), inside)


def _square_rows(
    name: str, node: _Node, lines: Iterator[Sequence[int]], exponent: int, excess: list[int]
) -> Iterator[Row]:
    """The rows and columns of its squares, whose potentials are taken from the excess."""
    side = node.side
    for number, start in enumerate(range(node.start, node.stop, side**2) if side else ()):
        *both, e = next(lines)
        prices = [each << exponent + e for each in both]
        for i, a in enumerate(prices[:side]):
            first = start + i * side
            for j, b in enumerate(prices[side:]):
                excess[first + j] -= a + b
            row = range(first, first + side)
            yield Row(f"{name}s{number}r{i}", "E", node.each, a - node.threshold, row)
        for j, b in enumerate(prices[side:]):
            column = range(start + j, start + side**2, side)
            yield Row(f"{name}s{number}c{j}", "E", node.each, b, column)
