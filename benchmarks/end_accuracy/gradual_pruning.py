"""One run: gradual pruning from pre-trained weights, then the score on the test rows."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pins.runs.run import Run
from pins.runs.settings import Settings

EVALUATIONS = 10  # of a run with self-regularisation, to choose the teacher
# fields of each decision, in this order: loss changes on its rows, predicted and measured
MEASURED = ("step", "sparsity", "predicted", "measured", "multiplier", "promised", "kept")


@dataclass(frozen=True)
class Method:
    """Criterion and smoothing; dense training prunes nothing with any of them."""

    criterion: str
    smoothing: str = "none"
    window: bool = False


DENSE = "dense"
METHODS: Mapping[str, Method] = {
    DENSE: Method("magnitude"),
    "magnitude": Method("magnitude"),
    "sensitivity": Method("sensitivity"),
    # its ΔT = 10, β₁ = 0.85, β₂ = 0.95 are the defaults here; each window ends at a decision
    "platon": Method("sensitivity", "uncertainty", window=True),
    "abs-pins": Method("abs-pins", "uncertainty"),
    "pins": Method("pins", "uncertainty"),
    "obd": Method("obd"),
    "trust-region": Method("trust-region"),
}


@dataclass(frozen=True)
class Cell:
    """One run."""

    task: str
    seed: int
    method: str
    sparsity: float  # 0 if nothing is pruned
    self_regularization: bool = False


@dataclass(frozen=True)
class Budget:
    """The same for all runs: steps, rows and tokens of training, and number of test rows."""

    steps: int = 240
    batch_size: int = 16
    learning_rate: float = 2e-4
    max_length: int = 64
    test_rows: int = 500

    @property
    def train_rows(self) -> int:
        """Number of rows that the steps read."""
        return self.steps * self.batch_size


def cells(
    tasks: Sequence[str],
    seeds: int,
    sparsities: Sequence[float],
    methods: Sequence[str],
    *,
    regularized: bool = True,
) -> Iterator[Cell]:
    """All runs, ordered by seed, task, sparsity and method.

    With `regularized`, each method is also run with self-regularisation.
    """
    for seed, task in itertools.product(range(seeds), tasks):
        if DENSE in methods:
            yield Cell(task, seed, DENSE, 0.0)
        for sparsity, method in itertools.product(sparsities, methods):
            if method != DENSE:
                yield Cell(task, seed, method, sparsity)
                if regularized:
                    yield Cell(task, seed, method, sparsity, self_regularization=True)


def measure(cell: Cell, budget: Budget, model: str, data: Path | None) -> dict[str, Any]:
    """Train and prune from the pre-trained weights; return the scores on the test rows.

    No choice depends on the test rows: the model after the last step is tested. Exports nothing.
    """
    evaluations = EVALUATIONS if cell.self_regularization else 1
    settings = Settings(
        model=model,
        task=cell.task,
        data=data,
        sparsity=cell.sparsity,
        **asdict(METHODS[cell.method]),
        self_regularization=cell.self_regularization,
        **asdict(budget),
        train_rows=budget.train_rows,
        evaluate_every=max(budget.steps // evaluations, 1),
        checkpoint_every=budget.steps,
        seed=cell.seed,
    )
    with TemporaryDirectory() as folder:
        run = Run(settings, Path(folder))
        for _ in run.steps():
            pass
        scores = run.test()
        return {
            "window": settings.window,
            "metric": run.task.metric,
            "score": scores[run.task.metric],
            "scores": dict(scores),
            "test_rows": len(run.test_rows),
            "reached": run.training.pruner.sparsity,
            "device": str(run.device.device.type),
            "precision": run.device.precision,
            "decisions": [
                [_short(decision.get(name)) for name in MEASURED]
                for decision in run.history.decisions
                if cell.sparsity
            ],
        }


def _short(value: float | None) -> float | None:
    """Round to six digits, more than a measurement has, to keep results files small."""
    return None if value is None else float(f"{value:.6g}")
