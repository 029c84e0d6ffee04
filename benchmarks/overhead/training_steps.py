"""Whole training steps, as in the loops that `Pruner` and `SelfRegularizer` document.

    forward → loss → backward → clip → optimiser's step → prune → clear

Every `INTERVAL` steps hold one pruning decision and one copy of the model to its teacher.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from benchmarks.harness.process import peak_resident, reset_peak, resident, return_memory
from benchmarks.harness.results import describe
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
MEMORY_STEPS, MEMORY_INTERVAL = 4, 2  # two decisions: all that a training keeps is there by then


@dataclass(frozen=True)
class Network:
    """A BERT of random weights; `options` of its configuration that differ from BERT-base."""

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
    """What a step does beside training; nothing is pruned without a criterion."""

    criterion: str | None = None
    smoothing: str = "none"
    self_regularization: bool = False


DENSE = "dense training"
REGULARIZED = "self-regularisation"
# tensors of the size of the prunable weights that a smoothing keeps
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
    """What is trained, and where: a network of `NETWORKS`, rows of tokens, device, precision."""

    network: str
    batch: int
    length: int
    device: str
    precision: str


READ_LOSS = [name for name, criterion in CRITERIA.items() if Reads.LOSS in criterion.reads]


class Training:
    """One variant of a workload, from the same random weights and rows as every other."""

    def __init__(
        self, workload: Workload, variant: Variant, *, steps: int, interval: int = INTERVAL
    ) -> None:
        """Put everything on the device; no step is taken.

        Args:
            workload: what is trained.
            variant: what is done beside.
            steps: how many there will be, at most.
            interval: steps from one decision to the next.
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
        """Take so many steps; the device may still be at them when it returns."""
        for _ in range(steps):
            self._step()

    def seconds(self, steps: int) -> float:
        """How long so many steps take, until the device has done them all."""
        self.synchronize()
        start = time.perf_counter()
        self.run(steps)
        self.synchronize()
        return time.perf_counter() - start

    def synchronize(self) -> None:
        """Wait until the device has done all it was given."""
        if self._device.device.type == "cuda":
            torch.cuda.synchronize(self._device.device)

    @torch.no_grad()
    def _loss(self) -> float:
        """The loss of the step's rows as the weights stand, without dropout."""
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
            # the score is the same each time, which makes every checkpoint the teacher
            self._regularizer.update(0.0, 0.0 if self._pruner is None else self._pruner.sparsity)


def step_seconds(workload: Workload, names: Sequence[str], rounds: int) -> dict[str, Any]:
    """Seconds of a step, side by side: each round runs every variant for one interval.

    Every other round goes the other way through the variants, so that a machine that slows down
    slows them all. A round of each comes first and does not count.

    Returns:
        By variant the mean seconds of a step in each round; an error's text where it failed.
    """
    results: dict[str, Any] = {}
    trainings = {}
    for name in names:
        try:
            trainings[name] = Training(workload, VARIANTS[name], steps=(rounds + 1) * INTERVAL)
            trainings[name].seconds(INTERVAL)
            results[name] = []
        except Exception as error:  # a failure is a result: the others are measured all the same
            results[name] = describe(error)
            trainings.pop(name, None)
    for number in range(rounds):
        for name in list(trainings)[:: 1 if number % 2 == 0 else -1]:
            try:
                results[name].append(trainings[name].seconds(INTERVAL) / INTERVAL)
            except Exception as error:
                results[name] = describe(error)
                del trainings[name]
    return results


def peak_bytes(workload: Workload, name: str) -> int:
    """Most memory that a training takes at a time, beyond what the process took before it.

    On CUDA that of tensors. On a CPU that of the process, which never shrinks: call it in a fresh
    one.
    """
    device = choose_device(workload.device, workload.precision).device
    # libraries are loaded before, by a small training, not by the one that is measured
    small = replace(workload, network="smoke")
    Training(small, VARIANTS[name], steps=MEMORY_STEPS, interval=MEMORY_INTERVAL).run(MEMORY_STEPS)
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    else:
        return_memory()
        reset_peak()
    before = torch.cuda.memory_allocated(device) if cuda else resident()
    training = Training(workload, VARIANTS[name], steps=MEMORY_STEPS, interval=MEMORY_INTERVAL)
    training.run(MEMORY_STEPS)
    training.synchronize()
    after = torch.cuda.max_memory_allocated(device) if cuda else peak_resident()
    return after - before


def weights_of(network: str) -> int:
    """The number of weights of a network; none is allocated."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in _classifier(network).parameters())


def prunable_bytes(network: str) -> int:
    """What the prunable weights of a network take; none is allocated."""
    with torch.device("meta"):
        found = prunable_parameters(_classifier(network)).parameters.values()
    return sum(parameter.numel() * parameter.element_size() for parameter in found)


def _network_class() -> Any:
    from transformers import BertConfig, BertForSequenceClassification

    return BertConfig, BertForSequenceClassification


def _classifier(network: str) -> Any:
    config, classifier = _network_class()
    return classifier(config(**NETWORKS[network].options))
