"""The answers of solvers on scores of real size: right when scaled, wrong when unscaled."""

import torch

from pins.runs.weight_sample import take
from verification.experiments.solver_tolerance import SOLVERS, solver_answers


def answers(scale: float) -> dict[tuple[str, bool], dict[str, object]]:
    """Scores −g·θ with θ = 1: Student's t, as real ones."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(4, 500, generator=generator)
    gradient = normal[0] / normal[1:].square().mean(0).sqrt() * scale
    sample = take(
        {"w": torch.ones(500)},
        {"w": gradient},
        None,
        learning_rate=0.0,
        sparsity=0.8,
        description="",
    )
    found = solver_answers(sample, "movement")
    assert found["scores"] == sorted((-gradient.double()).tolist(), reverse=True)
    assert found["keep"] == 100
    return {(row["solver"], row["scaled"]): row for row in found["answers"]}


def test_solvers_keep_the_first_ranks_of_scaled_scores_and_others_of_unscaled() -> None:
    found = answers(1e-14)
    assert set(found) == {(name, scaled) for name in SOLVERS for scaled in (True, False)}
    for (_, scaled), row in found.items():
        assert row["status"] == "OPTIMAL"
        kept = row["kept"]
        assert isinstance(kept, list)
        assert len(kept) == 100
        assert (kept == list(range(100))) == scaled
        assert row["verdict"] == ("AGREES" if scaled else "SOLVER_INEXACT")


def test_scores_near_one_need_no_scaling() -> None:
    for row in answers(1.0).values():
        assert row["kept"] == list(range(100))
