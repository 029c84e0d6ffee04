"""Some weights of a model as one pruning decision sees them: θ, g and h, to draw and to explore.

A figure or a page needs thousands of weights, not all of them. Each tensor gives its share, from
places spread over it, so that what is ranked here is ranked much as in the whole model; of exact
counts over the model a run keeps account elsewhere.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from pins.errors import FileError
from pins.importance.criteria import find_criterion
from pins.importance.criterion import Criterion, Observation
from pins.utils.io import flatten, load_tensors, save_tensors
from pins.utils.tensors import sample_indices

FORMAT = "pins-weight-sample"
VERSION = "1"
SIZE = 1 << 14  # weights in all: 200 KB with g and h, and a few hundred of each tensor
LEAST = 16  # of each tensor, if it has as many


@dataclass(frozen=True)
class WeightSample:
    """θ, g and h of some weights of each tensor, in flat order.

    Attributes:
        weights: θ by tensor name, (nₜ,) float32: what a mask would be applied to, but for the step.
        gradient: g at θ, likewise.
        curvature: h ≥ 0, a diagonal curvature at θ, likewise; None where there was none.
        shapes: of the whole tensors.
        learning_rate: η of the SGD step u = −ηg that the decision sees taken from θ; 0 where θ are
            the weights after the step already.
        sparsity: 1 − kept ratio that the run goes to.
        description: which model, at which decision.
    """

    weights: Mapping[str, Tensor] = field(repr=False)
    gradient: Mapping[str, Tensor] = field(repr=False)
    curvature: Mapping[str, Tensor] | None = field(repr=False)
    shapes: Mapping[str, torch.Size] = field(repr=False)
    learning_rate: float
    sparsity: float
    description: str

    @property
    def total(self) -> int:
        """The number of weights in the sample."""
        return sum(weights.numel() for weights in self.weights.values())

    def indices(self, name: str) -> Tensor:
        """Where the weights of a tensor stand in it: flat indices, ascending, (nₜ,) int64."""
        return places(self.shapes[name].numel(), self.weights[name].numel())

    def observations(self, learning_rate: float | None = None) -> dict[str, Observation]:
        """What a criterion sees of the step of SGD with `learning_rate`, by tensor name, float64.

        Every float32 is a float64, so only what is computed from them is rounded.
        """
        rate = self.learning_rate if learning_rate is None else learning_rate
        seen = {}
        for name, weights in self.weights.items():
            before, gradient = weights.double(), self.gradient[name].double()
            seen[name] = Observation(
                after=before - rate * gradient,
                gradient=gradient,
                before=before,
                curvature=None if self.curvature is None else self.curvature[name].double(),
            )
        return seen

    def importance(
        self, criterion: str | Criterion, learning_rate: float | None = None
    ) -> dict[str, Tensor]:
        """The scores of a criterion by tensor name, (nₜ,) float64; larger = keep.

        Raises:
            CriterionError: there is none of that name.
            ObservationError: it reads a curvature, and the sample has none.
        """
        chosen = find_criterion(criterion) if isinstance(criterion, str) else criterion
        seen = self.observations(learning_rate)
        return {name: chosen.importance(observation) for name, observation in seen.items()}


def places(size: int, count: int) -> Tensor:
    """The flat indices of `count` weights of a tensor of `size`: spread over it, ascending."""
    return sample_indices(size, count).sort().values


def some(tensors: Mapping[str, Tensor], most: int) -> Tensor:
    """At most so many entries of all tensors together, spread over them, in flat order."""
    together = torch.cat([tensor.reshape(-1) for tensor in tensors.values()])
    return together[places(together.numel(), min(most, together.numel()))]


def counts(sizes: Mapping[str, int], size: int = SIZE) -> dict[str, int]:
    """How many weights each tensor gives: its share of `size`, but `LEAST`, if it has as many."""
    total = sum(sizes.values())
    return {
        name: min(own, max(LEAST, math.ceil(own * min(size / max(total, 1), 1))))
        for name, own in sizes.items()
    }


@torch.no_grad()
def take(
    weights: Mapping[str, Tensor],
    gradient: Mapping[str, Tensor],
    curvature: Mapping[str, Tensor] | None,
    *,
    learning_rate: float,
    sparsity: float,
    description: str,
) -> WeightSample:
    """The sample of a whole model.

    Args:
        weights: θ by tensor name; every mapping is asked for one tensor at a time.
        gradient: g by the same names, of the same shapes.
        curvature: h, likewise, or None.
        learning_rate: η, as in `WeightSample`.
        sparsity: likewise.
        description: likewise.
    """
    shapes = {name: tensor.shape for name, tensor in weights.items()}
    taken = counts({name: shape.numel() for name, shape in shapes.items()})

    def of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = {}
        for name, count in taken.items():
            flat = tensors[name].detach().reshape(-1)
            index = places(flat.numel(), count).to(flat.device)
            found[name] = flat[index].float().cpu()
        return found

    return WeightSample(
        weights=of(weights),
        gradient=of(gradient),
        curvature=None if curvature is None else of(curvature),
        shapes=shapes,
        learning_rate=learning_rate,
        sparsity=sparsity,
        description=description,
    )


def save(sample: WeightSample, path: Path) -> None:
    """Write the sample to a safetensors file, whole or not at all."""
    groups = {"weights": sample.weights, "gradient": sample.gradient}
    if sample.curvature is not None:
        groups["curvature"] = sample.curvature
    about = {
        "learning_rate": sample.learning_rate,
        "sparsity": sample.sparsity,
        "description": sample.description,
        "shapes": {name: list(shape) for name, shape in sample.shapes.items()},
    }
    header = {"format": FORMAT, "version": VERSION, "about": json.dumps(about, ensure_ascii=False)}
    save_tensors(flatten(groups), path, header)


def load(path: Path) -> WeightSample:
    """The sample in a file that `save` wrote.

    Raises:
        FileError: it is no such file.
    """
    tensors, metadata = load_tensors(path)
    if metadata.get("format") != FORMAT or metadata.get("version") != VERSION:
        raise FileError(
            f"{path} is no sample of weights of version {VERSION}: its format is "
            f"{metadata.get('format')!r}, version {metadata.get('version')!r}"
        )
    groups: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        group, _, name = key.partition("/")
        groups.setdefault(group, {})[name] = tensor
    try:
        about = json.loads(metadata["about"])
        return WeightSample(
            weights=groups["weights"],
            gradient=groups["gradient"],
            curvature=groups.get("curvature"),
            shapes={name: torch.Size(about["shapes"][name]) for name in groups["weights"]},
            learning_rate=float(about["learning_rate"]),
            sparsity=float(about["sparsity"]),
            description=str(about["description"]),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise FileError(f"{path} is no whole sample of weights: {error}") from error
