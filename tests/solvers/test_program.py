from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from scipy import sparse

from pins.errors import ProgramError
from solvers.program import BinaryProgram, Sense
from tests.solvers.solver_cases import cardinality, program
from verification.strategies import programs

ARGUMENTS: dict[str, Any] = {
    "objective": np.array([1.0, 2.0]),
    "matrix": sparse.csr_array(np.ones((1, 2))),
    "senses": (Sense.EQUAL,),
    "rhs": np.array([1.0]),
}
TWICE = sparse.csr_array((np.ones(2), np.array([0, 0]), np.array([0, 2])), shape=(1, 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rhs": np.ones(2)}, r"rhs has shape \(2,\).*pass shape \(1,\)"),
        ({"objective": np.ones(3)}, r"matrix has shape \(1, 2\).*pass shape \(1, 3\)"),
        ({"objective": np.ones((2, 1))}, r"objective has shape \(2, 1\)"),
        ({"senses": ()}, r"matrix has shape \(1, 2\).*pass shape \(0, 2\)"),
        ({"senses": ("=",)}, "sense '=' came"),
        ({"objective": np.ones(2, np.float32)}, "objective has dtype float32"),
        ({"matrix": np.ones((1, 2))}, r"matrix is a ndarray; pass scipy.sparse.csr_array"),
        ({"objective": np.array([1.0, np.nan])}, "objective holds nan at stored entry 1"),
        ({"rhs": np.array([np.inf])}, "rhs holds inf at stored entry 0"),
        ({"matrix": sparse.csr_array(np.array([[1, -np.inf]]))}, "matrix holds -inf"),
        ({"matrix": TWICE}, "stores an entry twice"),
        (
            {"objective": np.zeros(0), "matrix": sparse.csr_array((1, 0), dtype=np.float64)},
            "objective is empty",
        ),
    ],
)
def test_a_malformed_program_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        BinaryProgram(**(ARGUMENTS | change))


def test_the_arrays_are_copies_and_read_only() -> None:
    objective = np.array([1.0, 2.0])
    held = BinaryProgram(**(ARGUMENTS | {"objective": objective}))
    objective[0] = 7
    assert held.objective[0] == 1
    for array in (held.objective, held.rhs, held.matrix.data):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 7


@given(programs())
def test_feasible_is_what_the_rows_say(instance: BinaryProgram) -> None:
    rows = instance.matrix.toarray()
    for bits in product([False, True], repeat=instance.size):
        x = np.array(bits)
        left = rows @ x
        holds = [
            a == b if sense is Sense.EQUAL else a <= b
            for a, sense, b in zip(left, instance.senses, instance.rhs, strict=True)
        ]
        assert instance.feasible(x) == all(holds)


def test_feasible_has_no_tolerance() -> None:
    # 0.1 + 0.2 rounds to 0.30000000000000004; the exact sum is neither that nor 0.3.
    x = np.ones(2, dtype=np.bool_)
    assert not program([0, 0], [[0.1, 0.2]], "=", [0.1 + 0.2]).feasible(x)
    assert program([0, 0], [[0.1, 0.2]], "<", [0.1 + 0.2]).feasible(x)
    assert Fraction(0.1) + Fraction(0.2) < Fraction(0.1 + 0.2)
    # A tolerance would accept this one.
    assert not program([0, 0], [[1.0, 1e-30]], "<", [1.0]).feasible(x)


def test_feasible_refuses_other_shapes_and_dtypes() -> None:
    with pytest.raises(ProgramError, match=r"x of shape \(3,\)"):
        program([0, 0], [], "", []).feasible(np.ones(3, dtype=np.bool_))
    floats: Any = np.ones(2)
    with pytest.raises(ProgramError, match="dtype float64 came"):
        program([0, 0], [], "", []).feasible(floats)


def test_a_cardinality_program_is_recognised() -> None:
    assert cardinality(np.ones(3), 2).is_cardinality


@pytest.mark.parametrize(
    "other",
    [
        program([1, 2], [[1, 1]], "<", [1]),
        program([1, 2], [[1, 2]], "=", [1]),
        program([1, 2], [[1, 0]], "=", [1]),
        program([1, 2], [[1, 1], [1, 1]], "==", [1, 1]),
        program([1, 2], [], "", []),
    ],
)
def test_other_programs_are_not_cardinality_programs(other: BinaryProgram) -> None:
    assert not other.is_cardinality
