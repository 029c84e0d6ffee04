"""Gradual pruning from pre-trained weights to the score on the test rows: one run of many."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pins.runs.run import Run
from pins.runs.settings import Settings

EVALUATIONS = 10  # in a run with self-regularisation, which chooses its teachers by them
# of each decision, in this order: what was predicted of the loss of its rows, and what was measured
MEASURED = ("step", "sparsity", "predicted", "measured", "multiplier", "promised", "kept")


@dataclass(frozen=True)
class Method:
    """What ranks the weights; dense training is that which prunes none."""

    criterion: str
    smoothing: str = "none"


DENSE = "dense"
METHODS: Mapping[str, Method] = {
    DENSE: Method("magnitude"),
    "magnitude": Method("magnitude"),
    "sensitivity": Method("sensitivity"),
    "platon": Method("sensitivity", "uncertainty"),
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
    sparsity: float  # 0 where nothing is pruned
    self_regularization: bool = False


@dataclass(frozen=True)
class Budget:
    """What every run has: steps of so many rows, of so many tokens, judged on so many test rows."""

    steps: int = 240
    batch_size: int = 16
    learning_rate: float = 2e-4
    max_length: int = 64
    test_rows: int = 500

    @property
    def train_rows(self) -> int:
        """As many as the steps read."""
        return self.steps * self.batch_size


def cells(
    tasks: Sequence[str],
    seeds: int,
    sparsities: Sequence[float],
    methods: Sequence[str],
    *,
    regularized: bool = True,
) -> Iterator[Cell]:
    """All runs: seed by seed, task by task, sparsity by sparsity, all methods at each.

    With `regularized` each method is run with self-regularisation, too.
    """
    for seed in range(seeds):
        for task in tasks:
            if DENSE in methods:
                yield Cell(task, seed, DENSE, 0.0)
            for sparsity in sparsities:
                for method in methods:
                    if method != DENSE:
                        yield Cell(task, seed, method, sparsity)
                        if regularized:
                            yield Cell(task, seed, method, sparsity, self_regularization=True)


def measure(cell: Cell, budget: Budget, model: str, data: Path | None) -> dict[str, Any]:
    """Train and prune from the pre-trained weights; the scores on the test rows.

    Nothing is exported. The test rows choose nothing: the model of the last step is judged.
    """
    method = METHODS[cell.method]
    evaluations = EVALUATIONS if cell.self_regularization else 1
    settings = Settings(
        model=model,
        task=cell.task,
        data=data,
        sparsity=cell.sparsity,
        criterion=method.criterion,
        smoothing=method.smoothing,
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
    """Six digits, which are more than a measurement has: results files are small."""
    return None if value is None else float(f"{value:.6g}")
