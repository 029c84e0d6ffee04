"""A sample of θ, g and h of a model at one pruning decision, for plots and the explorer.

These need thousands of weights, not all. Each tensor contributes in proportion to its size, at
indices distributed over it, so the ranking of the sample is close to the ranking of the model. The
exact counts over the whole model are in the history of the run.
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
from pins.utils.io import flatten, load_tensors, save_tensors, unflatten
from pins.utils.tensors import sample_indices
from pins.utils.text_files import reading, shown

FORMAT = "pins-weight-sample"
VERSION = "1"
SIZE = 1 << 14  # weights in total: 200 KB with g and h, a few hundred of each tensor
LEAST = 16  # weights of each tensor, if it has as many
GROUPS = 8  # divides the number of weights of each tensor that has more: groups of 4 and 8 fit


@dataclass(frozen=True)
class WeightSample:
    """θ, g and h of some weights of each tensor, in flat order.

    Attributes:
        weights: θ by tensor name, (nₜ,) float32, before the step u.
        gradient: g at θ, by tensor name, (nₜ,) float32.
        curvature: h ≥ 0, a diagonal curvature at θ, by tensor name, (nₜ,) float32; None if there
            was none.
        shapes: of the whole tensors.
        learning_rate: η of the SGD step u = −ηg after which the decision is made; 0 if θ are
            already the weights after the step.
        sparsity: final sparsity of the run.
        description: the model and the decision.
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
        """Flat indices of the sampled weights in the whole tensor, ascending, (nₜ,) int64."""
        return flat_indices(self.shapes[name].numel(), self.weights[name].numel())

    def observations(self, learning_rate: float | None = None) -> dict[str, Observation]:
        """The observations of a criterion after an SGD step, by tensor name, float64.

        Float32 values convert to float64 exactly; only results computed from them are rounded.
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
            CriterionError: there is no criterion of that name.
            ObservationError: the criterion reads a curvature, and the sample has none.
        """
        chosen = find_criterion(criterion) if isinstance(criterion, str) else criterion
        seen = self.observations(learning_rate)
        return {name: chosen.importance(observation) for name, observation in seen.items()}


def flat_indices(size: int, count: int) -> Tensor:
    """Ascending flat indices of `count` of `size` weights, distributed over the tensor."""
    return sample_indices(size, count).sort().values


def subsample(tensors: Mapping[str, Tensor], most: int) -> Tensor:
    """At most `most` entries of the concatenated tensors, in flat order."""
    values = torch.cat([tensor.reshape(-1) for tensor in tensors.values()])
    return values[flat_indices(values.numel(), min(most, values.numel()))]


def sample_sizes(sizes: Mapping[str, int], size: int = SIZE) -> dict[str, int]:
    """The sample size of each tensor: in proportion to its size, at least `LEAST` if possible."""
    ratio = min(size / max(sum(sizes.values()), 1), 1)
    return {
        name: min(own, max(LEAST, GROUPS * math.ceil(own * ratio / GROUPS)))
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
    """Sample the weights of a whole model.

    Args:
        weights: θ by tensor name; tensors are read one at a time, so mappings may be lazy.
        gradient: g by the same names, of the same shapes.
        curvature: h by the same names, of the same shapes, or None.
        learning_rate: as in `WeightSample`.
        sparsity: as in `WeightSample`.
        description: as in `WeightSample`.
    """
    shapes = {name: tensor.shape for name, tensor in weights.items()}
    taken = sample_sizes({name: shape.numel() for name, shape in shapes.items()})

    def of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = {}
        for name, count in taken.items():
            flat = tensors[name].detach().reshape(-1)
            index = flat_indices(flat.numel(), count).to(flat.device)
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
    """Write the sample to a safetensors file, atomically."""
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
    """Load the sample in a file that `save` wrote.

    Raises:
        FileError: the file is not such a sample.
    """
    tensors, metadata = load_tensors(path)
    if metadata.get("format") != FORMAT or metadata.get("version") != VERSION:
        raise FileError(
            f"{path} is no sample of weights of version {VERSION}: its format is "
            f"{shown(metadata.get('format'))}, version {shown(metadata.get('version'))}"
        )
    with reading(f"{path} is no whole sample of weights"):
        about = json.loads(metadata["about"])
        sample = WeightSample(
            weights=unflatten(tensors, "weights"),
            gradient=unflatten(tensors, "gradient"),
            curvature=unflatten(tensors, "curvature") or None,
            shapes={name: torch.Size(shape) for name, shape in about["shapes"].items()},
            learning_rate=float(about["learning_rate"]),
            sparsity=float(about["sparsity"]),
            description=str(about["description"]),
        )
        _require_consistent(sample)
        return sample


def _require_consistent(sample: WeightSample) -> None:
    """Raise a ValueError if the parts of a sample do not fit one another."""
    if not sample.weights:
        raise ValueError("it has no weights")
    own = {name: (weights.shape, torch.float32) for name, weights in sample.weights.items()}
    for values in (sample.weights, sample.gradient, sample.curvature):
        if values is not None and {n: (t.shape, t.dtype) for n, t in values.items()} != own:
            raise ValueError("weights, gradient and curvature differ in names, shapes or dtype")
    for name, (shape, _) in own.items():
        whole = sample.shapes[name]
        if len(shape) != 1 or min(whole, default=1) < 0 or shape.numel() > whole.numel():
            raise ValueError(f"{shown(name)} is {tuple(shape)}, a sample of {tuple(whole)}")
    if not 0 <= sample.learning_rate < math.inf or not 0 <= sample.sparsity <= 1:
        raise ValueError(
            f"learning rate {sample.learning_rate} or sparsity {sample.sparsity} is out of range"
        )
