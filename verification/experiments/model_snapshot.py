"""A snapshot of a model: its weights, gradient and curvature, from which claims compute scores."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from pins.errors import ObservationError
from pins.importance.criteria import find_criterion
from pins.importance.criterion import Criterion, Observation, Reads
from pins.models.parameters import prunable_parameters
from pins.models.pretrained import load_model
from pins.tasks import Task, load_task
from verification.experiments.training import loss_gradient

TASK = "stdlib-docs"  # whose rows give the gradient
MAX_LENGTH = 64  # tokens of a row
LEARNING_RATE = 0.01  # η of the SGD step u = −ηg, which is part of the scores of "pins"


@dataclass(frozen=True)
class ModelSnapshot:
    """θ, g and the SGD step u = −ηg of one model, by parameter name.

    Attributes:
        description: names the model and the gradient.
        before: θ.
        gradient: g at θ.
        learning_rate: η.
        curvature: h at θ; None if it was not estimated.
    """

    description: str
    before: Mapping[str, Tensor] = field(repr=False)
    gradient: Mapping[str, Tensor] = field(repr=False)
    learning_rate: float = LEARNING_RATE
    curvature: Mapping[str, Tensor] | None = field(default=None, repr=False)

    @cached_property
    def after(self) -> dict[str, Tensor]:
        """θ+u = θ − ηg."""
        return {
            name: weight - self.learning_rate * self.gradient[name]
            for name, weight in self.before.items()
        }

    @cached_property
    def observations(self) -> dict[str, Observation]:
        """The observation of each parameter that a criterion scores, by name."""
        after = self.after
        return {
            name: Observation(
                after=after[name],
                gradient=gradient,
                before=self.before[name],
                curvature=self.curvature[name] if self.curvature else None,
            )
            for name, gradient in self.gradient.items()
        }

    def importance(self, criterion: str | Criterion) -> dict[str, Tensor]:
        """The scores of a criterion, or of the unfitted criterion of that name, by parameter.

        Raises:
            ObservationError: it reads the curvature, which was not estimated.
        """
        chosen = find_criterion(criterion) if isinstance(criterion, str) else criterion
        if Reads.CURVATURE in chosen.reads and self.curvature is None:
            raise ObservationError(f"no curvature was estimated for {self.description}")
        return {name: chosen.importance(each) for name, each in self.observations.items()}

    def layer_types(self) -> dict[str, str]:
        """Kind of layer → the name of its tensor in the middle of the model."""
        kinds: dict[str, list[str]] = {}
        for name in self.before:
            kinds.setdefault(layer_type(name), []).append(name)
        return {kind: names[len(names) // 2] for kind, names in kinds.items()}


def layer_type(name: str) -> str:
    """The kind of a layer: the parameter's name without the layer's number and the model's prefix.

    >>> layer_type("bert.encoder.layer.3.attention.self.query.weight")
    'attention.self.query'
    """
    return re.sub(r"^.*?\.\d+\.", "", name).removesuffix(".weight")


def observe(model: str, *, rows: int = 32, seed: int = 0) -> ModelSnapshot:
    """The pre-trained model with a fresh head, and its gradient on one batch of `TASK`.

    Raises:
        ModelError, TaskError: the model or the task is missing.
    """
    task = remembered_task(TASK)
    classifier = load_model(model, task.heads, task.labels, seed=seed)
    examples = task.encode(
        task.train, classifier.tokenizer, MAX_LENGTH, classifier.head, train=True
    )
    drawn = examples.sample(rows, torch.Generator().manual_seed(seed))
    parameters = prunable_parameters(classifier.model).parameters
    return ModelSnapshot(
        description=f"{model}, pre-trained, gradient on {rows} rows of {TASK}",
        before={name: parameter.detach() for name, parameter in parameters.items()},
        gradient=loss_gradient(classifier.model, drawn.batches(rows), parameters),
    )


@lru_cache(maxsize=1)
def remembered_task(name: str) -> Task:
    """The task of that name, loaded once, since loading takes longer than an experiment."""
    return load_task(name)


def spread(tensor: Tensor, size: int) -> Tensor:
    """`size` evenly spaced entries of a tensor, or all if it has fewer."""
    flat = tensor.detach().reshape(-1)
    if flat.numel() <= size:
        return flat
    return flat[torch.arange(size) * flat.numel() // size]
