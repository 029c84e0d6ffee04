"""The integer program of a budget's certificate, and the multipliers of its Lagrangian bound.

    max −Σ e_tj x_tj   s.t.   Σ_j x_tj = 1 in each layer t,   Σ c_tj x_tj ≤ C,   x ∈ {0,1}ⁿ

in the units of the certificate. With μ = p/q and m_t = min_j (q e_tj + p c_tj) the row of layer t
is multiplied by −m_t, the budget by p, and the bound x_tj ≥ 0 by −(q e_tj + p c_tj − m_t), all over
q: the left side is the objective, the right side −D(μ). The search that proves a smaller gap, or an
optimum, is no linear combination of rows, and not in the program.
"""

from collections.abc import Mapping
from fractions import Fraction
from itertools import accumulate, chain
from typing import Any

from verification.certificates.program import Program, Row


def budget_program(claim: Mapping[str, Any], multiplier: Fraction) -> Program:
    """The program of a claim that the checker proved; its only solution is the choice.

    Args:
        claim: as the checker reads it.
        multiplier: μ ≥ 0.
    """
    p, q = multiplier.numerator, multiplier.denominator
    layers, choice = claim["layers"], claim["choice"]
    priced = [
        [q * e + p * c for e, c in zip(layer["errors"], layer["costs"], strict=True)]
        for layer in layers
    ]
    least = [*map(min, priced)]
    starts = [*accumulate(map(len, priced), initial=0)]
    costs = [*chain(*(layer["costs"] for layer in layers))]
    rows = [
        Row(f"layer{t}", "E", 1, -least[t], range(starts[t], starts[t + 1]))
        for t in range(len(layers))
    ]
    rows.append(Row("budget", "L", claim["budget"], p, range(len(costs)), costs))
    chosen = bytearray(len(costs))
    for start, j in zip(starts, choice, strict=False):
        chosen[start + j] = 1
    return Program(
        exponent=0,
        objective=[-e for layer in layers for e in layer["errors"]],
        least=bytes(len(costs)),
        most=b"\1" * len(costs),
        rows=rows,
        excess=[least_ - each for own, least_ in zip(priced, least, strict=True) for each in own],
        unit=q,
        solutions={"choice": bytes(chosen)},
        lower=-claim["error"],
        upper=Fraction(p * claim["budget"] - sum(least), q),
    )
