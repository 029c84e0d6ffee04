"""CBC as PuLP's users ask it: `status` alone says "Optimal" of an incumbent at a time limit.

PuLP 3.3 sets `status` to 1, "Optimal", for every integer point that CBC has when it stops; only
`sol_status` tells a proved optimum (1) from a point (2). `solvers.cbc` reads CBC's own words
instead; this module is what it is compared with.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pulp

from pins.utils.child_process import scratch_folder
from solvers.exact import BoolArray
from solvers.program import BinaryProgram, Sense


class PulpAnswer(NamedTuple):
    """What PuLP says.

    Attributes:
        status: the word for `status`: "Optimal", "Not Solved", …
        proved: whether `sol_status` says that the optimum is proved.
        x: the rounded values; None if there are none.
    """

    status: str
    proved: bool
    x: BoolArray | None


def ask_pulp(program: BinaryProgram, *, time_limit: float) -> PulpAnswer:
    """The answer to min c·x, A x (≤, =) b, x ∈ {0,1}ⁿ within seconds; the numbers are not scaled.

    Raises:
        OSError: CBC cannot be started, or writes nothing.
    """
    problem = pulp.LpProblem("program", pulp.LpMinimize)
    x = [problem.add_variable(f"x{i}", cat="Binary") for i in range(program.size)]
    problem += pulp.lpDot(program.objective.tolist(), x)
    for j, sense in enumerate(program.senses):
        columns, values = program.row(j)
        left = pulp.lpDot(values.tolist(), [x[i] for i in columns])
        right = float(program.rhs[j])
        problem += left == right if sense is Sense.EQUAL else left <= right
    with scratch_folder("pulp-") as folder:
        path = pulp.PULP_CBC_CMD.pulp_cbc_path
        cbc = pulp.COIN_CMD(path=path, msg=False, timeLimit=time_limit)
        cbc.tmpDir = str(folder)
        try:
            problem.solve(cbc)
        except pulp.PulpSolverError as error:
            raise OSError(f"PuLP: {error}") from error
    found = [variable.value() for variable in x]
    point = None if None in found else np.array(found, dtype=np.float64) > 0.5
    proved = problem.sol_status == pulp.LpSolutionOptimal
    return PulpAnswer(pulp.LpStatus[problem.status], proved, point)
