"""Check a proof that a pruning mask is optimal within a tree of bounds, or how far it falls short.

The nodes of the tree are sets of weights, or of blocks of weights that are kept or pruned together:
the root holds all of them, the children of a node are disjoint parts of it, and m(A) is the number
of kept ones in A:

    max s·m   s.t.   l_A ≤ m(A) ≤ h_A for each node A,   m(root) = k,   m ∈ {0,1}ⁿ

**Theorem 6.** From the leaves to the root, over the weights and the children C of each node A, let

    a_A = max(the greatest pruned score of its own; a_C where m(C) < h_C)
    b_A = min(the least kept score of its own;      b_C where m(C) > l_C)

with −∞ and +∞ for none. A mask within all bounds is optimal iff a_A ≤ b_A in every node, the only
optimum iff a_A < b_A in every node, and the tie rule's optimum iff the same holds strictly of the
pairs (sᵢ, −i). So counts and comparisons decide: the mask is its own proof. (If a_A > b_A, pruning
the one weight for the other breaks no bound and gains; the converse is in CERTIFICATE.md.)

The regret of another mask is s·best − s·m, for an optimal mask `best`. If the masks m′ must also
satisfy a trust region c·(1−m′) ≤ ρ, one multiplier μ > 0 adds the cost to the score: for the
optimum of the scores r = c + μs

    s·m′  ≤  s·best + (ρ − c·(1−best)) / μ

A tensor may also be cut into squares, of which each row and each column keeps N weights. Potentials
of rows and columns are prices t of the weights, and prove for every such m′

    s·m′ − s·m  ≤  Σ_pruned max(0, s − t) + Σ_kept max(0, t − s)

Another kind of claim is about a budget: one option for each layer, with an error and a cost, so
that the costs sum to C at most. A multiplier and a search of limited length prove that no choice
has an error smaller by more than G.

This file is self-contained: it needs Python's standard library, and nothing of the project that it
checks. CERTIFICATE.md specifies the format and every check, in the order used here. Many weights at
once are read, compared and added up by a `Scan`; `fast_checker.py` has one of numpy arrays, and is
no second opinion: it shares all the rest.

    python verification/checker.py CERTIFICATE.json        exit 0 proved, 1 refuted, 2 unreadable

If the claim names a formula, each score is recomputed from files of weights and gradients, bit for
bit. Not checked: how those were made; without a formula, how the scores were.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import reprlib
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import partial
from io import FileIO
from itertools import compress, count, repeat
from math import fsum, gcd, hypot, inf, isfinite, ldexp, prod
from operator import add, eq, ge, gt, le, lt, mul, ne, neg
from os import fstat
from pathlib import Path
from struct import pack, unpack
from threading import Lock
from typing import Any, NamedTuple

# ---- Verdicts ------------------------------------------------------------------------------------


class Outcome(Enum):
    """The outcome of a check; the value is the exit code."""

    PROVED = 0
    REFUTED = 1
    UNREADABLE = 2


@dataclass(frozen=True)
class Verdict:
    """The outcome, and one line that explains it."""

    outcome: Outcome
    message: str


class _RefutedError(Exception):
    """The files are readable, and the claim or its evidence is false."""


class _UnreadableError(Exception):
    """A file is absent, damaged or not in the format: the claim is neither proved nor refuted."""


def check(path: Path, scan: Scan | None = None) -> Verdict:
    """Return the verdict on the certificate at `path` with its files; never raises."""
    path = Path(path)
    try:
        _require_denormals()
        try:
            outcome, text = Outcome.PROVED, _prove(path, scan or Scan())
        finally:
            _require_denormals()  # this thread may have been told meanwhile
    except _RefutedError as reason:
        outcome, text = Outcome.REFUTED, str(reason)
    except _UnreadableError as reason:
        outcome, text = Outcome.UNREADABLE, str(reason)
    except OSError as error:
        name = _name(Path(str(error.filename or path)).name)
        outcome, text = Outcome.UNREADABLE, f"{name}: {error.strerror or error}"
    except Exception as error:  # such as MemoryError: a failed check proves nothing
        broke = f"the check broke off with {reprlib.repr(error)}"
        outcome, text = Outcome.UNREADABLE, f"{_name(path.name)}: {broke}"
    return Verdict(outcome, _one_line(f"{outcome.name.lower()}: {text}"))


def _one_line(text: str) -> str:
    """`text` with escapes for what is not printable, and at most 1000 characters."""
    head = text if len(text) <= 1000 else text[:999] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in head)


def _name(text: str) -> str:
    """Text from a file as a word of a message: quoted unless it is one word, and shortened."""
    return text if re.fullmatch(r"[A-Za-z0-9_./-]{1,100}", text) else _quoted(text)


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 100 else f"{text[:70]}…{text[-29:]}")


def _require_denormals() -> None:
    """Require that this thread tells the least positive float from 0, and does not round to 0.

    Libraries built with -ffast-math, and PyTorch on request, have the processor flush denormals:
    scores below 2.3e-308 would all be equal. Blocks are compared in the thread that checks.
    """
    (least,), normal = unpack("<d", b"\1" + bytes(7)), sys.float_info.min
    if not (least > 0.0 and normal / 2.0 > 0.0):
        raise _UnreadableError(
            "could not be decided: this process takes the floats below 2.3e-308 for 0"
        )


# ---- The proof -----------------------------------------------------------------------------------


def _prove(path: Path, scan: Scan) -> str:
    """Return a sentence that states the proof; raises if the claim is refuted or unreadable."""
    kind, claim, evidence = _read_certificate(path)
    named = {role: said for role, said in kind.files(claim, evidence).items() if said}
    with ExitStack() as stack:
        streams = {
            role: stack.enter_context(_open(path.parent / said["file"], said["file"]))
            for role, said in named.items()
        }
        files = {role: _TensorFile(named[role]["file"], each) for role, each in streams.items()}
        shapes = {r: _shapes(r, file) for r, file in files.items() if r != "potentials"}
        digests = [
            partial(_check_digest, file, named[role]["sha256"]) for role, file in files.items()
        ]
        proof = partial(kind.prove, claim, evidence, files, shapes, scan)
        conclusion = scan.after(digests, proof)
        for file in files.values():
            file.require_unchanged()
    return conclusion


def _elements(claim: dict[str, Any]) -> str:
    """What is decided over, in words."""
    rows, columns = claim["block"]
    return "weights" if rows * columns == 1 else f"blocks of {rows} × {columns}"


def _listed(words: Iterable[str]) -> str:
    """One; one and another; one, another and a third."""
    *some, last = words
    return f"{', '.join(some)} and {last}" if some else last


def _check_digest(file: _TensorFile, said: str) -> None:
    if (found := file.sha256()) != said:
        raise _RefutedError(f"{file.name}: sha256 is {found}, the certificate says {said}")


def _check_scope(claim: dict[str, Any], files: _Files, shapes: _Shapes) -> None:
    """Require exactly the tensors of the scope in each file, with their shapes and dtypes."""
    held = [(files[role].name, found) for role, found in shapes.items()]
    for name, shape, dtype in (tensor.values() for tensor in claim["scope"]):
        said = _name(name)
        for file, found in held:
            if name not in found:
                raise _RefutedError(f"{file} has no tensor {said}, the scope has")
        for file, found in held:
            if (have := found[name]) != shape:
                sizes = f"{reprlib.repr(have)} in {file}, {reprlib.repr(shape)} in the scope"
                raise _RefutedError(f"{said} has the shape {sizes}")
        for role in (role for role in _NUMBERS if role in files):
            have, file = files[role].tensors[name]["dtype"], files[role].name
            if role in _FLOATS and have != dtype:
                raise _RefutedError(f"{said} has the dtype {have} in {file}, {dtype} in the scope")
            if role in _INPUTS and have not in _WIDENED.get(dtype, ()):
                scores = f"from which no score of dtype {dtype} is computed"
                raise _RefutedError(f"{said} has the dtype {have} in {file}, {scores}")
    inside = {tensor["name"] for tensor in claim["scope"]}
    for role, found in shapes.items():
        for name in sorted(found.keys() - inside) if role not in _INPUTS else ():
            file = files[role].name
            raise _RefutedError(f"{file} holds {_name(name)}, which is outside the scope")
    size = sum(prod(tensor["shape"]) for tensor in claim["scope"]) // prod(claim["block"])
    if size != claim["total"]:
        elements = f"{size} {_elements(claim)}"
        raise _RefutedError(f"the scope holds {elements}, the claim says {claim['total']}")
    if "potentials" in files:
        _check_potentials(claim, files["potentials"])


def _check_potentials(claim: dict[str, Any], file: _TensorFile) -> None:
    """Require a line of 2M + 1 integers for each square of the claim, and nothing else."""
    wanted = {}
    for tensor, leaf in zip(claim["scope"], _leaves(claim["tree"]), strict=True):
        if leaf["squares"]:
            side = leaf["squares"]["side"]
            wanted[leaf["tensor"]] = "I64", (prod(tensor["shape"]) // side**2, 2 * side + 1)
    for name in sorted(wanted.keys() ^ file.tensors.keys()):
        differ = f"the squares of the claim differ in the tensor {_name(name)}"
        raise _RefutedError(f"{file.name} and {differ}")
    for name, (dtype, shape) in wanted.items():
        stored = file.tensors[name]
        if (stored["dtype"], stored["shape"]) != (dtype, shape):
            found = f"the dtype {stored['dtype']} and the shape {reprlib.repr(stored['shape'])}"
            raise _RefutedError(
                f"{_name(name)} has {found} in {file.name}, expected {dtype} and {shape}"
            )


# ---- Kind "selection": the best mask of a tree of bounds -----------------------------------------


def _prove_selection(
    claim: dict[str, Any], evidence: dict[str, Any], files: _Files, shapes: _Shapes, scan: Scan
) -> str:
    """The scope of the files, the proof of the mask, and what of it is not checked."""
    _check_scope(claim, files, shapes)
    conclusion = _prove_mask(claim, evidence, files, scan)
    what = "scores and costs" if "cost" in files else "scores"
    formula = ""
    if claim["formula"]:
        name, numbers = claim["formula"].values()
        given = [f"{role} = {files[role].name}" for role in evidence["inputs"]]
        given += [f"{key} = {value}" for key, value in numbers.items()]
        formula = f"; the {what} are the formula {name} of {_listed(given)}"
        made = f"how {_listed(evidence['inputs'])} were made"
    elif claim["criterion"]:
        made = f"that the {what} are {_quoted(claim['criterion'])}"
    else:
        made = f"how the {what} were made"
    tensors, elements = len(claim["scope"]), _elements(claim)
    return (
        f"the mask keeps exactly {claim['keep']} of {claim['total']} {elements} in {tensors} "
        f"tensor{'s' * (tensors != 1)} and {conclusion}{formula}; not checked: {made}"
    )


def _prove_mask(claim: dict[str, Any], evidence: dict[str, Any], files: _Files, scan: Scan) -> str:
    """Theorem 6 of the optimal mask, the bounds of the mask, and what lies between the two."""
    best, by_index = "best" if "best" in files else "mask", claim["tie_rule"] == "lower-index"
    radius, mu = claim["radius"], evidence["multiplier"]
    walks = {role: _Walk(role, role == best, by_index) for role in dict.fromkeys(("mask", best))}
    counts: list[int] = []
    removed, short = dict.fromkeys(walks, Fraction(0)), Fraction(0)

    def visit(part: dict[str, Any]) -> None:
        nonlocal short
        for walk in walks.values():
            walk.open(_title(part), part["minimum"], part["maximum"])
        for child in part.get("parts", ()):
            visit(child)
        if "tensor" in part:
            position = len(counts)
            for block in map(partial(scan.block, mu=mu), _stream(claim, position, part, files)):
                for role, walk in walks.items():
                    walk.add(block)
                    removed[role] += block.removed(role)
                short += block.difference(best, "mask") + block.excess("mask")
            counts.append(walks["mask"].stack[-1].ones)
        for walk in walks.values():
            walk.close()

    for walk in walks.values():
        walk.open("the root", claim["keep"], claim["keep"])
    for part in claim["tree"]:
        visit(part)
    kept = {role: walk.close().ones for role, walk in walks.items()}

    if kept["mask"] != claim["keep"]:
        _wrong(f"kept {kept['mask']} of {claim['total']}, the claim says {claim['keep']}")
    for tensor, found, said in zip(claim["scope"], counts, evidence["counts"], strict=True):
        if found != said:
            _wrong(f"kept {found} in {_name(tensor['name'])}, the certificate says {said}")
    for role, walk in walks.items():
        for fault in ("bounds", "gain"):
            if fault in walk.faults:
                its = "" if role == "mask" else f"{files[role].name}: "
                _wrong(f"{its}{walk.faults[fault]}")
    faults = walks[best].faults
    if claim["unique"] is not None and claim["unique"] == ("tie" in faults):
        fact = f"not unique, {faults['tie']}" if "tie" in faults else "unique"
        _wrong(f"the optimum is {fact}; the claim says unique = {claim['unique']}")
    if by_index and "order" in faults:
        _wrong(f"{faults['order']}, against the tie rule lower-index")
    gap = short
    if radius is not None:
        if removed["mask"] > radius:
            _wrong(
                f"the mask removes a cost of {_show(removed['mask'])}, the radius is "
                f"{_show(radius)}: it exceeds it by {_show(removed['mask'] - radius)}"
            )
        gap += (radius - removed[best]) / Fraction(mu)
    if gap != claim["gap"]:
        _wrong(
            f"the gap is {_show(gap)}, the claim says {_show(claim['gap'])}: they differ by "
            f"{_show(abs(gap - claim['gap']))}"
        )
    return _conclusion(claim, mu, removed["mask"], "tie" in faults)


def _wrong(text: str) -> None:
    raise _RefutedError(text)


def _conclusion(claim: dict[str, Any], mu: float, removed: Fraction, tied: bool) -> str:
    """The theorem that was proved, in words."""
    gap, radius, rivals = claim["gap"], claim["radius"], _rivals(claim)
    squares = any(leaf["squares"] for leaf in _leaves(claim["tree"]))
    larger = f"score sum larger by more than {_claimed(gap)}" if gap else "larger score sum"
    if radius is not None:
        cost, most = _show(removed), f"at most {_claimed(radius)}"
        if radius == removed:
            cost, most = _claimed(removed), "no more"
        within = f"removes {most} has a {larger} (μ = {mu})"
        joint = "and" if "that" in rivals else "that"
        return f"removes a cost of {cost}, and no mask {rivals} {joint} {within}"
    if squares:
        return f"no mask {rivals} has a {larger}"
    if gap:
        return f"falls short of the optimum by exactly {_claimed(gap)}, among masks {rivals}"
    ties = "not unique" if tied else "unique"
    if tied and claim["tie_rule"] == "lower-index":
        ties = "ties by lower index"
    return f"no mask {rivals} has a larger score sum ({ties})"


def _rivals(claim: dict[str, Any]) -> str:
    """A phrase for the competing masks: with as many ones, and within the bounds that can bind."""
    each, said = prod(claim["block"]), []
    sizes = iter([prod(tensor["shape"]) // each for tensor in claim["scope"]])

    def visit(part: dict[str, Any]) -> int:
        size = next(sizes) if "tensor" in part else sum(map(visit, part["parts"]))
        say(_title(part), size, part)
        for runs in part.get("runs", ()):
            say(f"each run of {runs['length']}", runs["length"], runs)
        if squares := part.get("squares"):
            side, ones = squares.values()
            said.append(f"exactly {ones} of each row and column of {side} × {side} squares")
        return size

    def say(what: str, size: int, node: dict[str, Any]) -> None:
        least, most = node["minimum"], node["maximum"]
        if least == most and size:
            said.append(f"exactly {least} of {what}")
        elif least or most < size:
            upper = f"at most {most}" if most < size else ""
            lower = f"at least {least}" if least else ""
            said.append(f"{' and '.join(filter(None, (lower, upper)))} of {what}")

    for part in claim["tree"]:
        visit(part)
    said = list(dict.fromkeys(said))
    if len(said) > 3:
        said = [f"to {len(said)} different bounds"]
    for file in filter(None, claim["frozen"].values()):
        said.append(f"what {_name(file['file'])} says")
    return "with as many" + (f" that keeps {', '.join(said)}" if said else "")


def _title(part: dict[str, Any]) -> str:
    return _name(part["tensor"]) if "tensor" in part else f"node {_name(part['name'])}"


@dataclass(frozen=True)
class Weight:
    """One weight: its tensor, its index there as stored, its score, its place in flat order."""

    tensor: str
    index: int
    score: float | Fraction
    place: tuple[int, int]

    def __str__(self) -> str:
        return f"{_name(self.tensor)}[{self.index}]"


@dataclass
class Node:
    """m(A), and the weights that have the scores a_A and b_A, so far.

    Of equal scores `gain` is the first in flat order and `lose` the last, as the pairs (s, −i) say.
    """

    name: str
    minimum: int
    maximum: int
    ones: int = 0
    gain: Weight | None = None
    lose: Weight | None = None

    def add(self, ones: int, gain: Weight | None, lose: Weight | None) -> None:
        """Include the next part in flat order."""
        self.ones += ones
        if gain and not (self.gain and gain.score <= self.gain.score):
            self.gain = gain
        if lose and not (self.lose and lose.score > self.lose.score):
            self.lose = lose


class _Walk:
    """One mask on its way through the tree; `faults` has the first of each kind, in words.

    Nodes are judged in post-order: children first, then their parent.
    """

    def __init__(self, role: str, ranked: bool, by_index: bool) -> None:
        self.role, self.ranked, self.by_index = role, ranked, by_index
        self.stack: list[Node] = []
        self.faults: dict[str, str] = {}

    def open(self, name: str, minimum: int, maximum: int) -> None:
        self.stack.append(Node(name, minimum, maximum))

    def close(self) -> Node:
        node = self.stack.pop()
        self.judge(node)
        if self.stack:
            gain = node.gain if node.ones < node.maximum else None
            lose = node.lose if node.ones > node.minimum else None
            self.stack[-1].add(node.ones, gain, lose)
        return node

    def judge(self, node: Node) -> None:
        """Theorem 6 in one node."""
        if not node.minimum <= node.ones <= node.maximum:
            few = node.ones < node.minimum
            asked = f"at least {node.minimum}" if few else f"at most {node.maximum}"
            self.faults.setdefault(
                "bounds", f"{node.name} keeps {node.ones}, the tree allows {asked}"
            )
        gain, lose = node.gain, node.lose
        if not gain or not lose or gain.score < lose.score:
            return
        both = f"{gain} is pruned and {lose} kept"
        if gain.score > lose.score:
            scores = f"with {_score(gain)} and {_score(lose)}"
            self.faults.setdefault(
                "gain", f"{both}, {scores}: exchanged, they gain within {node.name}"
            )
            return
        self.faults.setdefault("tie", f"{gain} and {lose} have equal scores, {_score(lose)}")
        if gain.place < lose.place:
            self.faults.setdefault("order", f"{both}, both with score {_score(lose)}")

    def add(self, block: Block) -> None:
        """The next weights of the tensor whose node is the innermost open one."""
        stored = block.stored
        for runs in stored.outer:
            if stored.start % runs.length == 0:
                self.open(stored.title(runs, stored.start), runs.minimum, runs.maximum)
        node = self.stack[-1]
        found, ones, gain, lose = block.part(self.role, self.ranked, self.by_index, node)
        for each in found:
            self.judge(each)
        node.add(ones, gain, lose)
        for runs in reversed(stored.outer):
            if (stored.start + stored.size) % runs.length == 0:
                self.close()


def _score(weight: Weight) -> str:
    return str(weight.score) if isinstance(weight.score, float) else _show(weight.score)


def _show(value: Fraction) -> str:
    """p/q if it is short, else its leading digits; by Decimal, because a float may overflow."""
    if not value:
        return "0"
    near = f"≈ {Decimal(value.numerator) / Decimal(value.denominator):.3e}"
    bits = max(value.numerator.bit_length(), value.denominator.bit_length())
    short = bits < 200 and len(str(value)) <= 40  # str() refuses thousands of digits
    return f"{value} ({near})" if short else f"a long fraction ({near})"


def _claimed(value: Fraction) -> str:
    """`_show` of a value that the certificate states in full."""
    return _show(value).replace("a long", "the claimed")


# ---- Kind "budget": an option for each layer, the least error within a budget --------------------


def _prove_budget(
    claim: dict[str, Any], evidence: dict[str, Any], _files: _Files, _shapes: _Shapes, _scan: Scan
) -> str:
    """The sums of the choice; then that no other one within the budget is better by more than G."""
    layers, units, gap, budget = (claim[key] for key in ("layers", "units", "gap", "budget"))
    of = {f"{what}s": unit for what, unit in units.items()}
    total = {
        key: sum(layer[key][j] for layer, j in zip(layers, claim["choice"], strict=True))
        for key in of
    }
    for key, found in total.items():
        if found != (said := claim[key.removesuffix("s")]):
            sums = f"{_show(found * of[key])}, the claim says {_show(said * of[key])}"
            _wrong(f"the {key} of the choice sum to {sums}")
    cost, most = _show(total["costs"] * units["cost"]), _show(budget * units["cost"])
    if total["costs"] > budget:
        _wrong(f"the choice costs {cost}, and the budget is {most}")
    error = total["errors"]
    least = _least_error(layers, budget, error - gap, evidence["multiplier"], evidence["states"])
    if least is not None:
        less = f"less by {_show((error - gap - least) * units['error'])} than the claim allows"
        _wrong(f"a choice within the budget has the error {_show(least * units['error'])}, {less}")
    near = "has a smaller error: it is an optimum"
    if gap:
        near = f"has an error smaller by more than {_claimed(gap * units['error'])}"
        if 0 < gap < 10**6 * (error - gap):
            share = -(-(gap * 100_000) // (error - gap))  # rounded up
            near += f": it is at most {share // 1000:,}.{share % 1000:03} % above the optimum"
    options = sum(len(layer["errors"]) for layer in layers)
    made = f"that the numbers are {_quoted(claim['criterion'])}" if claim["criterion"] else ""
    return (
        f"the choice of {len(layers)} of {options} options, one for each layer, costs {cost} and "
        f"has the error {_show(error * units['error'])}, and no choice that costs at most {most} "
        f"{near}; not checked: {made or 'how the numbers were made'}"
    )


def _least_error(
    layers: Sequence[dict[str, Any]], budget: int, below: Fraction, mu: Fraction, limit: int
) -> Fraction | None:
    """The least error of a choice within the budget if it is below `below`, else None.

    With the reduced costs r = e + μc − min(e + μc) of each layer, the error of a choice j within
    the budget C is D + Σ r_j + μ (C − Σ c_j), where D = Σ min(e + μc) − μC. So for those with a
    smaller error than `below` Σ r_j < below − D. Layer by layer partial choices are formed where
    this holds; one is dropped if another one costs no more and has no larger error.
    """
    p, q = mu.numerator, mu.denominator
    priced = [
        [q * e + p * c for e, c in zip(layer["errors"], layer["costs"], strict=True)]
        for layer in layers
    ]
    bottom = sum(map(min, priced)) - p * budget  # q·D
    bound = -((bottom - q * below) // 1)  # q·(below − D), rounded up: what it bounds are integers
    costs = [sorted(layer["costs"], reverse=True) for layer in layers]
    states, formed = [(0, 0)], 0  # Σ c and q·Σ r
    for t in sorted(range(len(layers)), key=costs.__getitem__, reverse=True):
        reduced = [each - min(priced[t]) for each in priced[t]]
        options = sorted(zip(reduced, layers[t]["costs"], strict=True))
        new: list[tuple[int, int]] = []
        for cost, total in states:
            for r, c in options:
                if total + r >= bound:
                    break
                new.append((cost + c, total + r))
            if formed + len(new) > limit:
                _wrong(
                    f"the search forms more than the {limit} partial choices that the certificate "
                    "allows: a larger gap needs fewer"
                )
        formed += len(new)
        new.sort()
        states, least = [], None
        for cost, total in new:
            error = total - p * cost  # times q, but for a constant of these layers
            if least is None or error < least:
                least = error
                states.append((cost, total))
    ends = [total + p * (budget - cost) for cost, total in states if cost <= budget]
    return Fraction(min(ends) + bottom, q) if ends and min(ends) < bound else None


# ---- The weights, streamed -----------------------------------------------------------------------

_BLOCK = 2**16  # weights held at a time
_BITS = [bytes(byte >> i & 1 for i in range(8)) for byte in range(256)]  # least significant first
_NEGATE = bytes([1, 0]) + bytes(254)  # a table for bytes.translate: 0 to 1, 1 to 0


class View(NamedTuple):
    """The order of a tensor's weights: the last two dimensions swapped or not, then by tiles."""

    shape: tuple[int, ...]
    transposed: bool
    tile: tuple[int, int]

    @classmethod
    def of(cls, claim: dict[str, Any], position: int, leaf: dict[str, Any]) -> View:
        """That of a leaf: its squares are tiles, or the claim's blocks."""
        squares = leaf["squares"]
        tile = (squares["side"],) * 2 if squares else claim["block"]
        return cls(claim["scope"][position]["shape"], leaf["transposed"], tile)

    @property
    def sides(self) -> tuple[int, int]:
        """Rows and columns of each matrix, after the swap."""
        rows, columns = (1, 1, *self.shape)[-2:]
        return (columns, rows) if self.transposed else (rows, columns)

    @property
    def divides(self) -> bool:
        """Whether tiles fill the matrices."""
        return not any(side % by for side, by in zip(self.sides, self.tile, strict=True))

    @property
    def as_stored(self) -> bool:
        """Whether nothing moves."""
        return not self.transposed and self.tile[0] == 1

    def index_of(self, place: int) -> int:
        """The flat index, as the tensor is stored, of the weight at this place of the view."""
        (rows, columns), (height, width) = self.sides, self.tile
        strip, place = divmod(place, height * columns)
        tile, place = divmod(place, height * width)
        row, column = strip * height + place // width, tile * width + place % width
        if not self.transposed:
            return row * columns + column
        matrix, row = divmod(row, rows)
        return (matrix * columns + column) * rows + row

    def arrange(self, raw: bytes, width: int) -> bytes:
        """Values of `width` bytes each in the order of the view."""
        (rows, columns), (height, breadth) = self.sides, self.tile
        if self.transposed:
            kind: Any = {1: "B", 2: "H", 4: "I", 8: "Q"}[width]
            stored, view = memoryview(raw).cast(kind), memoryview(bytearray(len(raw))).cast(kind)
            for base in range(0, len(stored), rows * columns):
                matrix = stored[base : base + rows * columns]
                for row in range(rows):
                    start = base + row * columns
                    view[start : start + columns] = matrix[row::rows]
            raw = bytes(view)
        if height == 1:
            return raw
        line, piece = columns * width, breadth * width
        return b"".join(
            [
                raw[start : start + piece]
                for strip in range(0, len(raw), height * line)
                for tile in range(strip, strip + line, piece)
                for start in range(tile, tile + height * line, line)
            ]
        )


class Runs(NamedTuple):
    """Nodes: each `length` consecutive elements of a tensor in the order of its view."""

    length: int
    minimum: int
    maximum: int


@dataclass(frozen=True)
class Stored:
    """Consecutive elements of one tensor, in the order of its view, as stored in the files.

    They are whole runs of `inner`, and part of one run of each of `outer`, longest first.
    """

    position: int  # of the tensor in the scope
    tensor: str
    view: View
    start: int  # of the first element in the view
    size: int
    each: int  # weights of an element
    dtype: str  # of scores and costs
    scores: bytes
    costs: bytes  # empty if the certificate names no costs
    flags: Mapping[str, tuple[bytes, bool]]  # by role: a bit for each weight if packed, or a byte
    names: Mapping[str, str]  # of the files, by role
    outer: tuple[Runs, ...] = ()
    inner: tuple[Runs, ...] = ()
    squares: int | None = None  # ones in each row and each column of a tile
    potentials: bytes = b""
    formula: Formula | None = None
    inputs: tuple[tuple[bytes, str], ...] = ()  # what it reads, each with its dtype

    @property
    def first(self) -> int:
        """The place of its first weight in the view."""
        return self.start * self.each

    @property
    def weights(self) -> int:
        """Their number."""
        return self.size * self.each

    @property
    def last(self) -> bool:
        """They are the last of the tensor."""
        return self.first + self.weights == prod(self.view.shape)

    def name(self, i: int) -> str:
        """Weight i as a word of a message."""
        return f"{_name(self.tensor)}[{self.view.index_of(self.first + i)}]"

    def title(self, runs: Runs, place: int) -> str:
        """The run that begins at this place of the view, as words of a message."""
        return f"run {place // runs.length} of {runs.length} in {_name(self.tensor)}"


class Block:
    """Elements of `Stored`: scores sᵢ and costs cᵢ of their weights are finite, cᵢ ≥ 0.

    Elements are ranked by Σ(cᵢ + μsᵢ) over their weights; without costs it is Σsᵢ. `near` has these
    numbers, in float64, so that differences have errors of at most `slack`. With a slack of 0 they
    are exact, else integers decide where it matters. An element is a candidate to gain (pruned) or
    to lose (kept) as long as each node around it may do so too.
    """

    kept: Any  # vectors of the scan: numbers, or flags
    gain: Any
    lose: Any
    near: Any
    slack: float

    def __init__(self, stored: Stored, mu: float | None, scan: Scan) -> None:
        self.stored, self.mu, self.scan = stored, 1.0 if mu is None else mu, scan
        self.scores, self.costs = (
            scan.decode(raw, stored.dtype) for raw in (stored.scores, stored.costs)
        )
        for what, values, least in (("score", self.scores, -inf), ("cost", self.costs, 0.0)):
            if not scan.within(values, least):
                pairs = [*enumerate(map(float, values))]
                for i, value in pairs:
                    if not isfinite(value):
                        raise _RefutedError(f"{stored.name(i)} has the {what} {value}")
                at, low = next(pair for pair in pairs if pair[1] < least)
                raise _RefutedError(f"{stored.name(at)} has the {what} {low}, below 0")
        if stored.formula:
            _check_formula(stored, stored.formula, scan)
        self.masks = {role: scan.flags(stored, role) for role in stored.flags}
        for role, flags in self.masks.items() if stored.each > 1 else ():
            whole = scan.spread(flags[:: stored.each], stored.each)
            if (wrong := scan.first(scan.compare(ne, flags, whole))) is not None:
                part = f"{_name(stored.tensor)} keeps a part of the block of"
                named = stored.name(wrong - wrong % stored.each)
                raise _RefutedError(f"{stored.names[role]}: {part} {named}")

    # -- Sums

    def removed(self, role: str) -> Fraction:
        """Σ{cᵢ : pruned}."""
        return self.scan.total(self.costs, self.scan.negate(self.masks[role]))

    def difference(self, more: str, less: str) -> Fraction:
        """s·m of one mask minus s·m of another."""
        if more == less:
            return Fraction(0)
        scan, one, other = self.scan, self.masks[more], self.masks[less]
        gained, lost = scan.both(one, scan.negate(other)), scan.both(other, scan.negate(one))
        return scan.total(self.scores, gained) - scan.total(self.scores, lost)

    def excess(self, role: str) -> Fraction:
        """Σ (s − t)⁺ over the pruned and (t − s)⁺ over the kept weights, t by the potentials."""
        if self.stored.squares is None:
            return Fraction(0)
        scan, scores, kept = self.scan, self.scores, self.masks[role]
        prices = scan.prices(self.stored)
        below = scan.both(kept, scan.compare(lt, scores, prices))
        above = scan.both(scan.negate(kept), scan.compare(gt, scores, prices))
        gained = scan.total(scores, above) - scan.total(prices, above)
        return gained + scan.total(prices, below) - scan.total(scores, below)

    # -- Theorem 6

    def part(
        self, role: str, ranked: bool, by_index: bool, node: Node
    ) -> tuple[list[Node], int, Weight | None, Weight | None]:
        """What the block says of one mask.

        Returns:
            Inner nodes to judge, in post-order: with them, the first of each fault is found. Then
            m, and the weights that have the greatest score to gain and the least to lose; None
            where these would change nothing in `node`, which holds the block.
        """
        stored, scan = self.stored, self.scan
        self.kept = kept = self.masks[role][:: stored.each]
        found = [*self._frozen(ranked), *self._squares()]
        self.near, self.slack = self.scores, 0.0
        if ranked and (stored.costs or stored.each > 1):
            self.near, self.slack = scan.ranks(self.costs, self.mu, self.scores, stored.each)
        for runs in reversed(stored.inner):
            counts = scan.count(kept, runs.length)
            for run in self._faults(runs, counts, by_index):
                start, stop = run * runs.length, (run + 1) * runs.length
                name = stored.title(runs, stored.start + start)
                ends = (self.end(start, stop, kept) for kept in (False, True))
                inner = Node(name, runs.minimum, runs.maximum, int(counts[run]), *ends)
                found.append((stop - 1, runs.length, inner))
            free = scan.compare(lt, counts, runs.maximum), scan.compare(gt, counts, runs.minimum)
            self.gain, self.lose = (
                scan.both(flags, scan.spread(each, runs.length))
                for flags, each in zip((self.gain, self.lose), free, strict=True)
            )
        gain = self.end(0, stored.size, False, node.gain)
        lose = self.end(0, stored.size, True, node.lose)
        found.sort(key=lambda each: each[:2])
        ones = int(scan.count(self.kept, stored.size)[0])
        return [each for *_, each in found], ones, gain, lose

    def _frozen(self, ranked: bool) -> Iterator[tuple[int, int, Node]]:
        """Begin with the mask; the first weight at fault of each frozen kind."""
        scan, stored = self.scan, self.stored
        pruned = scan.negate(self.kept)
        self.gain, self.lose = pruned, self.kept
        for role, bit in (("zeros", 0), ("fixed", 1)):
            if role in self.masks:
                frozen = self.masks[role][:: stored.each]
                free = scan.negate(frozen)
                self.gain, self.lose = scan.both(self.gain, free), scan.both(self.lose, free)
                i = scan.first(scan.both(frozen, pruned if bit else self.kept))
                if i is not None:
                    yield i, 0, Node(stored.name(i * stored.each), bit, bit, 1 - bit)
        if not ranked or stored.squares is not None:  # nothing is exchanged
            self.gain = self.lose = scan.both(pruned, self.kept)

    def _squares(self) -> Iterator[tuple[int, int, Node]]:
        """The first row and the first column of a square with another number of ones."""
        scan, ones, side = self.scan, self.stored.squares, self.stored.view.tile[0]
        if ones is None:
            return
        for order, what in enumerate(("row", "column")):
            kept = scan.turned(self.kept, side) if order else self.kept
            counts = scan.count(kept, side)
            i = scan.first(scan.compare(ne, counts, ones))
            if i is not None:
                square, place = divmod(i, side)
                number = self.stored.start // side**2 + square
                name = f"{what} {place} of square {number} in {_name(self.stored.tensor)}"
                yield (square + 1) * side**2 - 1, order, Node(name, ones, ones, int(counts[i]))

    def _faults(self, runs: Runs, counts: Any, by_index: bool) -> list[int]:
        """The first run out of bounds, with a gain, with a tie, against the tie rule."""
        scan, length = self.scan, runs.length
        low, high = scan.ends(counts)
        found = []
        if not runs.minimum <= low <= high <= runs.maximum:
            wrong = (i for i, m in enumerate(counts) if not runs.minimum <= m <= runs.maximum)
            found.append(next(wrong))
        if scan.first(self.gain) is None or scan.first(self.lose) is None:
            return found
        highs, lows = scan.extremes(self.near, self.gain, self.lose, length)
        if self.slack:
            close = scan.places(scan.compare(ge, scan.plus(highs, self.slack), lows))
            return found + self._close_faults(length, close)
        equal = scan.compare(eq, highs, lows)
        firsts = [scan.first(scan.compare(gt, highs, lows)), scan.first(equal)]
        if by_index and firsts[1] is not None:
            same = scan.both(scan.matches(self.near, highs, length), scan.spread(equal, length))
            before, after = (scan.both(flags, same) for flags in (self.gain, self.lose))
            firsts.append(scan.disordered(before, after, length))
        return found + [run for run in firsts if run is not None]

    def _close_faults(self, length: int, close: Iterable[int]) -> list[int]:
        """Likewise, among runs that float64 does not decide."""
        firsts: dict[str, int] = {}
        for run in close:
            gain, lose = (
                self.end(run * length, (run + 1) * length, kept) for kept in (False, True)
            )
            if gain and lose and gain.score >= lose.score:
                tied = gain.score == lose.score
                firsts.setdefault("tie" if tied else "gain", run)
                if tied and gain.place < lose.place:
                    firsts.setdefault("order", run)
        return [*firsts.values()]

    def end(self, start: int, stop: int, kept: bool, rival: Weight | None = None) -> Weight | None:
        """The last candidate of the least score to lose, or the first of the greatest to gain.

        None without a candidate, and if `rival`, which comes before them, stays the one.
        """
        scan, pick = self.scan, min if kept else max
        flags, near = (self.lose if kept else self.gain)[start:stop], self.near[start:stop]
        if scan.first(flags) is None:
            return None
        best, slack = scan.extreme(pick, near, flags), self.slack
        if rival and (best - slack > rival.score if kept else best + slack <= rival.score):
            return None
        score: float | Fraction = best
        if not slack:
            i = start + scan.place(near, flags, best, last=kept)
        else:
            edge = best + slack if kept else best - slack
            within = scan.compare(le if kept else ge, near, edge)
            hits = [start + i for i in scan.places(scan.both(flags, within))]
            ranks = [self._rank(i) for i in (hits[:1] if self._alike(hits) else hits)]
            score = pick(ranks)
            if len(ranks) > 1:
                hits = [i for i, rank in zip(hits, ranks, strict=True) if rank == score]
            i = hits[-1 if kept else 0]
        stored = self.stored
        index = stored.view.index_of(stored.first + i * stored.each)
        return Weight(stored.tensor, index, score, (stored.position, stored.start + i))

    def _alike(self, hits: Sequence[int]) -> bool:
        """Whether elements have the same scores and costs, as the zeros of a sparse model."""
        each = self.stored.each
        parts = (values[j::each] for values in (self.scores, self.costs) for j in range(each))
        return all(self.scan.alike(part, hits) for part in parts if len(part))

    def _rank(self, i: int) -> Fraction:
        """Exactly, the number by which element i is ranked."""
        here = slice(i * self.stored.each, (i + 1) * self.stored.each)
        score, cost = (
            sum(map(_least, map(float, each[here]))) for each in (self.scores, self.costs)
        )
        above, below = self.mu.as_integer_ratio()
        return Fraction(above * score + below * cost, below << 1074)


def _least(value: float) -> int:
    """A float64 as a multiple of the least positive one, 2⁻¹⁰⁷⁴."""
    above, below = value.as_integer_ratio()
    return above << 1075 - below.bit_length()


def _exact_sum(terms: list[float]) -> Fraction:
    """Σ terms, without rounding; `terms` is changed.

    fsum rounds only its result, so the sum of the terms and of the negated results so far is the
    remaining error. It shrinks by 2⁵³ in each round and reaches 0: every term is a multiple of
    2⁻¹⁰⁷⁴, so a remainder cannot underflow.
    """
    total = Fraction(0)
    try:
        while part := fsum(terms):
            total += Fraction(part)
            terms.append(-part)
    except OverflowError:  # near the largest float64: slower, in integers
        total += Fraction(sum(map(_least, terms)), 1 << 1074)
    return total


def _rounding(cost: float, product: float) -> float:
    """An upper bound for the float64 error of c + μs, given upper bounds for c and |μs|.

    With p for the float of μs,

        |p − μs| ≤ 2⁻⁵³·|μs| + 2⁻¹⁰⁷⁵                        (the second term if p is subnormal)
        |fl(c + p) − (c + p)| ≤ 2⁻⁵³·(c + |p|)              (a sum does not underflow)

    so fl(c + p) is within 2⁻⁵²·(1 + 2⁻⁵²)·(c + |p|) + 2⁻¹⁰⁷⁴ of c + μs. The bound returned is four
    times as large, which covers its own rounding and that of a comparison with it. If a product or
    a sum overflows, the bound is infinite, and float64 decides nothing.
    """
    return 2.0**-50 * (cost + product) + 2.0**-1072


class Scan:
    """What is done with many weights at once, by the standard library.

    A vector of numbers is a tuple or list of floats; one of flags has a byte, 0 or 1, for each.
    """

    def block(self, stored: Stored, mu: float | None) -> Block:
        """The weights of `stored`; raises if a score, a cost or a mask byte is not allowed."""
        return Block(stored, mu, self)

    def after(self, checks: Sequence[Callable[[], None]], proof: Callable[[], str]) -> str:
        """Run the checks in order, then `proof`; return its result or raise the first error."""
        for check in checks:
            check()
        return proof()

    # -- From bytes

    def decode(self, raw: bytes, dtype: str) -> Any:
        """The stored numbers."""
        if dtype == "BF16":  # the upper half of a float32 whose lower half is zero
            wide = bytearray(2 * len(raw))
            wide[2::4], wide[3::4] = raw[0::2], raw[1::2]
            raw, dtype = bytes(wide), "F32"
        return unpack(f"<{len(raw) // _DTYPE_BYTES[dtype]}{_SCORE_LETTERS[dtype]}", raw)

    def flags(self, stored: Stored, role: str) -> Any:
        """The flags of a mask, by weights."""
        (flags, packed), where = stored.flags[role], f"{stored.names[role]}: {_name(stored.tensor)}"
        if packed:
            first, size = stored.first % 8, stored.weights
            flags = _unpack(flags, first, size, stored.last, where)
        if flags.translate(None, b"\0\1"):
            raise _UnreadableError(f"{where} holds a byte that is not 0 or 1")
        return flags

    def computed(self, stored: Stored, formula: Formula) -> tuple[bytes, ...]:
        """What a formula gives, as it would be stored."""
        letter = _SCORE_LETTERS[stored.dtype]
        read = (Rounded(self.decode(*each), letter) for each in stored.inputs)
        return tuple(made.stored() for made in formula.function(*read, *formula.numbers))

    def prices(self, stored: Stored) -> Any:
        """tᵢⱼ = (aᵢ + bⱼ)·2ᵉ of each weight of squares: exact, as |aᵢ + bⱼ| < 2⁵³."""
        side, found = stored.view.tile[0], []
        numbers = unpack(f"<{len(stored.potentials) // 8}q", stored.potentials)
        for start in range(0, len(numbers), 2 * side + 1):
            *both, e = numbers[start : start + 2 * side + 1]
            if max(map(abs, both)) >= 2**52 or not -1074 <= e <= 970:
                square = stored.start // side**2 + start // (2 * side + 1)
                where = f"{stored.names['potentials']}: square {square} of {_name(stored.tensor)}"
                raise _RefutedError(f"{where} has a potential or an exponent out of range")
            scaled = [ldexp(each, e) for each in both]
            found += [a + b for a in scaled[:side] for b in scaled[side:]]
        return found

    # -- Numbers

    def within(self, values: Any, least: float) -> bool:
        """Whether all are finite and at least `least`; True of none."""
        # a sum with a NaN or an infinity is never finite; one of finite values may overflow too
        finite = isfinite(sum(values)) or all(map(isfinite, values))
        return finite and (least == -inf or min(values, default=least) >= least)

    def total(self, values: Any, flags: Any) -> Fraction:
        """The exact sum of the flagged values."""
        return _exact_sum([*compress(values, flags)])

    def ranks(self, costs: Any, mu: float, scores: Any, each: int) -> tuple[Any, float]:
        """Σ(cᵢ + μsᵢ) of `each` weights, in float64, and a bound for the error of differences."""
        # hypot takes less time than the largest |sᵢ|. Σ|s| of an element is at most `each` times
        # it, so no sum overflows unless the bound does
        slack = 2 * each * _rounding(sum(costs), each * mu * hypot(*scores))
        if not slack < inf:
            return [0.0] * (len(scores) // each), inf
        near = [c + mu * s for c, s in zip(costs, scores, strict=True)] if costs else scores
        return near if each == 1 else [*map(fsum, zip(*[iter(near)] * each, strict=True))], slack

    def extreme(self, pick: Any, values: Any, flags: Any) -> float:
        """The greatest or least flagged value."""
        return float(pick(compress(values, flags)))

    def place(self, values: Any, flags: Any, value: float, *, last: bool) -> int:
        """The first or last place of a flagged value."""
        step = -1 if last else 1
        values, flags = values[::step], flags[::step]
        i = values.index(value)
        while not flags[i]:
            i = values.index(value, i + 1)
        return len(values) - 1 - i if last else int(i)

    def extremes(self, values: Any, gain: Any, lose: Any, length: int) -> tuple[Any, Any]:
        """Of each `length` the greatest value to gain and the least to lose; ∓inf without one."""
        starts = range(0, len(values), length)
        if length > 16:
            parts = [(values[i : i + length], slice(i, i + length)) for i in starts]
            highs = [max(compress(part, gain[at]), default=-inf) for part, at in parts]
            return highs, [min(compress(part, lose[at]), default=inf) for part, at in parts]
        highs, lows = [-inf] * len(starts), [inf] * len(starts)
        for j in range(length):  # by columns, since a call for each run takes longer
            column, more, less = (each[j::length] for each in (values, gain, lose))
            highs = [
                x if may and x > y else y for x, may, y in zip(column, more, highs, strict=True)
            ]
            lows = [x if may and x < y else y for x, may, y in zip(column, less, lows, strict=True)]
        return highs, lows

    def plus(self, values: Any, number: float) -> Any:
        """The values plus a number."""
        return [value + number for value in values]

    def compare(self, how: Callable[[Any, Any], bool], values: Any, others: Any) -> Any:
        """Flags: how each value compares with another one, or all with a number."""
        return bytes(map(how, values, others if isinstance(others, Sequence) else repeat(others)))

    # -- Flags, and what they count

    def negate(self, flags: Any) -> Any:
        """1 where they are 0."""
        return flags.translate(_NEGATE)

    def both(self, one: Any, other: Any) -> Any:
        """1 where both are."""
        return (_large(one) & _large(other)).to_bytes(len(one), "little")

    def count(self, flags: Any, length: int) -> Any:
        """The number of ones in each `length`."""
        if length < 256:  # no byte carries
            parts = [flags[j::length] for j in range(length)]
            return sum(map(_large, parts)).to_bytes(len(parts[0]), "little")
        return [flags.count(1, i, i + length) for i in range(0, len(flags), length)]

    def ends(self, counts: Any) -> tuple[int, int]:
        """The least and the greatest count."""
        return min(counts), max(counts)

    def places(self, flags: Any) -> Sequence[int]:
        """Where they are 1."""
        return [*compress(range(len(flags)), flags)]

    def alike(self, values: Any, places: Sequence[int]) -> bool:
        """Whether the values at these places are equal."""
        return all(values[i] == values[places[0]] for i in places)

    def first(self, flags: Any) -> int | None:
        """The first place where they are 1."""
        return None if (i := flags.find(1)) < 0 else i

    def matches(self, values: Any, of_runs: Any, length: int) -> Any:
        """Flags: the values that equal the number of their run."""
        found = bytearray(len(values))
        for j in range(length):
            found[j::length] = bytes(map(eq, values[j::length], of_runs))
        return bytes(found)

    def spread(self, flags: Any, length: int) -> Any:
        """Each flag `length` times."""
        found = bytearray(len(flags) * length)
        for j in range(length):
            found[j::length] = flags
        return bytes(found)

    def turned(self, flags: Any, side: int) -> Any:
        """Flags of squares in the order of their columns."""
        found, size = bytearray(len(flags)), side * side
        for i in range(side):
            for j in range(side):
                found[j * side + i :: size] = flags[i * side + j :: size]
        return bytes(found)

    def disordered(self, before: Any, after: Any, length: int) -> int | None:
        """The first run where a flag of `before` comes before one of `after`."""
        runs, seen, step = len(before) // length, _large(before), 1
        while step < length:  # from each flag on, 1 to the end of its run
            seen |= seen << 8 * step & _large((bytes(step) + b"\1" * (length - step)) * runs)
            step *= 2
        i = self.first(self.both(seen.to_bytes(len(before), "little"), after))
        return None if i is None else i // length


def _large(flags: bytes) -> int:
    """The bytes as one integer, of which sums and bits are taken all at once."""
    return int.from_bytes(flags, "little")


def _unpack(packed: bytes, first: int, size: int, last: bool, where: str) -> bytes:
    """One byte for each of `size` bits from `first`; bit i % 8 of byte i // 8 is weight i."""
    flags = b"".join(map(_BITS.__getitem__, packed))
    if last and 1 in flags[first + size :]:
        raise _UnreadableError(f"{where} has a one among its padding bits")
    return flags[first : first + size]


def _stream(
    claim: dict[str, Any], position: int, leaf: dict[str, Any], files: _Files
) -> Iterator[Stored]:
    """All elements of one tensor, in the order of its view."""
    name, shape, dtype = claim["scope"][position].values()
    view, each, squares = View.of(claim, position, leaf), prod(claim["block"]), leaf["squares"]
    if not (total := prod(shape) // each):
        return
    runs = [Runs(**run) for run in leaf["runs"]]
    outer = tuple(run for run in runs if run.length * each > _BLOCK)
    inner = tuple(run for run in runs if run.length * each <= _BLOCK)
    formula = _bound(claim["formula"], dtype) if claim["formula"] else None
    names = {role: file.name for role, file in files.items()}
    masks = [role for role in files if role not in (*_NUMBERS, "potentials")]
    kinds = {role: files[role].tensors[name]["dtype"] for role in files if role != "potentials"}
    packed = {role: kinds[role] == "U8" for role in masks}
    whole: dict[str, bytes] = {}
    for role, kind in kinds.items() if not view.as_stored else ():
        tensor = files[role].tensors[name]
        raw = files[role].read(name, 0, prod(tensor["shape"]) * _DTYPE_BYTES[kind])
        if packed.get(role):
            raw = _unpack(raw, 0, prod(shape), True, f"{names[role]}: {_name(name)}")
            packed[role] = False
        whole[role] = view.arrange(raw, _DTYPE_BYTES[kind])

    def read(role: str, start: int, stop: int) -> bytes:
        width = _DTYPE_BYTES[kinds[role]]
        if role in whole:
            return whole[role][start * width : stop * width]
        if packed.get(role):
            return files[role].read(name, start // 8, -(-stop // 8))
        return files[role].read(name, start * width, stop * width)

    # blocks of whole runs or squares, cut where the longer runs end
    unit, ones, line = inner[0].length if inner else 1, None, 0
    if squares:
        unit, ones, line = squares["side"] ** 2, squares["keep"], 8 * (2 * squares["side"] + 1)
    stride = outer[-1].length if outer else total
    step = max(_BLOCK // (unit * each), 1) * unit
    for base in range(0, total, stride):
        for start in range(base, base + stride, step):
            stop = min(start + step, base + stride)
            here = start * each, stop * each
            at = start // unit * line, stop // unit * line
            yield Stored(
                position=position,
                tensor=name,
                view=view,
                start=start,
                size=stop - start,
                each=each,
                dtype=dtype,
                scores=read("scores", *here),
                costs=read("cost", *here) if "cost" in files else b"",
                flags={role: (read(role, *here), packed[role]) for role in masks},
                names=names,
                outer=outer,
                inner=inner,
                squares=ones,
                potentials=files["potentials"].read(name, *at) if squares else b"",
                formula=formula,
                inputs=tuple(
                    (read(r, *here), kinds[r]) for r in (formula.inputs if formula else ())
                ),
            )


# ---- The formulas of scores and costs ------------------------------------------------------------


class Rounded:
    """Float32s or float64s, of which each operation is rounded by itself, as IEEE 754 says.

    Python computes in float64. A float32 is that result, rounded again, which changes nothing: the
    product of two float32s is a float64 without rounding, and of a sum two roundings, to 53 and to
    24 bits, give what one to 24 bits gives, as 53 ≥ 2·24 + 2. (S. A. Figueroa, When is double
    rounding innocuous?, 1995.) Subnormal sums of float32s are exact. Too large is ±∞.
    """

    def __init__(self, values: Iterable[float], letter: str) -> None:
        self.values, self.letter = array(letter, values), letter  # array("f", …) rounds

    def __neg__(self) -> Rounded:
        return Rounded(map(neg, self.values), self.letter)

    def __abs__(self) -> Rounded:
        return Rounded(map(abs, self.values), self.letter)

    def __mul__(self, other: Rounded | float) -> Rounded:
        return Rounded(map(mul, self.values, _each(other)), self.letter)

    def __add__(self, other: Rounded | float) -> Rounded:
        return Rounded(map(add, self.values, _each(other)), self.letter)

    def stored(self) -> bytes:
        """As files have them."""
        return pack(f"<{len(self.values)}{self.letter}", *self.values)


def _each(factor: Rounded | float) -> Iterable[float]:
    return factor.values if isinstance(factor, Rounded) else repeat(factor)


class Formula(NamedTuple):
    """Scores, and costs, from files and numbers: a function of `Rounded`s, or arrays, and floats.

    Operations in the order in which Python evaluates them: no two are fused.
    """

    inputs: tuple[str, ...]
    function: Callable[..., tuple[Any, ...]]
    numbers: tuple[Any, ...] = ()  # names in the table, values in a block, as floats of its dtype


_FORMULAS = {
    "magnitude": Formula(("weights",), lambda w: (abs(w),)),
    "sensitivity": Formula(("gradient", "before"), lambda g, b: (abs(g * b),)),
    "movement": Formula(("gradient", "before"), lambda g, b: (-g * b,)),
    "pins": Formula(("gradient", "weights"), lambda g, w: (-g * w,)),
    "abs-pins": Formula(("gradient", "weights"), lambda g, w: (abs(g * w),)),
    "obd": Formula(("curvature", "weights"), lambda h, w: (h * 0.5 * (w * w),)),
    "trust-region": Formula(
        ("momentum", "curvature", "weights"),
        lambda v, h, w, delta: (-v * w, (h + delta) * 0.5 * w * w),
        ("offset",),
    ),
}
_INPUTS = ("momentum", "gradient", "curvature", "before", "weights")  # files, by role
_WIDENED = {"F32": ("F16", "BF16", "F32"), "F64": ("F64",)}  # by dtype of the scores: the inputs'


def _bound(claimed: dict[str, Any], dtype: str) -> Formula:
    """The claimed formula with its numbers, rounded to the dtype of the scores."""
    numbers = array(_SCORE_LETTERS[dtype], claimed["numbers"].values())
    return _FORMULAS[claimed["name"]]._replace(numbers=tuple(numbers))


def _check_formula(stored: Stored, formula: Formula, scan: Scan) -> None:
    """Require the bits that the formula gives, −0 and 0 told apart."""
    letter, width = _SCORE_LETTERS[stored.dtype], _DTYPE_BYTES[stored.dtype]
    said_of = (("score", stored.scores), ("cost", stored.costs))
    for (what, said), made in zip(said_of, scan.computed(stored, formula), strict=False):
        if said != made:
            starts = range(0, len(said), width)
            i = next(i for i in starts if said[i : i + width] != made[i : i + width])
            (have,), (right,) = (unpack(f"<{letter}", raw[i : i + width]) for raw in (said, made))
            where = stored.name(i // width)
            raise _RefutedError(f"{where} has the {what} {have}, the formula gives {right}")


# ---- JSON: a reader takes a value and its path, and returns the parsed value or raises -----------

_Reader = Callable[[Any, str], Any]


def _parse_json(raw: bytes | str, where: str) -> Any:
    """The JSON value in `raw`: UTF-8, unique keys, no NaN or Infinity."""

    def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        unique: dict[str, Any] = {}
        for key, value in pairs:
            if key in unique:
                raise _UnreadableError(f"{where}: the key {reprlib.repr(key)} appears twice")
            unique[key] = value
        return unique

    def no_constant(name: str) -> Any:
        raise _UnreadableError(f"{where}: {name} is not a JSON value")

    try:
        text = raw.decode("utf-8") if isinstance(raw, bytes) else raw
        return json.loads(text, object_pairs_hook=unique_keys, parse_constant=no_constant)
    except ValueError as error:  # bad UTF-8, bad JSON, an integer of thousands of digits
        raise _UnreadableError(f"{where}: not JSON in UTF-8: {error}") from None
    except RecursionError:
        raise _UnreadableError(f"{where}: the JSON is nested too deeply") from None


def _unexpected(value: Any, where: str, expected: str) -> _UnreadableError:
    return _UnreadableError(f"{where} is {reprlib.repr(value)}, expected {expected}")


def _typed(kind: type, expected: str) -> _Reader:
    def read(value: Any, where: str) -> Any:
        if type(value) is not kind:  # not isinstance, for which True is an int
            raise _unexpected(value, where, expected)
        return value

    return read


def _pattern(regex: str, expected: str) -> _Reader:
    def read(value: Any, where: str) -> Any:
        if type(value) is not str or not re.fullmatch(regex, value):
            raise _unexpected(value, where, expected)
        return value

    return read


def _choice(*values: str) -> _Reader:
    return _pattern("|".join(map(re.escape, values)), " or ".join(map(repr, values)))


def _nullable(reader: _Reader) -> _Reader:
    return lambda value, where: None if value is None else reader(value, where)


def _sequence(item: _Reader, longest: int) -> _Reader:
    def read(value: Any, where: str) -> tuple[Any, ...]:
        if type(value) is not list or len(value) > longest:
            raise _unexpected(value, where, f"a list of at most {longest} entries")
        return tuple(item(entry, f"{where}[{i}]") for i, entry in enumerate(value))

    return read


def _record(readers: dict[str, _Reader]) -> _Reader:
    """A reader of an object with these keys and no others."""

    def read(value: Any, where: str) -> dict[str, Any]:
        _object(value, where)
        for key in (*readers, *value):
            if (key in readers) != (key in value):
                fault = "lacks the key" if key in readers else "has the unknown key"
                raise _UnreadableError(f"{where} {fault} {reprlib.repr(key)}")
        return {key: reader(value[key], f"{where}.{_name(key)}") for key, reader in readers.items()}

    return read


def _natural(value: Any, where: str) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise _unexpected(value, where, "an integer from 0 to 2**63 - 1")
    return value


def _float64(value: Any, where: str) -> float:
    """A finite float64 in the notation of float.hex, exactly representable."""
    text = value if type(value) is str else ""
    form = re.fullmatch(r"(-?)0x([01])\.([0-9a-f]{1,13})p([+-][0-9]{1,4})", text)
    try:
        if form:
            sign, lead, digits, power = form.groups()
            exact = int(sign + lead + digits, 16) * Fraction(2) ** (int(power) - 4 * len(digits))
            if (number := float.fromhex(text)) == exact:
                return number
    except OverflowError:  # beyond the largest float64
        pass
    raise _unexpected(value, where, "a float64 in hexadecimal such as '0x1.8p-3'")


def _positive_float64(value: Any, where: str) -> float:
    if (number := _float64(value, where)) <= 0:
        raise _unexpected(value, where, "a float64 above 0")
    return number


def _rational(longest: int) -> _Reader:
    """A rational ≥ 0 in lowest terms, with at most so many digits above and below."""
    positive = _pattern(
        f"[1-9][0-9]{{0,{longest - 1}}}", "a string of decimal digits, at least '1'"
    )
    natural = _pattern(f"0|[1-9][0-9]{{0,{longest - 1}}}", "a string of decimal digits")

    def read(value: Any, where: str) -> Fraction:
        parts = _record({"numerator": natural, "denominator": positive})(value, where)
        numerator, denominator = int(parts["numerator"]), int(parts["denominator"])
        if gcd(numerator, denominator) != 1:
            raise _UnreadableError(f"{where} is not in lowest terms")
        return Fraction(numerator, denominator)

    return read


def _integer(regex: str, expected: str) -> _Reader:
    """An integer of up to 1000 digits, as a string."""
    text = _pattern(regex, f"a string of up to 1000 decimal digits{expected}")
    return lambda value, where: int(text(value, where))


_signed = _integer("0|-?[1-9][0-9]{0,999}", ", perhaps after '-'")
_unsigned = _integer("0|[1-9][0-9]{0,999}", "")
_text, _object = _typed(str, "a string"), _typed(dict, "an object")
_shape = _sequence(_natural, longest=64)


# ---- safetensors ---------------------------------------------------------------------------------

# Each tensor is in the certificate's scope too, which has at most as many bytes. Parsed, they take
# up to 25 times as much memory; the format allows 100 MB.
_HEADER_BYTES = 16 * 2**20
_CHUNK = 2**20  # bytes digested at a time
_DTYPE_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}
_STORED = _record(
    {
        "dtype": _choice(*_DTYPE_BYTES),
        "shape": _shape,
        "data_offsets": _sequence(_natural, longest=2),  # counted from the end of the header
    }
)


def _open(path: Path, name: str) -> FileIO:
    if not path.is_file():  # a pipe would block, and a device may be endless
        raise _UnreadableError(f"{_name(name)}: no such file")
    return path.open("rb", buffering=0)


class _TensorFile:
    """A safetensors file whose header describes every byte exactly once."""

    def __init__(self, name: str, stream: FileIO) -> None:
        self.name, self._stream, self._lock = _name(name), stream, Lock()
        name, self._opened = self.name, self._state()
        on_disk = stream.seek(0, 2)
        length = int.from_bytes(self._some(0, 8), "little")
        if not 2 <= length <= min(_HEADER_BYTES, on_disk - 8):
            found = f"{on_disk} bytes on disk, a header of {length} bytes"
            raise _UnreadableError(f"{name}: {found}; at most {_HEADER_BYTES} are read")
        raw = self._read(8, length)
        if not raw.startswith(b"{"):
            raise _UnreadableError(f"{name}: the header does not begin with '{{'")
        header = _parse_json(raw, f"{name}: header")
        self.metadata: dict[str, Any] = header.pop("__metadata__", {})
        for key, value in _object(self.metadata, f"{name}: __metadata__").items():
            _text(value, f"{name}: __metadata__.{_name(key)}")
        self.tensors = {
            key: _STORED(value, f"{name}: {_name(key)}") for key, value in header.items()
        }
        self._origin = end = 8 + length
        for key, stored in sorted(self.tensors.items(), key=lambda item: item[1]["data_offsets"]):
            begin, end = end, end + prod(stored["shape"]) * _DTYPE_BYTES[stored["dtype"]]
            lies, belongs = stored["data_offsets"], (begin - self._origin, end - self._origin)
            if lies != belongs:  # a hole, an overlap, or a size that is not the shape's
                raise _unexpected(lies, f"{name}: {_name(key)}.data_offsets", reprlib.repr(belongs))
        if on_disk != end:
            raise _UnreadableError(f"{name}: {on_disk} bytes on disk, the header says {end}")

    def _state(self) -> tuple[int, int, int]:
        found = fstat(self._stream.fileno())
        return found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def require_unchanged(self) -> None:
        """Require that nobody wrote to the file, or replaced it, since it was opened."""
        if self._state() != self._opened:
            raise _UnreadableError(f"{self.name}: changed while it was read")

    def _some(self, start: int, size: int) -> bytes:
        """Up to `size` bytes; threads may read at the same time."""
        with self._lock:
            self._stream.seek(start)
            return self._stream.read(size)

    def _read(self, start: int, size: int) -> bytes:
        data = self._some(start, size)
        if len(data) != size:
            raise _UnreadableError(f"{self.name}: ends {size - len(data)} bytes too early")
        return data

    def sha256(self) -> str:
        """SHA-256, in hexadecimal, of the very file of which `read` reads: of its descriptor."""
        digest = hashlib.sha256()
        for start in count(0, _CHUNK):
            if not (chunk := self._some(start, _CHUNK)):
                break
            digest.update(chunk)
        return digest.hexdigest()

    def read(self, tensor: str, begin: int, end: int) -> bytes:
        """Bytes `begin` to `end` of the tensor."""
        return self._read(
            self._origin + self.tensors[tensor]["data_offsets"][0] + begin, end - begin
        )


def _shapes(role: str, mask: _TensorFile) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor; of packed bits the recorded one."""
    if role in _NUMBERS:
        return {key: stored["shape"] for key, stored in mask.tensors.items()}
    shapes = {key: s["shape"] for key, s in mask.tensors.items() if s["dtype"] == "BOOL"}
    packed = {key: s["shape"] for key, s in mask.tensors.items() if s["dtype"] == "U8"}
    for key in sorted(mask.tensors.keys() - shapes.keys() - packed.keys()):
        dtype = mask.tensors[key]["dtype"]
        raise _unexpected(dtype, f"{mask.name}: {_name(key)}.dtype", "'U8' or 'BOOL'")
    if packed:
        where = f"{mask.name}: __metadata__"
        _choice("pins-mask")(mask.metadata.get("format"), f"{where}.format")
        _choice("1")(mask.metadata.get("version"), f"{where}.version")
        recorded = _parse_json(_text(mask.metadata.get("shapes"), f"{where}.shapes"), where)
        shapes |= _record(dict.fromkeys(packed, _shape))(recorded, f"{where}.shapes")
    for key, shape in packed.items():
        if shape != (size := -(-prod(shapes[key]) // 8),):
            raise _unexpected(shape, f"{mask.name}: {_name(key)}.shape", reprlib.repr((size,)))
    return shapes


# ---- The certificate -----------------------------------------------------------------------------

_FLOATS = ("scores", "cost")
_NUMBERS = (*_FLOATS, *_INPUTS)  # the files of numbers, by role; all others are masks
_Files = dict[str, _TensorFile]
_Shapes = dict[str, dict[str, tuple[int, ...]]]
_VERSION = 4
_SIDE = 64  # of a square
_CERTIFICATE_BYTES = 16 * 2**20  # a few lines for each tensor: more than any model needs
_DEPTH = 16  # nodes within nodes
_SCORE_LETTERS = {"F16": "e", "BF16": "f", "F32": "f", "F64": "d"}  # struct's; BF16 once widened
# A path at or below the certificate's folder on any system: no root, drive, backslash, '.' or '..'.
_INSIDE = r"(?!\.{1,2}(/|$))[^/\\:\0]+(/(?!\.{1,2}(/|$))[^/\\:\0]+)*"

_TENSORS = _sequence(
    _record({"name": _text, "shape": _shape, "dtype": _choice(*_SCORE_LETTERS)}), longest=2**20
)
_FILE = _record(
    {
        "file": _pattern(_INSIDE, "a path inside the certificate's folder"),
        "sha256": _pattern("[0-9a-f]{64}", "64 lower-case hexadecimal digits"),
    }
)
_BOUNDS: dict[str, _Reader] = {"minimum": _natural, "maximum": _natural}
_RUNS = _sequence(_record({"length": _natural, **_BOUNDS}), longest=64)
_LEAF: dict[str, _Reader] = {
    "tensor": _text,
    **_BOUNDS,
    "transposed": _typed(bool, "true or false"),
    "runs": _RUNS,
    "squares": _nullable(_record({"side": _natural, "keep": _natural})),
}


_LAYER = _record(
    {
        "name": _text,
        "levels": _sequence(_text, longest=2**20),
        "errors": _sequence(_signed, longest=2**20),
        "costs": _sequence(_unsigned, longest=2**20),
    }
)
_STATES = 10**6  # partial choices that a search forms, at most: seconds


def _states(value: Any, where: str) -> int:
    if _natural(value, where) > _STATES:
        raise _unexpected(value, where, f"at most {_STATES}")
    return int(value)


def _tree(depth: int) -> _Reader:
    """The parts of a node at this depth: leaves, or nodes with parts of their own."""

    def read(value: Any, where: str) -> Any:
        if "parts" not in _object(value, where):
            return _record(_LEAF)(value, where)
        if depth == _DEPTH:
            raise _UnreadableError(
                f"{where} is a node at depth {depth + 1}, at most {depth} are read"
            )
        return _record({"name": _text, **_BOUNDS, "parts": _tree(depth + 1)})(value, where)

    return _sequence(read, longest=2**20)


class _Kind(NamedTuple):
    """What a kind of certificates claims, with which evidence and files, and how it is proved."""

    claim: dict[str, _Reader]
    evidence: dict[str, _Reader]
    files: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]
    check: Callable[[dict[str, Any], dict[str, Any], str], None]
    prove: Callable[[dict[str, Any], dict[str, Any], _Files, _Shapes, Scan], str]


def _selection_files(claim: dict[str, Any], evidence: dict[str, Any]) -> dict[str, Any]:
    """The files by role, null for none."""
    named = {role: evidence[role] for role in ("scores", "cost", "mask", "best", "potentials")}
    return {**named, **claim["frozen"], **(evidence["inputs"] or {})}


def _check_selection(claim: dict[str, Any], evidence: dict[str, Any], where: str) -> None:
    """Require that the parts of a certificate fit together."""
    scope, found = claim["scope"], list(_leaves(claim["tree"]))
    if len({tensor["name"] for tensor in scope}) < len(scope):
        raise _UnreadableError(f"{where}.claim.scope names a tensor twice")
    if len(evidence["counts"]) != len(scope):
        raise _unexpected(evidence["counts"], f"{where}.evidence.counts", "one for each tensor")
    names = [leaf["tensor"] for leaf in found]
    if names != [tensor["name"] for tensor in scope]:
        raise _unexpected(names, f"{where}.claim.tree", "the tensors of the scope, in order")
    block, region, gap = claim["block"], claim["radius"] is not None, claim["gap"]
    if len(block) != 2 or 0 in block:
        raise _unexpected(block, f"{where}.claim.block", "two sides of at least 1")
    for position, leaf in enumerate(found):
        its, view = f"{where}.claim.tree: {_name(leaf['tensor'])}", View.of(claim, position, leaf)
        height, width = view.tile
        if len(view.shape) < 2 and (leaf["transposed"] or leaf["squares"]):
            what = "transposed" if leaf["transposed"] else "cut into squares"
            raise _UnreadableError(f"{its} is {what}, and has less than two dimensions")
        if leaf["squares"]:
            if not leaf["squares"]["keep"] <= height <= _SIDE or not height:
                expected = f"a side from 1 to {_SIDE}, and at most as many to keep"
                raise _unexpected(leaf["squares"], f"{its} has squares, which", expected)
            if region or block != (1, 1) or leaf["runs"]:
                raise _UnreadableError(f"{its} has squares beside a radius, blocks or runs")
        if not view.divides:
            rows, columns = view.sides
            what = "squares" if leaf["squares"] else "blocks"
            of = f"{what} of {height} × {width} do not divide"
            raise _UnreadableError(f"{its} has {rows} × {columns} weights, which {of}")
        longer = prod(view.shape) // prod(block)
        for place, runs in enumerate(leaf["runs"]):
            length = runs["length"]
            if not length or longer % length or (place and length == longer):
                expected = f"a divisor of {longer}" + " below it" * (place > 0)
                raise _unexpected(length, f"{its} has runs whose length", expected)
            longer = length
    squares = any(leaf["squares"] for leaf in found)
    for key, asked, why in (
        ("cost", region, "a value where a radius is claimed, else null"),
        ("multiplier", region, "a value where a radius is claimed, else null"),
        ("potentials", squares, "a file where squares are claimed, else null"),
        ("best", gap > 0 and not squares, "a file where a gap is claimed, else null"),
    ):
        if (evidence[key] is not None) != asked and not (key == "best" and region):
            raise _unexpected(evidence[key], f"{where}.evidence.{key}", why)
    for key, nothing in (("tie_rule", "none"), ("unique", None)):
        if claim[key] != nothing and (region or gap or squares):
            expected = f"{nothing!r} where a radius or a gap is claimed"
            expected = f"{nothing!r} where squares are claimed" if squares else expected
            raise _unexpected(claim[key], f"{where}.claim.{key}", expected)
    formula = claim["formula"]
    if formula and claim["criterion"] is not None:
        expected = "null where a formula is claimed"
        raise _unexpected(claim["criterion"], f"{where}.claim.criterion", expected)
    if formula and (formula["name"] == "trust-region") != region:
        expected = "'trust-region' where a radius is claimed, else another"
        raise _unexpected(formula["name"], f"{where}.claim.formula.name", expected)
    reads = list(_FORMULAS[formula["name"]].inputs) if formula else None
    if (found := evidence["inputs"] and list(evidence["inputs"])) != reads:
        expected = f"files of {_listed(reads)}" if reads else "null without a formula"
        raise _unexpected(found, f"{where}.evidence.inputs", expected)


def _check_budget(claim: dict[str, Any], _evidence: dict[str, Any], where: str) -> None:
    """Require that the parts of a certificate fit together."""
    layers, choice = claim["layers"], claim["choice"]
    if not layers or len({layer["name"] for layer in layers}) < len(layers):
        fault = "names a layer twice" if layers else "names no layer"
        raise _UnreadableError(f"{where}.claim.layers {fault}")
    if len(choice) != len(layers):
        raise _unexpected(choice, f"{where}.claim.choice", "a number for each layer")
    for layer, j in zip(layers, choice, strict=True):
        its = f"{where}.claim: {_name(layer['name'])}"
        if not len(layer["levels"]) == len(layer["errors"]) == len(layer["costs"]) > 0:
            raise _UnreadableError(f"{its} has not as many errors and costs as levels, at least 1")
        if j >= len(layer["levels"]):
            raise _unexpected(j, f"{its} has the choice, which", f"below {len(layer['levels'])}")
    for what, unit in claim["units"].items():
        if not unit:
            raise _unexpected(unit, f"{where}.claim.units.{what}", "a rational above 0")


def _formula(value: Any, where: str) -> Any:
    """A known name, and the numbers of its formula."""
    name = _choice(*_FORMULAS)(_object(value, where).get("name"), f"{where}.name")
    numbers: dict[str, _Reader] = dict.fromkeys(_FORMULAS[name].numbers, _float64)
    return _record({"name": _text, "numbers": _record(numbers)})(value, where)


def _inputs(value: Any, where: str) -> Any:
    """Files by role, in the order of `_INPUTS`."""
    _object(value, where)
    return _record({role: _FILE for role in _INPUTS if role in value})(value, where)


def _leaves(parts: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The leaves below, in order."""
    for part in parts:
        if "parts" in part:
            yield from _leaves(part["parts"])
        else:
            yield part


_KINDS = {
    "selection": _Kind(
        {
            "total": _natural,
            "keep": _natural,
            "block": _sequence(_natural, longest=2),
            "scope": _TENSORS,
            "tree": _tree(0),
            "frozen": _record({"zeros": _nullable(_FILE), "fixed": _nullable(_FILE)}),
            "criterion": _nullable(_text),
            "formula": _nullable(_formula),
            "tie_rule": _choice("lower-index", "none"),
            "unique": _nullable(_typed(bool, "true, false or null")),
            "radius": _nullable(_rational(1000)),
            # a gap has fewer than 2,700 digits if its radius has at most 1,000
            "gap": _rational(3000),
        },
        {
            "counts": _sequence(_natural, longest=2**20),
            "scores": _FILE,
            "mask": _FILE,
            "best": _nullable(_FILE),
            "potentials": _nullable(_FILE),
            "cost": _nullable(_FILE),
            "multiplier": _nullable(_positive_float64),
            "inputs": _nullable(_inputs),
        },
        _selection_files,
        _check_selection,
        _prove_selection,
    ),
    "budget": _Kind(
        {
            "layers": _sequence(_LAYER, longest=2**20),
            "units": _record({"error": _rational(1000), "cost": _rational(1000)}),
            "budget": _unsigned,
            "choice": _sequence(_natural, longest=2**20),
            "error": _signed,
            "cost": _unsigned,
            "gap": _rational(3000),
            "criterion": _nullable(_text),
        },
        {"multiplier": _rational(1001), "states": _states},
        lambda _claim, _evidence: {},
        _check_budget,
        _prove_budget,
    ),
}


def _read_certificate(path: Path) -> tuple[_Kind, dict[str, Any], dict[str, Any]]:
    """The claim and the evidence, with the keys and types of CERTIFICATE.md."""
    name = _name(path.name)
    with _open(path, path.name) as stream:
        raw = stream.read(_CERTIFICATE_BYTES + 1)
    if len(raw) > _CERTIFICATE_BYTES:
        raise _UnreadableError(f"{name}: longer than {_CERTIFICATE_BYTES} bytes")
    where = f"{name}: certificate"
    document = _object(_parse_json(raw, name), where)
    # Format, version and kind are read first, because they determine the other keys.
    _choice("pins-certificate")(document.get("format"), f"{where}.format")
    version = _natural(document.get("version"), f"{where}.version")
    if version in (1, 2, 3):
        reader = f"version {version} is read by the checker of PINS 0.1.0"
        raise _UnreadableError(f"{name}: {reader}; this one reads version {_VERSION}")
    if version != _VERSION:
        raise _unexpected(version, f"{where}.version", f"{_VERSION}, the one known here")
    kind = _KINDS[_choice(*_KINDS)(document.get("kind"), f"{where}.kind")]
    certificate = _record(
        {
            "format": _text,
            "version": _natural,
            "kind": _text,
            "claim": _record(kind.claim),
            "evidence": _record(kind.evidence),
            "provenance": _object,
        }
    )(document, where)
    claim, evidence = certificate["claim"], certificate["evidence"]
    kind.check(claim, evidence, where)
    return kind, claim, evidence


# ---- The command ---------------------------------------------------------------------------------


def main(arguments: Sequence[str], scan: Scan | None = None) -> int:
    """Print the verdict on the one certificate in `arguments` and return its exit code."""
    if len(arguments) != 1:
        print("usage: python verification/checker.py CERTIFICATE.json", file=sys.stderr)
        return Outcome.UNREADABLE.value
    verdict = check(Path(arguments[0]), scan)
    stream = sys.stdout if verdict.outcome is Outcome.PROVED else sys.stderr
    if stream is None:  # closed before the start
        return Outcome.UNREADABLE.value
    encoding = stream.encoding or "utf-8"  # the terminal may be unable to print λ
    text = verdict.message.encode(encoding, "backslashreplace").decode(encoding)
    try:
        print(text, file=stream, flush=True)
    except OSError:  # a verdict that nobody can read is none
        with suppress(OSError):  # the interpreter would try again, and end with 120
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return Outcome.UNREADABLE.value
    return verdict.outcome.value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
