"""One call of the HiGHS that scipy bundles; run as a program, FOLDER/program.npz ↦ outcome.npz.

    python -I solvers/highs_call.py FOLDER

As a program it imports only numpy and scipy.
"""

import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

VERSION = f"HiGHS, scipy {scipy.__version__}"
PROGRAM, OUTCOME = "program.npz", "outcome.npz"


class Outcome(NamedTuple):
    """scipy's answer: its status code and message, v or None, c·v or None."""

    status: int
    message: str
    x: Any
    fun: float | None


def call(arrays: dict[str, Any], *, time_limit: float, presolve: bool) -> Outcome:
    """scipy's answer to min c·x, low ≤ A x ≤ high, x ∈ {0,1}ⁿ with the relative gap 0.

    Args:
        arrays: `objective`, `low`, `high`; A as `data`, `indices`, `indptr` of a CSR matrix.
        time_limit: seconds.
        presolve: whether HiGHS simplifies the program first.
    """
    c, low, high = (arrays[name] for name in ("objective", "low", "high"))
    stored = tuple(arrays[name] for name in ("data", "indices", "indptr"))
    matrix: Any = sparse.csr_array(stored, shape=(low.size, c.size))
    found = milp(
        c,
        integrality=np.ones(c.size, dtype=np.int64),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(matrix, low, high)] if low.size else [],
        options={"mip_rel_gap": 0.0, "time_limit": time_limit, "presolve": presolve},
    )
    return Outcome(int(found.status), str(found.message), found.x, found.fun)


def save(outcome: Outcome, file: Path) -> None:
    """Write an answer; missing floats have no entry."""
    given = {name: value for name, value in outcome._asdict().items() if value is not None}
    np.savez(file, **given)


def load(file: Path) -> Outcome:
    """Read an answer.

    Raises:
        OSError, ValueError, KeyError: there is none, or it is damaged.
    """
    with np.load(file, allow_pickle=False) as stored:
        given = dict(stored)
    fun = float(given["fun"]) if "fun" in given else None
    return Outcome(int(given["status"]), str(given["message"]), given.get("x"), fun)


def main(folder: Path) -> None:
    """Solve the program in the folder."""
    with np.load(folder / PROGRAM, allow_pickle=False) as stored:
        arrays = dict(stored)
    seconds, presolve = float(arrays.pop("time_limit")), bool(arrays.pop("presolve"))
    save(call(arrays, time_limit=seconds, presolve=presolve), folder / OUTCOME)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
