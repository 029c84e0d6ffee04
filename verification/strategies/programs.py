"""Strategies of 0-1 programs."""

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import strategies as st

if TYPE_CHECKING:
    from solvers.program import BinaryProgram


@st.composite
def programs(
    draw: st.DrawFn, *, max_size: int = 7, max_rows: int = 3, max_value: int = 9
) -> "BinaryProgram":
    """Small 0-1 programs in integers of [−max_value, max_value], feasible or not.

    Floating-point solvers are exact for them. Shrinks to one variable of cost 0, without rows.
    """
    # imported here, so that the laws do not need the solvers and PuLP
    from scipy import sparse

    from solvers.program import BinaryProgram, Sense

    size = draw(st.integers(1, max_size))
    rows = draw(st.integers(0, max_rows))
    numbers = st.integers(-max_value, max_value).map(float)
    row = st.lists(numbers, min_size=size, max_size=size)
    entries = draw(st.lists(row, min_size=rows, max_size=rows))
    return BinaryProgram(
        objective=np.array(draw(row), dtype=np.float64),
        matrix=sparse.csr_array(np.array(entries, dtype=np.float64).reshape(rows, size)),
        senses=tuple(draw(st.lists(st.sampled_from(Sense), min_size=rows, max_size=rows))),
        rhs=np.array(draw(st.lists(numbers, min_size=rows, max_size=rows)), dtype=np.float64),
    )
