"""Complete training steps, as in the loops that `Pruner` and `SelfRegularizer` document.

    forward → loss → backward → clip → optimiser's step → prune → clear

Every `INTERVAL` steps hold one pruning decision and one copy of the model to its teacher.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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

INTERVAL = 10  # ΔT of the defaults
SPARSITY = 0.8
LEARNING_RATE = 3e-5
MAX_GRADIENT_NORM = 1.0
MEMORY_STEPS, MEMORY_INTERVAL = (
    4,
    2,
)  # two decisions: by then everything is allocated that a training keeps


@dataclass(frozen=True)
class Network:
    """A BERT with random weights; `options` are the settings that differ from BERT-base."""

    exercises: str
    options: Mapping[str, int] = field(default_factory=dict)


NETWORKS: Mapping[str, Network] = {
    "bert-base": Network("the size of the paper's figures"),
    "minilm": Network(
        "the size of the demo model: less arithmetic for each call",
        {
            "hidden_size": 384,
            "num_hidden_layers": 6,
            "num_attention_heads": 12,
            "intermediate_size": 1536,
        },
    ),
    "smoke": Network(
        "every step of the driver, in seconds",
        {
            "vocab_size": 50,
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
        },
    ),
}


@dataclass(frozen=True)
class Variant:
    """What a step does besides training; None: it prunes nothing."""

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


READ_LOSS = [name for name, criterion in CRITERIA.items() if Reads.LOSS in criterion.reads]


class Training:
    """One variant of a workload; all variants start from the same random weights and rows."""

    def __init__(
        self, workload: Workload, variant: Variant, *, steps: int, interval: int = INTERVAL
    ) -> None:
        """Move model and rows to the device, without taking a step.

        Args:
            workload: the training.
            variant: what is done besides.
            steps: greatest number of steps.
            interval: steps between decisions.
        """
        torch.manual_seed(0)
        self._device = choose_device(workload.device, workload.precision)
        self.model = _classifier(workload.network).to(self._device.device).train()
        self._batch = {
            "input_ids": torch.randint(
                self.model.config.vocab_size, (workload.batch, workload.length)
            ),
            "attention_mask": torch.ones(workload.batch, workload.length, dtype=torch.int64),
            "labels": torch.randint(2, (workload.batch,)),
        }
        self._batch = {name: tensor.to(self._device.device) for name, tensor in self._batch.items()}
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
                loss=self._loss if variant.criterion in READ_LOSS else None,
            )
        if variant.self_regularization:
            self._regularizer = SelfRegularizer(self.model)

    def run(self, steps: int) -> None:
        """Take steps; a GPU may still compute when this returns."""
        for _ in range(steps):
            self._step()

    @property
    def device(self) -> torch.device:
        """Where the training runs."""
        return self._device.device

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

    def first(name: str) -> Training:
        training = Training(workload, VARIANTS[name], steps=(rounds + 1) * INTERVAL)
        training.run(INTERVAL)
        return training

    def turn(_name: str, training: Training) -> float:
        return seconds_of(lambda: training.run(INTERVAL), training.device) / INTERVAL

    return {
        name: found if isinstance(found, str) else found[1]
        for name, found in in_turns(names, rounds, first, turn).items()
    }


def peak_bytes(workload: Workload, name: str) -> int:
    """Peak memory of a training beyond what the process held before it.

    On a CPU it is the peak of the whole process: call it in a fresh one.
    """

    def train(chosen: Workload) -> None:
        steps, interval = MEMORY_STEPS, MEMORY_INTERVAL
        Training(chosen, VARIANTS[name], steps=steps, interval=interval).run(steps)

    train(replace(workload, network="smoke"))  # loads the libraries
    return_memory()
    device = choose_device(workload.device, workload.precision).device
    return peak_of(lambda: train(workload), device)[0]


def weights_of(network: str) -> int:
    """Number of weights of a network, without allocating them."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in _classifier(network).parameters())


def prunable_bytes(network: str) -> int:
    """Bytes of the prunable weights of a network, without allocating them."""
    with torch.device("meta"):
        found = prunable_parameters(_classifier(network)).parameters.values()
    return sum(parameter.numel() * parameter.element_size() for parameter in found)


def _classifier(network: str) -> Any:
    from transformers import BertConfig, BertForSequenceClassification

    options: dict[str, Any] = dict(NETWORKS[network].options)
    return BertForSequenceClassification(BertConfig(**options))
