"""The table of solvers under test, and the programs they are tested on."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from scipy import sparse

from solvers.cbc import Cbc
from solvers.closed_form import ClosedForm
from solvers.enumeration import Enumeration
from solvers.exact import FloatArray
from solvers.highs import Highs
from solvers.program import BinaryProgram, Sense
from solvers.solver import Solver

SOLVERS: list[Solver] = [ClosedForm(), Enumeration(), Cbc(), Highs()]
GENERAL_SOLVERS: list[Solver] = [Enumeration(), Cbc(), Highs()]
BACKENDS: list[Solver] = [Cbc(), Highs()]
UNSCALED: list[Solver] = [Cbc(scale=False), Highs(scale=False)]


def program(
    objective: list[float], rows: list[list[float]], senses: str, rhs: list[float]
) -> BinaryProgram:
    """A program from plain lists; senses as a string of < and =."""
    matrix = np.array(rows, dtype=np.float64).reshape(len(rows), len(objective))
    kinds = {"<": Sense.LESS_OR_EQUAL, "=": Sense.EQUAL}
    return BinaryProgram(
        np.array(objective, dtype=np.float64),
        sparse.csr_array(matrix),
        tuple(kinds[sense] for sense in senses),
        np.array(rhs, dtype=np.float64),
    )


def cardinality(scores: FloatArray, keep: int) -> BinaryProgram:
    """max s·x, 1·x = k."""
    ones = sparse.csr_array(np.ones((1, scores.size)))
    return BinaryProgram(-scores.astype(np.float64), ones, (Sense.EQUAL,), np.array([float(keep)]))


def finite(*, width: int = 64) -> st.SearchStrategy[float]:
    """Any finite float, subnormals and both zeros included; shrinks to 0."""
    return st.floats(allow_nan=False, allow_infinity=False, width=64 if width == 64 else 32)


@st.composite
def cardinality_programs(draw: st.DrawFn, *, max_size: int = 12) -> tuple[FloatArray, int]:
    """(scores, keep): any finite scores, with ties; shrinks to one zero, none kept."""
    few = st.sampled_from([-1.0, 0.0, 0.5, 1.0, 1e-7, -1e-7])
    scores = draw(st.lists(st.one_of(few, finite()), min_size=1, max_size=max_size))
    return np.array(scores), draw(st.integers(0, len(scores)))


def market_split(*, rows: int, size: int) -> BinaryProgram:
    """Split each of `rows` lists of numbers into halves at once: tiny, and hard for branch and cut.

    Source: Cornuéjols and Dawande, "A class of hard small 0-1 programs", IPCO 1998.
    """
    rng = np.random.default_rng(0)
    weights = rng.integers(0, 100, (rows, size)).astype(np.float64)
    half = np.floor(weights.sum(axis=1) / 2)
    return program([0.0] * size, weights.tolist(), "=" * rows, half.tolist())


def knapsacks(*, rows: int, size: int) -> BinaryProgram:
    """A knapsack with several limits: points are easy to find, the proof is not."""
    rng = np.random.default_rng(0)
    weights = rng.integers(1, 1000, (rows, size)).astype(np.float64)
    worth = weights.mean(axis=0) + rng.integers(0, 500, size)
    limits = np.floor(weights.sum(axis=1) / 2)
    return program((-worth).tolist(), weights.tolist(), "<" * rows, limits.tolist())


def score_kinds(size: int, *, seed: int = 0) -> dict[str, FloatArray]:
    """The kinds of scores on which the backends' gaps are stated; float32 values as float64."""
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal(size)
    ulp = np.spacing(np.float32(1))
    kinds = {
        "gaussian": normal,
        "heavy tails": normal * rng.standard_normal(size) ** 3 * 1e-8,
        "20 orders of magnitude": np.sign(normal) * 10.0 ** rng.uniform(-20, 0, size),
        "ties": rng.integers(-3, 4, size),
        "near-ties of one float32 digit": 1 + ulp * rng.integers(0, 2, size),
    }
    return {
        name: np.asarray(scores, dtype=np.float32).astype(np.float64)
        for name, scores in kinds.items()
    }
