"""The main job on real input: fine-tune, prune, certify every decision, compare, report.

    load → fine-tune dense → what one decision does to the loss → prune gradually, each decision
    certified → check the last one with nothing but the standard library → ledger → report

Every number of the report is in the returned results, and comes from this run.
"""

import itertools
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from pins import masks as masks_module
from pins.errors import TaskError
from pins.importance.criteria import CRITERIA
from pins.importance.trust_region.program import RegionDecision, RegionProgram, Terms
from pins.models.batches import Batch, Encoded
from pins.models.parameters import prunable_parameters
from pins.models.pretrained import DEMO_MODEL, WEIGHTS, Pretrained, load_model
from pins.pruning.pruner import Pruner
from pins.pruning.schedules import CubicSchedule
from pins.runs import weight_sample
from pins.runs.folder import SAMPLE
from pins.runs.history import decision_row
from pins.selection.constraints import keep_count
from pins.selection.select import Decision, select
from pins.tasks import Task, TextClassification
from pins.utils.io import sha256, write_json
from pins.utils.progress import Advance, Progress
from pins.utils.provenance import provenance
from verification import checker
from verification.certificates.certificate import certify, save_scores
from verification.certificates.regret import regret
from verification.certificates.trust_region import certify_region
from verification.claims import ALL_CLAIMS, Setting, ledger
from verification.demo import report
from verification.empirical.ledger import rule_changes
from verification.experiments.loss_change import Experiment, loss_changes, two_samples
from verification.experiments.model_snapshot import (
    MAX_LENGTH,
    RealModel,
    layer_type,
    remembered_task,
)
from verification.experiments.multiplier_path import SHARES, multiplier_path
from verification.experiments.score_curve import score_curve
from verification.experiments.solver_tolerance import CRITERIA as CRITERIA_ASKED
from verification.experiments.solver_tolerance import solver_answers
from verification.experiments.training import Evaluation, evaluate, training_steps


@dataclass(frozen=True)
class DemoSettings:
    """What to run; the defaults take two to three minutes on two cores, `full` eight to ten."""

    model: str = DEMO_MODEL
    task: str = "stdlib-docs"
    criterion: str = "obd"
    sparsity: float = 0.8
    max_length: int = 32
    dense_steps: int = 220
    sparse_steps: int = 150
    interval: int = 10
    cooldown: int = 40
    batch_size: int = 16
    learning_rate: float = 3e-4  # the highest; 4e-4 needs the steps of a full run
    compared_rows: int = 32  # on which the loss change of a single decision is looked at
    fisher_rows: int = 24  # of these, of which the curvature is a mean
    fractions: tuple[float, ...] = (0.0001, 0.001, 0.01, 0.5)
    shares: tuple[float, ...] = SHARES[1::2]
    seed: int = 0
    keep_scores: bool = False

    @classmethod
    def full(cls, **given: Any) -> "DemoSettings":
        """Nothing shortened, but for what is given."""
        return cls(**{name: value for name, (_, value) in SHORTENED.items()} | given)

    def shortened(self) -> list[dict[str, Any]]:
        """What is less than in a full run: `what`, its `short` value and its `full` one."""
        return [
            {"what": what, "short": short, "full": _shown(full)}
            for name, (what, full) in SHORTENED.items()
            if (short := _shown(getattr(self, name))) < _shown(full)
        ]


SHORTENED: Mapping[str, tuple[str, Any]] = {
    "max_length": ("tokens of a row, at most", MAX_LENGTH),
    "dense_steps": ("steps of fine-tuning", 300),
    "sparse_steps": ("steps of pruning after it", 240),
    "cooldown": ("of these, at the final sparsity", 60),
    "learning_rate": ("highest learning rate", 4e-4),
    "compared_rows": ("rows on which criteria are compared", 128),
    "fisher_rows": ("of these, rows of the curvature", 64),
    "fractions": ("fractions at which they are compared", (0.0001, 0.001, 0.01, 0.05, 0.2, 0.5)),
    "shares": ("multipliers between obd and pins", SHARES),
}
"""Setting ↦ what it is, and its value in a full run."""


def _shown(value: Any) -> Any:
    """A number as it is; of several how many."""
    return len(value) if isinstance(value, tuple) else value


@dataclass(frozen=True)
class Run:
    """The parts that the phases of a run share."""

    settings: DemoSettings
    folder: Path
    task: Task
    classifier: Pretrained
    train: Encoded
    test: Encoded
    progress: Progress
    seconds: dict[str, float]

    @contextmanager
    def phase(self, name: str, total: int | None = None) -> Iterator[Advance]:
        """A phase that is shown, and a row in the table of times."""
        with timed(self.progress, self.seconds, name, total) as advance:
            yield advance

    def evaluate(self, name: str) -> Evaluation:
        """Loss and accuracy on the test rows."""
        with self.phase(f"test rows, {name}"):
            return evaluate(self.classifier.model, self.test.batches(64))


@contextmanager
def timed(
    progress: Progress, seconds: dict[str, float], name: str, total: int | None = None
) -> Iterator[Advance]:
    """A phase of `progress`, and its time in `seconds`."""
    start = time.perf_counter()
    with progress.phase(name, total) as advance:
        yield advance
    seconds[name] = round(time.perf_counter() - start, 2)


def run(settings: DemoSettings, folder: Path, progress: Progress) -> dict[str, Any]:
    """Run the demo and return its results; certificates, masks and model are written to `folder`.

    Raises:
        PinsError: the model or the task is missing, or a setting makes no sense.
    """
    # made first, so that a schedule that cannot fit is an error before any work
    schedule = CubicSchedule(
        steps=settings.sparse_steps,
        final_sparsity=settings.sparsity,
        cooldown=settings.cooldown,
        interval=settings.interval,
    )
    seconds: dict[str, float] = {}
    with timed(progress, seconds, "load model and task"):
        it = _load(settings, folder, progress, seconds)
    report.start(folder)
    training = _Training(it, schedule)
    dense_losses = training.dense()
    dense = it.evaluate("dense")
    observed, compared = _compare(it)
    sparse_losses, decisions = training.sparse()
    sparse = it.evaluate("sparse")
    checked = _check(it, decisions[-1]["certificate"])
    claims = _ledger(it, observed, compared["loss_changes"])
    it.classifier.save(folder / "model")
    task, classifier = it.task, it.classifier
    return {
        "provenance": provenance(),
        "settings": asdict(settings),
        "shortened": settings.shortened(),
        "model": {
            "name": settings.model,
            "weights_sha256": _digest(classifier.folder),
            "prunable": training.pruner.total,
            "parameters": sum(p.numel() for p in classifier.model.parameters()),
        },
        "task": {
            "name": task.name,
            "question": task.question,
            "labels": task.labels,
            "train_rows": len(task.train),
            "test_rows": len(task.test),
        },
        "dense": asdict(dense),
        "sparse": asdict(sparse),
        "training": {"dense_losses": dense_losses, "sparse_losses": sparse_losses},
        "decisions": decisions,
        "layers": _layers(training.pruner),
        "last_decision": training.curve,
        "checker": checked,
        **compared,
        "ledger": claims,
        "seconds": seconds,
    }


def _load(
    settings: DemoSettings, folder: Path, progress: Progress, seconds: dict[str, float]
) -> Run:
    """Model, task and tokens."""
    task = remembered_task(settings.task)  # which the ledger asks for again
    if not (isinstance(task, TextClassification) and task.labels):
        raise TaskError(f"the demo classifies texts, {task.name} is another task: use `pins prune`")
    classifier = load_model(settings.model, task.heads, task.labels, seed=settings.seed)
    about = (classifier.tokenizer, settings.max_length, classifier.head)
    return Run(
        settings=settings,
        folder=folder,
        task=task,
        classifier=classifier,
        train=task.encode(task.train, *about, train=True),
        test=task.encode(task.test, *about, train=False),
        progress=progress,
        seconds=seconds,
    )


class _Training:
    """One AdamW through both phases; its second moment is the curvature that `obd` reads."""

    def __init__(self, it: Run, schedule: CubicSchedule) -> None:
        settings, model = it.settings, it.classifier.model
        self._it = it
        self._optimizer = torch.optim.AdamW(
            model.parameters(), lr=settings.learning_rate, fused=True
        )
        self._scheduler = LambdaLR(self._optimizer, self._rate)
        torch.manual_seed(settings.seed)
        self._batches = self._remembered(it.train.stream(settings.batch_size, seed=settings.seed))
        self._batch: Batch = {}
        self._terms: dict[str, Terms] | None = None
        self._schedule = schedule
        self._decisions: list[dict[str, Any]] = []
        self.curve: dict[str, Any] = {}
        self.pruner = Pruner(
            model,
            self._optimizer,
            settings.criterion,
            schedule,
            loss=lambda: evaluate(model, [self._batch]).loss,
            on_decision=self._certify,
            on_region=self._remember,
        )

    def _remembered(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The same batches; a decision is measured on that of its step."""
        for batch in batches:
            self._batch = batch
            yield batch

    def dense(self) -> list[float]:
        """Fine-tune; the loss of each step."""
        return self._steps("fine-tune", self._it.settings.dense_steps, None)

    def sparse(self) -> tuple[list[float], list[dict[str, Any]]]:
        """Go on and prune; the loss of each step, and the decisions."""
        losses = self._steps("prune and certify", self._it.settings.sparse_steps, self.pruner)
        return losses, self._decisions

    def _steps(self, name: str, steps: int, pruner: Pruner | None) -> list[float]:
        with self._it.phase(name, steps) as advance:
            losses = []
            for loss in training_steps(
                self._it.classifier.model,
                itertools.islice(self._batches, steps),
                self._optimizer,
                scheduler=self._scheduler,
                pruner=pruner,
            ):
                losses.append(round(loss, 5))
                self._measure()
                advance()
            return losses

    def _measure(self) -> None:
        """What the decision of this step, if there was one, did to the loss."""
        change, decisions = self.pruner.loss_change, self._decisions
        if change is not None and decisions and decisions[-1]["step"] == self.pruner.steps:
            decisions[-1] |= change.as_json()

    def _rate(self, step: int) -> float:
        """Each phase: ten steps up, then linearly down."""
        dense, sparse = self._it.settings.dense_steps, self._it.settings.sparse_steps
        at, length = (step, dense) if step < dense else (step - dense, sparse)
        return min((at + 1) / 10, 1.0) * max(1 - at / length, 0.0)

    def _remember(
        self, _: Mapping[str, Tensor], program: RegionProgram, decision: RegionDecision
    ) -> None:
        """s and c of a trust region, before the mask changes the weights they are computed from."""
        self._terms = dict(program.terms) if decision.multiplier else None

    def _certify(self, step: int, importance: Mapping[str, Tensor], decision: Decision) -> None:
        folder = self._it.folder / "decisions" / f"{step:04}"
        scores_file, cost_file = folder / "scores.safetensors", folder / "costs.safetensors"
        mask_file = folder / "mask.safetensors"
        about: dict[str, Any] = {
            "certificate": folder / "certificate.json",
            "scores_file": scores_file,
            "mask_file": mask_file,
            "criterion": self._it.settings.criterion,
            "provenance": {"model": self._it.settings.model, "step": step},
        }
        masks_module.save(decision.masks, mask_file)
        start = time.perf_counter()
        if self._terms is None:
            importance = dict(importance)  # computed once for all that follows
            save_scores(importance, scores_file)
            certify(importance, decision.masks, **about)
        else:
            assert isinstance(decision, RegionDecision), "only a trust region has terms"
            for file, at in ((scores_file, 0), (cost_file, 1)):
                save_scores({name: terms[at] for name, terms in self._terms.items()}, file)
            multiplier = decision.multiplier
            certify_region(self._terms, decision.masks, multiplier, cost_file=cost_file, **about)
            self._terms = None
        proof = decision.proof
        self._decisions.append(
            {
                **decision_row(step, self.pruner.masks, decision.masks),
                "lambda": proof.dual_multiplier,
                "unique": proof.unique,
                "certificate": f"decisions/{step:04}/certificate.json",
                "seconds": round(time.perf_counter() - start, 3),
            }
        )
        last = step == self._schedule.last
        if not last and not self._it.settings.keep_scores:
            for file in (scores_file, cost_file):
                file.unlink(missing_ok=True)  # 4 bytes a weight; the certificate keeps its digest
        if last:
            self.curve = score_curve(importance, decision.proof)


def _compare(it: Run) -> tuple[RealModel, dict[str, Any]]:
    """What one decision by each criterion does to the loss of the dense model, and its regret."""
    settings, criteria = it.settings, list(CRITERIA)
    # an adaptive criterion has no scores before its decision
    scored = [name for name, criterion in CRITERIA.items() if not criterion.adaptive]
    generator = torch.Generator().manual_seed(settings.seed)
    parameters = prunable_parameters(it.classifier.model).parameters
    gradient, rehearsal = two_samples(it.train, settings.compared_rows, generator)
    experiment = Experiment(
        model=it.classifier.model,
        parameters=parameters,
        rows=gradient,
        rehearsal=rehearsal,
        unseen=it.test.sample(settings.compared_rows, generator),
    )
    points = 1 + len(criteria) * len(settings.fractions) + len(settings.shares) + 2
    with it.phase("compare criteria", points) as advance:
        observed = experiment.observe(
            f"{settings.model}, fine-tuned on {settings.task}",
            fisher_rows=settings.fisher_rows,
            seed=settings.seed,
        )
        start = experiment.losses()
        changes = []
        for change in loss_changes(experiment, observed, criteria, settings.fractions, start):
            changes.append(asdict(change))
            advance()
        path = multiplier_path(experiment, observed, start, advance, settings.shares)
    sample = weight_sample.take(
        observed.before,
        observed.gradient,
        observed.curvature,
        learning_rate=observed.learning_rate,
        sparsity=settings.sparsity,
        description=f"{settings.model}, fine-tuned on {settings.task}",
    )
    weight_sample.save(sample, it.folder / SAMPLE)
    with it.phase("regret of each criterion", len(scored)) as advance:
        regrets = []
        total = sum(parameter.numel() for parameter in parameters.values())
        keep = keep_count(settings.sparsity, total)
        scores = observed.importance("pins")
        for name in scored:
            found = regret(scores, select(observed.importance(name), keep))
            regrets.append(
                {
                    "criterion": name,
                    "regret": float(found.exact),
                    "relative_regret": found.relative,
                    "kept_jaccard": found.overlap.kept_jaccard,
                    "exchanged": found.overlap.first_only,
                    "keep": keep,
                }
            )
            advance()
    return observed, {
        "compared": {
            "rows": len(experiment.rows),
            "loss": start.rows,
            "loss_unseen": start.unseen,
            "learning_rate": observed.learning_rate,
        },
        "loss_changes": changes,
        "multiplier_path": [asdict(point) for point in path],
        "solver_answers": [solver_answers(sample, name) for name in CRITERIA_ASKED],
        "regrets": regrets,
    }


def _check(it: Run, certificate: str) -> dict[str, Any]:
    """Run the standalone checker as anyone would, in an interpreter without site-packages."""
    with it.phase("check the last certificate"):
        start = time.perf_counter()
        command = [sys.executable, "-I", "-S", checker.__file__, str(it.folder / certificate)]
        # our own file and our own interpreter, no shell
        process = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        seconds = time.perf_counter() - start
    return {
        "exit": process.returncode,
        "message": (process.stdout or process.stderr).strip(),
        "seconds": round(seconds, 2),
        "certificate": certificate,
    }


def _ledger(it: Run, observed: RealModel, changes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    setting = Setting(seed=it.settings.seed, real=observed, model=it.settings.model)
    with it.phase("ledger of claims", len(ALL_CLAIMS)) as advance:
        entries = []
        for entry in ledger.run(ALL_CLAIMS, setting):
            entries.append(entry)
            advance()
    empirical = rule_changes(it.task.name, changes, seed=it.settings.seed)
    document = ledger.document(entries, setting, empirical)
    write_json(document, it.folder / report.LEDGER)
    return document


def _layers(pruner: Pruner) -> list[dict[str, Any]]:
    """Exact counts of each tensor: kept by the mask, and not zero in the model."""
    return [
        {
            "name": name,
            "kind": layer_type(name),
            "total": counted.total,
            "kept": counted.kept,
            "nonzero": int(pruner.parameters[name].count_nonzero()),
            "sparsity": counted.sparsity,
        }
        for name, counted in masks_module.count_each(pruner.masks).items()
    ]


def _digest(folder: Path) -> str | None:
    weights = folder / WEIGHTS
    return sha256(weights) if weights.is_file() else None
