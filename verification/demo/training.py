"""The training of the demo: fine-tune, then prune, and certify every decision."""

import time
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from pins import masks
from pins.importance.trust_region.program import Terms, TrustRegionDecision, TrustRegionProgram
from pins.models.batches import Batch
from pins.pruning.pruner import Pruner
from pins.runs.history import decision_row
from pins.selection.select import Decision
from verification.certificates.selection import certify, save_scores
from verification.certificates.trust_region import TrustRegion
from verification.demo.run import DemoRun
from verification.experiments.model_snapshot import layer_type
from verification.experiments.score_curve import score_curve
from verification.experiments.training import evaluate, training_steps

WARMUP = 10  # steps


class Training:
    """One AdamW for both phases; its second moment is the curvature that `obd` reads.

    Attributes:
        pruner: takes the decisions of the second phase.
        decisions: a row of the report for each decision.
        curve: the sorted scores of the last decision.
    """

    def __init__(self, run: DemoRun) -> None:
        """Prepare the model, the optimiser and the pruner of `run`."""
        settings, self._model = run.settings, run.classifier.model
        self._run = run
        self._optimizer = torch.optim.AdamW(
            self._model.parameters(), lr=settings.learning_rate, fused=True
        )
        torch.manual_seed(settings.seed)
        self._batches = self._remembered()
        self._batch: Batch = {}
        self._terms: dict[str, Terms] | None = None
        self.decisions: list[dict[str, Any]] = []
        self.curve: dict[str, Any] = {}
        self.pruner = Pruner(
            self._model,
            self._optimizer,
            settings.criterion,
            settings.schedule(),
            loss=lambda: evaluate(self._model, [self._batch]).loss,
            on_decision=self._certify,
            on_trust_region=self._remember_terms,
        )

    def dense(self) -> list[float]:
        """Fine-tune, and return the loss of each step."""
        steps = self._run.settings.dense_steps
        return self._run.collect("fine-tune", steps, self._losses(steps, None))

    def sparse(self) -> list[float]:
        """Continue and prune, and return the loss of each step."""
        steps = self._run.settings.sparse_steps
        return self._run.collect("prune and certify", steps, self._losses(steps, self.pruner))

    def layers(self) -> list[dict[str, Any]]:
        """Exact counts of each tensor: kept by the mask, and not zero in the model."""
        return [
            {
                "name": name,
                "kind": layer_type(name),
                "total": counted.total,
                "kept": counted.kept,
                "nonzero": int(self.pruner.parameters[name].count_nonzero()),
                "sparsity": counted.sparsity,
            }
            for name, counted in masks.count_each(self.pruner.masks).items()
        ]

    def _remembered(self) -> Iterator[Batch]:
        """The batches, each remembered: a decision is measured on the batch of its step."""
        settings = self._run.settings
        for batch in self._run.train.stream(settings.batch_size, seed=settings.seed):
            self._batch = batch
            yield batch

    def _losses(self, steps: int, pruner: Pruner | None) -> Iterator[float]:
        """Train; the learning rate rises for ten steps, and falls linearly to 0 at the end."""
        optimizer, batches = self._optimizer, islice(self._batches, steps)
        rate = LambdaLR(optimizer, lambda step: min((step + 1) / WARMUP, 1) * (1 - step / steps))
        for loss in training_steps(self._model, batches, optimizer, scheduler=rate, pruner=pruner):
            measured = self.pruner.loss_change
            if measured and self.decisions[-1]["step"] == self.pruner.steps:
                self.decisions[-1] |= measured.as_json()
            yield round(loss, 5)

    def _remember_terms(
        self, _: Mapping[str, Tensor], program: TrustRegionProgram, decision: TrustRegionDecision
    ) -> None:
        """s and c of a trust region, before the mask changes the weights they are computed from."""
        self._terms = dict(program.terms) if decision.multiplier else None

    def _certify(self, step: int, importance: Mapping[str, Tensor], decision: Decision) -> None:
        """Write the mask, the scores and the certificate of a decision."""
        place = f"decisions/{step:04}"
        folder, settings, terms = self._run.folder / place, self._run.settings, self._terms
        scores_file, cost_file, mask_file = (
            folder / f"{name}.safetensors" for name in ("scores", "costs", "mask")
        )
        about: dict[str, Any] = {
            "certificate": folder / "certificate.json",
            "scores_file": scores_file,
            "mask_file": mask_file,
            "criterion": settings.criterion,
            "provenance": {"model": settings.model, "step": step},
        }
        masks.save(decision.masks, mask_file)
        start = time.perf_counter()
        if terms is None:
            importance = dict(importance)  # compute lazy scores once
            save_scores(importance, scores_file)
            certify(importance, decision.masks, constraint=decision.tree, **about)
        else:
            assert isinstance(decision, TrustRegionDecision), "only a trust region has terms"
            s, c = ({name: both[i] for name, both in terms.items()} for i in (0, 1))
            save_scores(s, scores_file)
            save_scores(c, cost_file)
            region = TrustRegion(c, cost_file, decision.multiplier)
            certify(s, decision.masks, constraint=decision.tree, region=region, **about)
            self._terms = None
        self.decisions.append(
            {
                **decision_row(step, self.pruner.masks, decision.masks),
                "lambda": decision.proof.dual_multiplier,
                "unique": decision.proof.unique,
                "certificate": f"{place}/certificate.json",
                "seconds": round(time.perf_counter() - start, 3),
            }
        )
        if step == self.pruner.schedule.last:
            self.curve = score_curve(importance, decision.proof)
        elif not settings.keep_scores:
            for file in (scores_file, cost_file):
                file.unlink(missing_ok=True)  # 4 bytes a weight; the certificate holds the digest
