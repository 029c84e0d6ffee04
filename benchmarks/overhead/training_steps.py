"""Complete training steps, as in the loops that `Pruner` and `SelfRegularizer` document.

    forward → loss → backward → clip → optimiser's step → prune → clear

Every `INTERVAL` steps hold one pruning decision and one copy of the model to its teacher.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from benchmarks.harness.process import peak_of, return_memory
from benchmarks.harness.timing import in_turns, seconds_of
from pins.importance.criteria import CRITERIA
from pins.importance.criterion import Reads
from pins.importance.smoothing import find_smoothing
from pins.models.inference import evaluation_mode
from pins.models.parameters import prunable_parameters
from pins.models.self_distillation import SelfRegularizer
from pins.pruning.pruner import Pruner
from pins.pruning.schedules import CubicSchedule
from pins.utils.devices import choose_device

INTERVAL = 10  # steps between decisions, the default of `Pruner`
SPARSITY = 0.8
LEARNING_RATE = 3e-5
MAX_GRADIENT_NORM = 1.0
MEMORY_STEPS, MEMORY_INTERVAL = 4, 2  # two decisions allocate everything that a training keeps


@dataclass(frozen=True)
class Network:
    """A BERT with random weights; its feed-forward layers are four times as wide as the others."""

    exercises: str
    layers: int = 12
    hidden: int = 768
    heads: int = 12
    vocabulary: int = 30_522


NETWORKS: Mapping[str, Network] = {
    "bert-base": Network("the size of the paper's figures"),
    "minilm": Network("the size of the demo model: less arithmetic for each call", 6, 384, 12),
    "smoke": Network("every step of the driver, in seconds", 1, 16, 2, 50),
}


@dataclass(frozen=True)
class Variant:
    """What a step does besides training; without a criterion it prunes nothing."""

    criterion: str | None = None
    smoothing: str = "none"
    self_regularization: bool = False


DENSE = "dense training"
REGULARIZED = "self-regularisation"
# copies of the prunable weights that a smoothing keeps
AVERAGES: Mapping[str, int] = {"none": 0, "average": 1, "uncertainty": 2}
VARIANTS: Mapping[str, Variant] = {
    DENSE: Variant(),
    **{name: Variant(name) for name in CRITERIA},
    "abs-pins, average": Variant("abs-pins", "average"),
    "abs-pins, uncertainty": Variant("abs-pins", "uncertainty"),
    REGULARIZED: Variant(self_regularization=True),
    f"obd + {REGULARIZED}": Variant("obd", self_regularization=True),
    f"abs-pins, uncertainty + {REGULARIZED}": Variant("abs-pins", "uncertainty", True),
}


@dataclass(frozen=True)
class Workload:
    """A training: a network of `NETWORKS`, rows and tokens of a step, device, precision."""

    network: str
    batch: int
    length: int
    device: str
    precision: str


class Training:
    """One variant of a workload; all variants start from the same random weights and rows."""

    def __init__(
        self, workload: Workload, variant: Variant, *, steps: int, interval: int = INTERVAL
    ) -> None:
        """Move model and rows to the device, without taking a step.

        Args:
            workload: the training.
            variant: what a step does besides training.
            steps: greatest number of steps.
            interval: steps between decisions.
        """
        torch.manual_seed(0)
        self._device = choose_device(workload.device, workload.precision)
        self.model = _classifier(workload.network).to(self._device.device).train()
        tokens = torch.randint(self.model.config.vocab_size, (workload.batch, workload.length))
        labels = torch.randint(2, (workload.batch,))
        batch = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": labels}
        self._batch = {name: tensor.to(self._device.device) for name, tensor in batch.items()}
        self._optimizer = torch.optim.AdamW(self.model.parameters(), lr=LEARNING_RATE)
        self._interval, self._taken = interval, 0
        self._pruner = self._regularizer = None
        if variant.criterion is not None:
            self._pruner = Pruner(
                self.model,
                self._optimizer,
                variant.criterion,
                CubicSchedule(steps=steps, final_sparsity=SPARSITY, interval=interval),
                smoothing=find_smoothing(variant.smoothing)(),
                loss=self._loss if Reads.LOSS in CRITERIA[variant.criterion].reads else None,
            )
        if variant.self_regularization:
            self._regularizer = SelfRegularizer(self.model)

    def run(self, steps: int) -> None:
        """Take steps; a GPU may still compute when this returns."""
        for _ in range(steps):
            self._step()

    @torch.no_grad()
    def _loss(self) -> float:
        """Loss of the step's rows at the present weights, without dropout."""
        with evaluation_mode(self.model), self._device.autocast():
            return float(self.model(**self._batch).loss)

    def _step(self) -> None:
        with self._device.autocast():
            if self._regularizer is None:
                loss = self.model(**self._batch).loss
            else:
                inputs = self._regularizer.head.inputs(self.model, self._batch)
                loss = self._regularizer.loss(self.model(**inputs), self._batch)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRADIENT_NORM)
        self._optimizer.step()
        if self._pruner is not None:
            self._pruner.step()
        self._optimizer.zero_grad()
        self._taken += 1
        if self._regularizer is not None and self._taken % self._interval == 0:
            # with equal scores every checkpoint becomes the teacher
            self._regularizer.update(0.0, 0.0 if self._pruner is None else self._pruner.sparsity)


def step_seconds(workload: Workload, names: Sequence[str], rounds: int) -> dict[str, Any]:
    """Seconds of a step of each variant, in turns of one interval.

    Returns:
        By variant the mean seconds of a step in each round; the text of the error if it failed.
    """
    device = torch.device(workload.device)

    def start(name: str) -> Callable[[], float]:
        training = Training(workload, VARIANTS[name], steps=(rounds + 1) * INTERVAL)
        training.run(INTERVAL)
        return lambda: seconds_of(lambda: training.run(INTERVAL), device) / INTERVAL

    timed = in_turns(names, rounds, start)
    return {name: row["error"] or row["seconds"] for name, row in timed.items()}


def peak_bytes(workload: Workload, name: str) -> int:
    """Peak memory of a training beyond the memory in use before it.

    On a CPU it is the peak of the whole process: call this in a fresh one.
    """

    def train(chosen: Workload) -> None:
        steps, interval = MEMORY_STEPS, MEMORY_INTERVAL
        Training(chosen, VARIANTS[name], steps=steps, interval=interval).run(steps)

    train(replace(workload, network="smoke"))  # loads the libraries
    return_memory()
    return peak_of(lambda: train(workload), torch.device(workload.device))[0]


def sizes(network: str) -> tuple[int, int]:
    """Number of weights, and bytes of the prunable ones, without allocating them."""
    with torch.device("meta"):
        model = _classifier(network)
        prunable = prunable_parameters(model).parameters.values()
    return sum(each.numel() for each in model.parameters()), sum(each.nbytes for each in prunable)


def _classifier(name: str) -> Any:
    from transformers import BertConfig, BertForSequenceClassification

    network = NETWORKS[name]
    config = BertConfig(
        vocab_size=network.vocabulary,
        hidden_size=network.hidden,
        num_hidden_layers=network.layers,
        num_attention_heads=network.heads,
        intermediate_size=4 * network.hidden,
    )
    return BertForSequenceClassification(config)
