"""Mutations of certificates: both checkers prove what is true, and nothing else.

Truth is found by trying all masks in fractions (`certificate_oracle`). Each case is a small random
program with its true certificate; then any field, mask, score or cost is changed.
"""

import copy
import json
import random
from collections.abc import Iterator
from fractions import Fraction
from math import nextafter
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.verification.certificate_cases import (
    DTYPES,
    Case,
    digest,
    fraction,
    leaf,
    node,
    scratch_folder,
)
from tests.verification.certificate_oracle import is_true
from verification import checker
from verification.certificates.fast_checker import Arrays
from verification.checker import Node, Outcome, Scan

NAMES = ("a", "b", "c")
ROLES = ("scores", "cost", "mask", "best", "zeros", "fixed")


# ---- Random programs -----------------------------------------------------------------------------


def bounds(draw: random.Random, kept: int, size: int) -> tuple[int, int]:
    """A minimum and a maximum that allow `kept`: often just that, often none."""
    low = draw.choice([0, kept, draw.randint(0, kept)])
    return low, draw.choice([kept, size, draw.randint(kept, size + 2)])


def random_case(draw: random.Random) -> Case:
    """Up to three tensors and nine weights in a tree, with any mask, and its true certificate."""
    while True:
        sizes = [draw.choice([0, 1, 2, 3, 4, 4, 6, 8]) for _ in range(draw.randint(1, 3))]
        if sum(sizes) <= 9:
            break
    names, dtype = NAMES[: len(sizes)], draw.choice(DTYPES)
    pool = [draw.randint(-4, 4) / 8 for _ in range(draw.randint(1, 5))]
    if dtype in ("F32", "F64") and draw.random() < 0.3:  # close to each other
        pool += [nextafter(0.5, 1) if dtype == "F64" else 0.5 + 2.0**-24, 2.0**-60, -0.0]

    def numbers() -> dict[str, list[float]]:
        return {n: draw.choices(pool, k=z) for n, z in zip(names, sizes, strict=True)}

    def bits(often: float) -> dict[str, list[int]]:
        drawn = zip(names, sizes, strict=True)
        return {n: [int(draw.random() < often) for _ in range(z)] for n, z in drawn}

    case = Case(numbers(), bits(0.5), dtype, draw.random() < 0.5)
    for role in ("zeros", "fixed"):
        if draw.random() < 0.2:
            frozen = bits(0.3)
            for name, which in frozen.items():
                for i, kept in enumerate(case.mask[name]):
                    which[i] &= kept == (role == "fixed")
            setattr(case, role, frozen)
    case.tree = []
    for name, size in zip(names, sizes, strict=True):
        if size and draw.random() < 0.5:
            rows = draw.choice([i for i in range(1, size + 1) if size % i == 0])
            case.shapes[name] = [rows, size // rows]
            if draw.random() < 0.3 and size % 4 == 0:
                case.shapes[name] = [2, 2, size // 4]
        turned = len(case.shape(name)) > 1 and draw.random() < 0.4
        part = leaf(name, transposed=turned)
        flat = Case(case.scores, case.mask, tree=[part], shapes=case.shapes).program()
        mask = [case.mask[name][i] for _, i in flat.order]
        longer = size
        for _ in range(draw.choice([0, 1, 1, 2])):
            lengths = [i for i in range(1, longer + 1) if longer % i == 0]
            lengths = [i for i in lengths if i < longer or longer == size]
            if not lengths or (part["runs"] and part["runs"][-1]["length"] == 1):
                break
            longer = draw.choice(lengths)
            if part["runs"] and part["runs"][-1]["length"] == longer:
                break
            counts = [sum(mask[i : i + longer]) for i in range(0, size, longer)]
            low, high = bounds(draw, draw.choice(counts), longer)
            low, high = min([low, *counts]), max([high, *counts])
            part["runs"].append({"length": longer, "minimum": low, "maximum": high})
        part["minimum"], part["maximum"] = bounds(draw, sum(mask), size)
        case.tree.append(part)
    while draw.random() < 0.4 and case.tree:
        start = draw.randrange(len(case.tree))
        stop = draw.randint(start, len(case.tree))
        inside = case.tree[start:stop]
        within = Case(case.scores, case.mask, tree=inside, shapes=case.shapes).program()
        kept = within.bits(case.mask).bit_count()
        group = node("group", *bounds(draw, kept, len(within.order)), *inside)
        case.tree[start:stop] = [group]
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
    other: Any = draw.choice([None, 0, 1, True, "a", [], {}, "0x1.0p+0", fraction(Fraction(1, 3))])
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
    if draw.random() < 0.5:
        paths = list(places(document))
        *holders, key = draw.choice(paths)
        holder = document
        for each in holders:
            holder = holder[each]
        holder[key] = changed(draw, holder[key])
        return
    held = [role for role in ROLES if getattr(case, {"cost": "costs"}.get(role, role))]
    role = draw.choice(held)
    values = getattr(case, {"cost": "costs"}.get(role, role))
    names = [name for name in values if values[name]]
    if not names:
        return
    name = draw.choice(names)
    i = draw.randrange(len(values[name]))
    kind = draw.choice(["one", "exchange", "reverse", "digest"])
    if kind == "digest":
        frozen = document["claim"]["frozen"]
        (frozen if role in frozen else document["evidence"])[role]["sha256"] = digest(b"")
        return
    if kind == "reverse":
        values[name].reverse()
    elif kind == "exchange":
        j = draw.randrange(len(values[name]))
        values[name][i], values[name][j] = values[name][j], values[name][i]
    elif role in ("scores", "cost"):
        step = draw.choice([0.125, -0.125, 2.0**-30])
        values[name][i] = draw.choice([values[name][i] + step, float("nan"), float("inf")])
    else:
        values[name][i] ^= 1
    if role == "mask" and draw.random() < 0.8:
        document["evidence"]["counts"] = [sum(case.mask[n]) for n in case.mask]
        document["claim"]["keep"] = sum(map(sum, case.mask.values()))
    case.redigest()


# ---- The campaign --------------------------------------------------------------------------------


def judge(case: Case, draw: random.Random, folder: Path) -> tuple[bool, Outcome]:
    """The truth, and the verdict on which both checkers agree."""
    path = case.write(folder)
    with (
        mock.patch.object(checker, "_BLOCK", draw.choice([1, 2, 4, 8, 64])),
        mock.patch.object(checker, "_SHORT", draw.choice([1, 4, 16])),
    ):
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
    "transposed": mock.patch.object(checker, "_transposed", lambda raw, *_: raw),
    "runs": mock.patch.object(checker.Block, "settle"),
    "nodes": mock.patch.object(checker._Walk, "close", full_nodes_gain),
    "costs": mock.patch.object(checker.Block, "removed", return_value=Fraction(0)),
    "depth": mock.patch.object(checker, "_DEPTH", 0),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_campaign_finds_a_fault(fault: str) -> None:
    with FAULTS[fault], pytest.raises(AssertionError):
        campaign(cases=300, changes=3, seed=2)


@pytest.mark.slow
def test_both_checkers_prove_the_truth_and_nothing_else_of_100_000_certificates() -> None:
    found = campaign(cases=10_000, changes=9, seed=1)
    assert sum(found.values()) == 100_000
