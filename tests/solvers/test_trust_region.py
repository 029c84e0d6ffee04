from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pins.errors import ImportanceError, MaskError, ProgramError
from pins.importance.trust_region.program import Terms
from pins.selection.constraints import Cardinality, Constraint, LayerBounds, PerTensor
from pins.selection.tree import Node
from solvers.enumeration import optimal_set
from solvers.result import Status
from solvers.solver import Solver
from solvers.trust_region import TrustRegionFormulation
from tests.solvers.solver_cases import GENERAL_SOLVERS, UNSCALED
from tests.tree_oracle import enumerate_tree, judge
from verification.strategies import trees

Masks = dict[str, torch.Tensor]


def worked() -> dict[str, Terms]:
    return {
        "b": Terms(torch.tensor([[3.0, 1.0]]), torch.tensor([[0.5, 0.25]])),
        "a": Terms(torch.zeros(0), torch.zeros(0)),
        "c": Terms(torch.tensor(-2.0), torch.tensor(4.0)),
    }


def inverted(formulation: TrustRegionFormulation, x: Any) -> Masks:
    masks = formulation.invert(x)
    assert isinstance(masks, dict)
    return masks


def test_each_condition_is_a_row_and_no_number_is_computed() -> None:
    def rows(constraint: Constraint) -> list[tuple[list[float], str, float]]:
        program = TrustRegionFormulation(worked(), constraint, 0.1).program
        assert program.objective.tolist() == [3, 1, -2]
        senses = [sense.value for sense in program.senses]
        matrix = program.matrix.toarray().tolist()
        return list(zip(matrix, senses, program.rhs.tolist(), strict=True))

    budget = ([0.5, 0.25, 4.0], "<=", 0.1)
    assert rows(Cardinality(1)) == [([1, 1, 1], "=", 2), budget]
    assert rows(Cardinality(2) & LayerBounds(minimum={"b": 1})) == [
        ([1, 1, 1], "=", 1),
        ([1, 1, 0], "<=", 1),
        budget,
    ]
    assert rows(PerTensor({"a": 0, "b": 2, "c": 0})) == [
        ([1, 1, 0], "=", 0),
        ([0, 0, 1], "=", 1),
        budget,
    ]


@given(trees(max_total=8, allowed=True), st.data())
def test_the_feasible_points_are_the_masks_allowed_within_the_radius(
    instance: tuple[Masks, Node], data: st.DataObject
) -> None:
    importance, root = instance
    sizes = st.sampled_from([0.0, 0.1, 0.2, 1.0, 1e-40])
    terms = {
        name: Terms(s, torch.tensor([data.draw(sizes) for _ in range(s.numel())]).reshape(s.shape))
        for name, s in importance.items()
    }
    radius = data.draw(st.sampled_from([0.0, 0.1, 0.3, 0.30000000000000004, 2.0]))
    formulation = TrustRegionFormulation(terms, root, radius)
    n = formulation.program.size
    x = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    masks = inverted(formulation, x)
    assert np.array_equal(formulation.apply(masks), x)
    pruned = [terms[name].cost[~mask].double().tolist() for name, mask in masks.items()]
    cost = sum((Fraction(c) for each in pruned for c in each), Fraction(0))
    allowed = judge(enumerate_tree(importance, root), masks).allowed
    assert formulation.program.feasible(x) == (allowed and cost <= Fraction(radius))


def at_scale(unit: float) -> TrustRegionFormulation:
    """14 weights whose costs are below `unit`, and a radius that excludes the best mask of all."""
    generator = torch.Generator().manual_seed(0)
    importance = torch.randn(14, generator=generator)
    terms = {"w": Terms(importance, unit * torch.rand(14, generator=generator))}
    return TrustRegionFormulation(terms, Cardinality(7), 2.8 * unit)


@pytest.mark.parametrize("solver", GENERAL_SOLVERS, ids=lambda solver: solver.name)
@pytest.mark.parametrize("unit", [1.0, 2.0**-30, 2.0**-60])
def test_a_solver_sees_a_budget_of_any_scale(solver: Solver, unit: float) -> None:
    formulation = at_scale(unit)
    (best,) = optimal_set(formulation.program)
    solution = solver.solve(formulation.program).solution
    assert solution is not None
    assert np.array_equal(solution.x, best)


@pytest.mark.parametrize("solver", UNSCALED, ids=lambda solver: solver.name)
def test_an_unscaled_solver_does_not(solver: Solver) -> None:
    # the negative control: it takes a mask that costs too much for the optimum
    formulation = at_scale(2.0**-60)
    result = solver.solve(formulation.program)
    assert result.status is Status.OPTIMAL
    assert result.solution is not None
    assert not formulation.program.feasible(result.solution.x)


def test_what_does_not_fit_is_refused() -> None:
    for radius in (float("nan"), float("inf")):
        with pytest.raises(ProgramError, match=f"radius={radius} came; pass a finite radius"):
            TrustRegionFormulation(worked(), Cardinality(1), radius)
    formulation = TrustRegionFormulation(worked(), Cardinality(1), 1.0)
    with pytest.raises(MaskError, match="pass masks for"):
        formulation.apply({"b": torch.ones(1, 2).bool()})
    with pytest.raises(ProgramError, match=r"x of shape \(4,\)"):
        formulation.invert(np.ones(4, dtype=np.bool_))


@pytest.mark.parametrize(
    ("cost", "message"),
    [
        (torch.tensor([0.0, -1.0]), "cost w is -1.0 at flat index 1; pass finite costs ≥ 0 only"),
        (torch.tensor([0.0, float("nan")]), "cost w is nan at flat index 1"),
        (torch.tensor([float("inf"), 0.0]), "cost w is inf at flat index 0"),
        (torch.tensor([1, 2]), r"cost w has dtype torch\.int64; pass floating-point costs"),
        (torch.ones(1, 2), r"cost w has shape \(1, 2\); pass one of shape \(2,\)"),
    ],
)
def test_costs_that_are_none_are_refused(cost: torch.Tensor, message: str) -> None:
    with pytest.raises(ImportanceError, match=message):
        TrustRegionFormulation({"w": Terms(torch.ones(2), cost)}, Cardinality(1), 1.0)
