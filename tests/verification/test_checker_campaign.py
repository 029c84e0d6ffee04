"""Mutations of certificates: both checkers prove what is true, and nothing else.

Truth is found by trying all masks in fractions (`certificate_oracle`). Each case is a small random
program with its true certificate; then any field, mask, score or cost is changed.
"""

import copy
import json
import random
import sys
from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from math import nextafter, prod
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.verification.certificate_cases import (
    DTYPES,
    Case,
    Lines,
    digest,
    fraction,
    leaf,
    node,
    scratch_folder,
    squares,
)
from tests.verification.certificate_oracle import is_true, leaves, optima
from verification import checker
from verification.certificates.fast_checker import Arrays
from verification.checker import Node, Outcome, Scan, View

NAMES = ("a", "b", "c")
ROLES = ("scores", "cost", "mask", "best", "potentials", "zeros", "fixed")


# ---- Random programs -----------------------------------------------------------------------------


def bounds(draw: random.Random, kept: int, size: int) -> tuple[int, int]:
    """A minimum and a maximum that allow `kept`: often just that, often none."""
    low = draw.choice([0, kept, draw.randint(0, kept)])
    return low, draw.choice([kept, size, draw.randint(kept, size + 2)])


def divisors(number: int) -> list[int]:
    return [i for i in range(1, number + 1) if number % i == 0]


def random_leaf(draw: random.Random, name: str, case: Case, even: bool) -> int:
    """Add a tensor, perhaps with squares, to the shapes and the tree; returns its elements."""
    height, width = case.block
    tiles, part = draw.choice([0, 1, 2, 3, 4, 4, 6, 8]), leaf(name)
    if even and draw.random() < 0.8:
        height = width = draw.choice([1, 2, 2, 3, 3])
        tiles = draw.choice([[0, 1, 2, 3], [1, 1, 2], [1]][width - 1])
        part = squares(name, width, draw.choice([*range(width + 1), 1]))
    matrices = 2 if tiles and tiles % 2 == 0 and draw.random() < 0.2 else 1
    rows = draw.choice(divisors(tiles // matrices) or [0, 1])
    columns = tiles // matrices // rows if rows else 2
    shape = [rows * height, columns * width]
    if draw.random() < 0.4:
        part["transposed"] = True
        shape.reverse()
    if matrices > 1 or draw.random() < 0.1:
        shape = [matrices, *shape]
    elif shape[0] == 1 and not part["squares"] and not part["transposed"] and draw.random() < 0.7:
        shape = [] if shape == [1, 1] and draw.random() < 0.3 else shape[1:]
    case.shapes[name] = shape
    case.scores[name] = [0.0] * prod(shape)
    case.parts().append(part)
    return tiles * (height * width if part["squares"] else 1)


def random_runs(draw: random.Random, bits: list[int]) -> Iterator[tuple[int, int, int]]:
    """Runs within runs with bounds that these bits keep."""
    longer = len(bits) + 1
    for _ in range(draw.choice([0, 1, 1, 2])):
        lengths = [i for i in divisors(min(longer, len(bits))) if i < longer]
        if not lengths:
            return
        longer = draw.choice(lengths)
        counts = [sum(bits[i : i + longer]) for i in range(0, len(bits), longer)]
        low, high = bounds(draw, draw.choice(counts), longer)
        yield longer, min([low, *counts]), max([high, *counts])


def random_case(draw: random.Random) -> Case:
    """Up to three tensors and eleven elements in a tree, with any mask, and its true certificate.

    Elements are weights or blocks; of weights, some tensors keep as many in each row and column of
    squares.
    """
    while True:
        block = draw.choice([(1, 1), (1, 1), (1, 1), (1, 2), (2, 1), (2, 2)])
        even = block == (1, 1) and draw.random() < 0.5
        dtype, packed = draw.choice(DTYPES), draw.random() < 0.5
        case = Case({}, {}, dtype, packed, [], block=block)
        names = NAMES[: draw.randint(1, 3)]
        sizes = [random_leaf(draw, name, case, even) for name in names]
        if sum(sizes) <= (11 if case.squares() else 9):
            break
    pool = [draw.randint(-4, 4) / 8 for _ in range(draw.randint(1, 5))]
    if dtype in ("F32", "F64") and draw.random() < 0.3:  # close to each other
        pool += [nextafter(0.5, 1) if dtype == "F64" else 0.5 + 2.0**-24, 2.0**-60, -0.0]
    elif dtype == "F64" and not case.squares() and draw.random() < 0.3:  # sums overflow
        pool += [sys.float_info.max, -sys.float_info.max, 5e-324]

    def numbers() -> dict[str, list[float]]:
        return {name: draw.choices(pool, k=prod(case.shapes[name])) for name in names}

    case.scores = numbers()
    program, size = case.program(), sum(sizes)
    mask = draw.getrandbits(size) if size else 0
    for name, place in ((n, each) for n, found in program.squares.items() for each in found):
        side, keep = case.squares()[name].values()
        rows, columns = (draw.sample(range(side), side) for _ in range(2))
        for i, j in product(range(side), repeat=2):
            bit = 1 << place[side * rows[i] + columns[j]]
            mask = mask | bit if (i + j) % side < keep else mask & ~bit
    for role in ("zeros", "fixed"):
        if draw.random() < 0.2:
            frozen = draw.getrandbits(size + 1) & draw.getrandbits(size + 1)
            frozen &= mask if role == "fixed" else ~mask
            setattr(case, role, program.spread(frozen, case.scores))
    bits, ones = [mask >> i & 1 for i in range(size)], {}
    for name, part, number in zip(names, case.parts(), sizes, strict=True):
        own, bits = bits[:number], bits[number:]
        ones[name] = sum(own), number
        if not part["squares"]:
            part["runs"] = leaf(name, *random_runs(draw, own))["runs"]
        part["minimum"], part["maximum"] = bounds(draw, *ones[name])
    while draw.random() < 0.4:
        tree = case.parts()
        start = draw.randrange(len(tree))
        stop = draw.randint(start, len(tree))
        inside = tree[start:stop]
        kept, number = (sum(ones[each["tensor"]][i] for each in leaves(inside)) for i in (0, 1))
        tree[start:stop] = [node("group", *bounds(draw, kept, number), *inside)]
    if program.squares:  # optimal outside of them, perhaps inside too
        allowed, fixed = case.program().masks(mask.bit_count()), draw.choice([0, program.inside()])
        rivals = [each for each in allowed if not (each ^ mask) & fixed]
        mask = optima(program.sums(case.scores), rivals)[0]
        case.potentials = case.duals()
        if draw.random() < 0.4:
            random_potentials(draw, case.potentials)
    case.mask = program.spread(mask, case.scores)
    if program.squares:
        return case.certify()
    if draw.random() < 0.4:
        case.costs = {n: list(map(abs, values)) for n, values in numbers().items()}
        case.mu = draw.choice([1.0, 0.5, 3.0, 0.1, 1e-300, 1e300])
    if draw.random() < 0.7:  # an optimum, which a random mask seldom is
        case.certify()
        case.mask, case.best = case.best or case.mask, None
    if case.costs:
        more = Fraction(draw.randint(0, 9), draw.randint(1, 9))
        case.radius = case.removed(case.mask) + draw.choice([0, 1]) * more
    return case.certify()


def random_potentials(draw: random.Random, potentials: Lines) -> None:
    """Change the numbers of some squares."""
    for line in (each for lines in potentials.values() for each in lines):
        i, side = draw.randrange(len(line) - 1), len(line) // 2
        kind = draw.randrange(6)
        if kind == 0:
            line[i] += draw.choice([-1, 1, 2**48, -(2**48)])
        elif kind == 1:  # the same thresholds
            line[:-1] = [*(a + 7 for a in line[:side]), *(b - 7 for b in line[side:-1])]
        elif kind == 2 and line[-1] > -1074:
            line[:] = [2 * each for each in line[:-1]] + [line[-1] - 1]
        elif kind == 3:
            line[:] = [*line[side:-1], *line[:side], line[-1]]
        elif kind == 4:
            line[:-1] = [draw.choice([0, 1, -1, 2**52 - 1, 1 - 2**52]) for _ in line[:-1]]
            line[-1] = draw.choice([0, -3, -1074, 970])


# ---- Random changes ------------------------------------------------------------------------------


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all members of a JSON value."""
    members = value.items() if isinstance(value, dict) else enumerate(value)
    for key, member in members:
        yield (*path, key)
        if isinstance(member, dict | list):
            yield from places(member, (*path, key))


def changed(draw: random.Random, value: Any) -> Any:
    """Another value, of the same type or not."""
    even = {"side": draw.choice([1, 2, 2, 3]), "keep": draw.choice([0, 1, 1, 2])}
    other: Any = draw.choice(
        [None, 0, 1, True, "a", [], {}, "0x1.0p+0", fraction(Fraction(1, 3)), even]
    )
    if draw.random() < 0.15:
        return other
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return max(0, value + draw.choice([-2, -1, 1, 2]))
    if isinstance(value, list) and value:
        there = draw.randrange(len(value))
        return draw.choice(
            [value[::-1], value[:there] + value[there + 1 :], [*value, value[there]], value[there]]
        )
    if isinstance(value, dict) and {"numerator"} <= value.keys():
        step = Fraction(draw.choice([1, -1]), draw.choice([1, 2, 8, 3, 10**40]))
        number = Fraction(int(value["numerator"]), int(value["denominator"]))
        return fraction(max(Fraction(0), number + step))
    if isinstance(value, dict) and value:
        fewer = {k: v for k, v in value.items() if k != draw.choice(list(value))}
        return draw.choice([fewer, value | {"x": 0}])
    if isinstance(value, str) and value.startswith("0x"):
        return draw.choice([nextafter(float.fromhex(value), 2.0), 0.5, 7.0, -1.0]).hex()
    if isinstance(value, str):
        choices = ["a", "b", "none", "lower-index", "F32", "F64", "BF16", value + "0", value[:-1]]
        return draw.choice([*choices, *(f"{role}.safetensors" for role in ROLES)])
    return other


def mutate(draw: random.Random, case: Case) -> None:
    """Change a field of the certificate, or a bit, a score or a cost with the digests."""
    document = case.certificate
    block = draw.choice([(1, 1), (1, 2), (2, 1), (2, 2)])
    if draw.random() < 0.05 and sum(map(len, case.scores.values())) // prod(block) <= 10:
        case.block = block
        recount(case)
        return
    if draw.random() < 0.5:
        paths = list(places(document))
        *holders, key = draw.choice(paths)
        holder = document
        for each in holders:
            holder = holder[each]
        holder[key] = changed(draw, holder[key])
        return
    field = {"cost": "costs"}
    held = [role for role in ROLES if getattr(case, field.get(role, role))]
    role, order = draw.choice([*held, "mask"]), case.program().order
    values = getattr(case, field.get(role, role))
    kind = draw.choice(["one", "one", "exchange", "exchange", "reverse", "digest"])
    if kind == "digest" or not order:
        frozen = document["claim"]["frozen"]
        (frozen if role in frozen else document["evidence"])[role]["sha256"] = digest(b"")
        return
    (name, weights), (other, others) = draw.choice(order), draw.choice(order)
    part = role not in ("scores", "cost") and len(weights) > 1 and draw.random() < 0.3
    if part:
        weights = (draw.choice(weights),)
    if role == "potentials":
        change_potentials(draw, case)
    elif kind == "reverse":
        values[name].reverse()
    elif kind == "exchange":
        for i, j in zip(weights, others, strict=False):
            values[name][i], values[other][j] = values[other][j], values[name][i]
    elif role in ("scores", "cost"):
        moved = values[name][weights[-1]] + draw.choice([0.125, -0.125, 2.0**-30])
        values[name][weights[-1]] = draw.choice([moved, float("nan"), float("inf")])
    else:
        for i in weights:
            values[name][i] ^= 1
    if role == "mask" and not part and draw.random() < 0.8:
        recount(case)
    if case.potentials and role == "mask" and draw.random() < 0.5:
        document["claim"]["gap"] = fraction(case.excess())
    case.redigest()


def recount(case: Case) -> None:
    """State the numbers of elements that there are and that the mask keeps."""
    claim, size = case.certificate["claim"], prod(case.block)
    claim["block"], claim["total"] = list(case.block), sum(map(len, case.scores.values())) // size
    claim["keep"] = sum(map(sum, case.mask.values())) // size
    case.certificate["evidence"]["counts"] = [sum(bits) // size for bits in case.mask.values()]


def change_potentials(draw: random.Random, case: Case) -> None:
    """Change potentials, perhaps with the gap, or the form of their file."""
    lines = case.potentials or {}
    name = draw.choice(list(lines))
    rows, columns = len(lines[name]), 2 * case.squares()[name]["side"] + 1
    kind = draw.choice(["dtype", "shape", "absent", "extra", "more", "far", *["values"] * 6])
    if kind == "dtype":
        case.forms[name] = draw.choice(["U64", "F64"]), [rows, columns]
    elif kind == "shape":
        others = [columns, rows], [rows, columns, 1], [rows * columns]
        case.forms[name] = "I64", draw.choice(others)
    elif kind == "absent":
        del lines[name]
    elif kind == "extra":
        lines[draw.choice(NAMES)] = [[0, 0, 0]]
    elif kind == "more":
        lines[name].append([0] * columns)
    elif kind == "far" and rows:
        line, place = draw.choice(lines[name]), draw.randrange(columns)
        if draw.random() < 0.2:
            line[place] = draw.choice([2**63 - 1, -(2**63)])
            return
        far = [971, -1075, 970, -1074] if place == columns - 1 else [2**52, -(2**52), 2**52 - 1]
        line[place] = draw.choice(far)
    elif kind == "values":
        random_potentials(draw, lines)
    if kind in ("values", "far") and draw.random() < 0.5:
        case.certificate["claim"]["gap"] = fraction(case.excess())


# ---- The campaign --------------------------------------------------------------------------------


def judge(case: Case, draw: random.Random, folder: Path) -> tuple[bool, Outcome]:
    """The truth, and the verdict on which both checkers agree."""
    path = case.write(folder)
    with mock.patch.object(checker, "_BLOCK", draw.choice([1, 2, 4, 8, 64])):
        plain, fast = checker.check(path, Scan()), checker.check(path, Arrays())
    assert plain == fast, (case.certificate, plain.message, fast.message)
    assert "broke off" not in plain.message, plain.message
    document = json.loads(json.dumps(case.certificate))
    files = {f"{role}.safetensors": raw for role, raw in case.files().items()}
    return is_true(document, files), plain.outcome


def campaign(cases: int, changes: int, seed: int) -> dict[tuple[bool, Outcome], int]:
    """How often each pair of truth and verdict came up; no pair of them may differ."""
    draw, folder = random.Random(seed), scratch_folder()
    found: dict[tuple[bool, Outcome], int] = {}
    for _ in range(cases):
        case = random_case(draw)
        for turn in range(changes + 1):
            other = copy.deepcopy(case)
            if turn:
                mutate(draw, other)
            pair = truth, outcome = judge(other, draw, folder)
            assert truth == (outcome is Outcome.PROVED), (truth, outcome, other)
            assert truth or turn, "the certificate of the case is true"
            found[pair] = found.get(pair, 0) + 1
    return found


def test_both_checkers_prove_the_truth_and_nothing_else() -> None:
    found = campaign(cases=60, changes=9, seed=0)
    assert found[True, Outcome.PROVED] > 100
    assert found[False, Outcome.REFUTED] > 100
    assert found[False, Outcome.UNREADABLE] > 50


def full_nodes_gain(walk: checker._Walk) -> Node:
    """No node is full, and none at its minimum."""
    node = walk.stack.pop()
    walk.judge(node)
    if walk.stack:
        walk.stack[-1].add(node.ones, node.gain, node.lose)
    return node


FAULTS: dict[str, Any] = {
    "views": mock.patch.object(View, "arrange", lambda _, raw, *__: raw),
    "runs": mock.patch.object(checker.Block, "_faults", return_value=[]),
    "nodes": mock.patch.object(checker._Walk, "close", full_nodes_gain),
    "costs": mock.patch.object(checker.Block, "removed", return_value=Fraction(0)),
    "depth": mock.patch.object(checker, "_DEPTH", 0),
    "parts of blocks": mock.patch.object(checker, "ne", lambda one, _: one != one),
    "rows and columns": mock.patch.object(checker.Block, "_squares", return_value=()),
    "potentials": mock.patch.object(checker.Block, "excess", return_value=Fraction(0)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_campaign_finds_a_fault(fault: str) -> None:
    with FAULTS[fault], pytest.raises(AssertionError):
        campaign(cases=300, changes=3, seed=3)


@pytest.mark.slow
def test_both_checkers_prove_the_truth_and_nothing_else_of_100_000_certificates() -> None:
    found = campaign(cases=10_000, changes=9, seed=1)
    assert sum(found.values()) == 100_000
