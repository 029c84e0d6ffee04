"""Criteria on the dense model: loss change of one decision, regret, and the answers of solvers."""

from dataclasses import asdict
from typing import Any

import torch

from pins.importance.criteria import CRITERIA
from pins.models.parameters import prunable_parameters
from pins.runs import weight_sample
from pins.runs.folder import SAMPLE
from pins.selection.constraints import keep_count
from pins.selection.select import select
from verification.certificates.regret import regret
from verification.demo.run import DemoRun
from verification.experiments import solver_tolerance
from verification.experiments.loss_change import Experiment, loss_changes, two_samples
from verification.experiments.model_snapshot import ModelSnapshot
from verification.experiments.multiplier_path import multiplier_path


def compare(run: DemoRun) -> tuple[ModelSnapshot, dict[str, Any]]:
    """Compare all criteria on the dense model, and write the sample of its weights.

    Returns:
        The weights and gradients, and the report's `compared`, `loss_changes`, `multiplier_path`,
        `solver_answers` and `regrets`.
    """
    settings = run.settings
    generator = torch.Generator().manual_seed(settings.seed)
    gradient, trial_rows = two_samples(run.train, settings.compared_rows, generator)
    experiment = Experiment(
        model=run.classifier.model,
        parameters=prunable_parameters(run.classifier.model).parameters,
        rows=gradient,
        trial_rows=trial_rows,
        unseen=run.test.sample(settings.compared_rows, generator),
    )
    description = f"{settings.model}, fine-tuned on {settings.task}"
    fractions, shares, rows = settings.fractions, settings.shares, settings.fisher_rows
    with run.phase("gradient and curvature"):
        observed = experiment.observe(description, fisher_rows=rows, seed=settings.seed)
        start = experiment.losses()
    measured = loss_changes(experiment, observed, list(CRITERIA), fractions, start)
    changes = run.collect("compare criteria", 1 + len(CRITERIA) * len(fractions), measured)
    points = multiplier_path(experiment, observed, start, shares)
    path = run.collect("path from obd to pins", len(shares) + 2, points)
    sample = weight_sample.take(
        observed.before,
        observed.gradient,
        observed.curvature,
        learning_rate=observed.learning_rate,
        sparsity=settings.sparsity,
        description=description,
    )
    weight_sample.save(sample, run.folder / SAMPLE)
    return observed, {
        "compared": {
            "rows": len(experiment.rows),
            "loss": start.rows,
            "loss_unseen": start.unseen,
            "learning_rate": observed.learning_rate,
        },
        "loss_changes": [asdict(change) for change in changes],
        "multiplier_path": [asdict(point) for point in path],
        "solver_answers": [
            solver_tolerance.solver_answers(sample, name) for name in solver_tolerance.CRITERIA
        ],
        "regrets": _regrets(run, observed),
    }


def _regrets(run: DemoRun, observed: ModelSnapshot) -> list[dict[str, Any]]:
    """The regret under the scores of PINS of each criterion that has scores before a decision."""
    scored = [name for name, criterion in CRITERIA.items() if not criterion.adaptive]
    scores = observed.importance("pins")
    keep = keep_count(run.settings.sparsity, sum(each.numel() for each in scores.values()))

    def row(name: str) -> dict[str, Any]:
        found = regret(scores, select(observed.importance(name), keep))
        return {
            "criterion": name,
            "regret": float(found.exact),
            "relative_regret": found.relative,
            "kept_jaccard": found.overlap.kept_jaccard,
            "exchanged": found.overlap.first_only,
            "keep": keep,
        }

    return run.collect("regret of each criterion", len(scored), map(row, scored))
