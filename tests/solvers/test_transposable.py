import numpy as np
import torch

from pins.selection.transposable.select import transposable
from solvers import Relaxation, Status, TransposableFormulation, objective


def test_a_row_for_each_row_and_each_column_of_each_block() -> None:
    program = TransposableFormulation(torch.arange(8.0).view(2, 4), 1, 2).program
    members = [[0, 1], [2, 3], [4, 5], [6, 7], [0, 4], [1, 5], [2, 6], [3, 7]]
    assert [program.row(j)[0].tolist() for j in range(8)] == members
    assert program.rhs.tolist() == [1.0] * 8
    assert program.objective.tolist() == [-each for each in range(8)]


def test_masks_are_points_and_come_back() -> None:
    formulation = TransposableFormulation(
        torch.rand(8, 16, generator=torch.Generator().manual_seed(0)), 3, 4
    )
    mask = transposable(formulation.importance, 3, 4).mask
    point = formulation.apply(mask)
    assert formulation.program.feasible(point)
    back = formulation.invert(point)
    assert isinstance(back, torch.Tensor)
    assert torch.equal(back, mask)
    point[0] = not point[0]
    assert not formulation.program.feasible(point)


def test_the_relaxation_has_an_integral_optimum_with_potentials_as_multipliers() -> None:
    scores = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    formulation = TransposableFormulation(scores, 4, 8)
    found = Relaxation().solve(formulation.program)
    assert found.status is Status.OPTIMAL
    assert found.x is not None
    assert found.multipliers is not None
    x = found.x > 0.5
    assert np.abs(found.x - x).max() < 1e-9
    mask = transposable(scores, 4, 8).mask
    best = objective(formulation.program.objective, formulation.apply(mask))
    assert objective(formulation.program.objective, x) == best
    reduced = scores.double().numpy() - found.multipliers[:8, None] - found.multipliers[8:]
    bound = 4 * found.multipliers.sum() + np.maximum(reduced, 0).sum()
    assert abs(bound + float(best)) < 1e-6
