"""Sets of scores to select from: a whole model, many sizes, and adversarial sets.

To add one: a row in SCORE_SETS.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

SEED = 0
KEPT_ONE_IN = 5  # keep 20 % of the weights
BLOCK = 1 << 20  # scores made at a time, so that making a set takes little further memory
LARGEST_TENSOR = 1 << 22  # 2048 × 2048: large sets have many tensors, as a model has
ADVERSARIAL_SIZE = 10_000_000

Fill = Callable[[Tensor, int, int, torch.Generator], None]
"""(block, index of its first score, n, generator): writes the scores of a float32 block."""


def products(block: Tensor, _start: int, _size: int, generator: torch.Generator) -> None:
    """g·θ, both standard normal and independent: both signs, heavy tails."""
    block.normal_(generator=generator).mul_(_normal(block, generator))


def equal(block: Tensor, _start: int, _size: int, _generator: torch.Generator) -> None:
    """One value: all scores are ties."""
    block.fill_(0.5)


def two_values(block: Tensor, start: int, _size: int, _generator: torch.Generator) -> None:
    """1 at every fifth index, else 0: there are exactly k ones."""
    block.copy_(_indices(block, start) % KEPT_ONE_IN == 0)


def ascending(block: Tensor, start: int, _size: int, _generator: torch.Generator) -> None:
    """Sorted, the largest last; distinct up to 2²⁴."""
    block.copy_(_indices(block, start))


def descending(block: Tensor, start: int, size: int, _generator: torch.Generator) -> None:
    """Sorted, the largest first; distinct up to 2²⁴."""
    block.copy_(size - _indices(block, start))


def mostly_zeros(block: Tensor, _start: int, _size: int, generator: torch.Generator) -> None:
    """Four fifths, at random, are 0, the others have both signs: the threshold is a tied 0."""
    products(block, 0, 0, generator)
    block.mul_(_uniform(block, generator) < 0.2)


def huge_range(block: Tensor, _start: int, _size: int, generator: torch.Generator) -> None:
    """10^u, u uniform in (−38, 38): the range of normal float32 numbers."""
    block.uniform_(-38, 38, generator=generator)
    block.copy_(torch.pow(10.0, block.double()))


def denormals(block: Tensor, _start: int, _size: int, generator: torch.Generator) -> None:
    """Both signs, near 1e-40: float32 has fewer digits here, and hardware may be slow."""
    block.copy_(_normal(block, generator).double() * 1e-40)


def signed_zeros(block: Tensor, _start: int, _size: int, generator: torch.Generator) -> None:
    """One tenth is positive, the rest 0.0 or −0.0, which are equal but differ in bits."""
    drawn = _uniform(block, generator)
    block.fill_(0.0)
    block[drawn < 0.5] = -0.0
    block[drawn < 0.1] = 1.0


@dataclass(frozen=True)
class ScoreSet:
    """Scores of several tensors; on one device `make` always returns the same values.

    Attributes:
        exercises: the code path or the question that it tests.
        fill: writes the scores.
        shapes: shape of each tensor by name.
        dtype: of the scores, which are rounded to it.
        too_long: methods that take O(n²) time, hours, on a CPU for these scores.
    """

    exercises: str
    fill: Fill = products
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: parts(ADVERSARIAL_SIZE))
    dtype: torch.dtype = torch.float32
    too_long: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """n, the number of scores of all tensors."""
        return sum(torch.Size(shape).numel() for shape in self.shapes.values())

    @property
    def keep(self) -> int:
        """k = ⌊n/5⌋."""
        return self.size // KEPT_ONE_IN

    @property
    def nbytes(self) -> int:
        """Bytes of the scores."""
        return self.size * self.dtype.itemsize

    def describe(self, name: str) -> dict[str, Any]:
        """Fields of a results file by which the set of this name is known."""
        return {
            "instance": name,
            "exercises": self.exercises,
            "size": self.size,
            "tensors": len(self.shapes),
            "dtype": str(self.dtype).removeprefix("torch."),
            "keep": self.keep,
        }

    def make(self, device: torch.device | str = "cpu") -> dict[str, Tensor]:
        """The scores by tensor name; no more than a few blocks of further memory are used."""
        generator = torch.Generator(device).manual_seed(SEED)
        scores, start = {}, 0
        for name, shape in self.shapes.items():
            scores[name] = torch.empty(shape, dtype=self.dtype, device=device)
            for part in torch.split(scores[name].view(-1), BLOCK):
                block = torch.empty(part.shape, device=device)
                self.fill(block, start, self.size, generator)
                part.copy_(block)
                start += part.numel()
        return scores


def _normal(block: Tensor, generator: torch.Generator) -> Tensor:
    return torch.empty_like(block).normal_(generator=generator)


def _uniform(block: Tensor, generator: torch.Generator) -> Tensor:
    return torch.empty_like(block).uniform_(generator=generator)


def _indices(block: Tensor, start: int) -> Tensor:
    return torch.arange(start, start + block.numel(), device=block.device)


def _encoder(layers: int, hidden: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the weight matrices of BERT's encoder layers by name."""
    square = ("attention.self.query", "attention.self.key", "attention.self.value")
    matrices = {
        **dict.fromkeys((*square, "attention.output.dense"), (hidden, hidden)),
        "intermediate.dense": (4 * hidden, hidden),
        "output.dense": (hidden, 4 * hidden),
    }
    return {
        f"encoder.layer.{layer}.{name}.weight": shape
        for layer in range(layers)
        for name, shape in matrices.items()
    }


def parts(size: int) -> dict[str, tuple[int, ...]]:
    """Shapes of `size` scores in tensors of at most `LARGEST_TENSOR` scores."""
    whole, rest = divmod(size, LARGEST_TENSOR)
    lengths = [LARGEST_TENSOR] * whole + ([rest] if rest else [])
    return {f"part.{number}": (length,) for number, length in enumerate(lengths)}


SMOKE = "smoke"
MODEL = "bert-base"
SMALL_MODEL = "minilm"
SIZES: Mapping[str, ScoreSet] = {
    "1e4": ScoreSet("what a call costs, however few the weights", shapes=parts(10**4)),
    "1e5": ScoreSet("scores that fit the cache of a core", shapes=parts(10**5)),
    "1e6": ScoreSet("a small layer", shapes=parts(10**6)),
    "1e7": ScoreSet("a small model; the size of the adversarial sets", shapes=parts(10**7)),
    "1e8": ScoreSet("a model of BERT's size", shapes=parts(10**8)),
    "1e9": ScoreSet("a large language model", shapes=parts(10**9)),
}
ADVERSARIAL: Mapping[str, ScoreSet] = {
    "all-equal": ScoreSet("every score is a tie at the threshold", equal),
    "two-values": ScoreSet("the threshold at the border of two values", two_values),
    "ascending": ScoreSet("a sample of the first scores says nothing", ascending),
    "descending": ScoreSet("the same in reverse", descending, too_long=("torch.kthvalue",)),
    "descending-1e5": ScoreSet(
        "the same, so few that a quickselect with a fixed pivot ends", descending, parts(10**5)
    ),
    "80%-zeros": ScoreSet("scores after pruning: a tie of most at the threshold", mostly_zeros),
    "huge-range": ScoreSet("bins of equal width hold all or nothing", huge_range),
    "denormals": ScoreSet("arithmetic on the scores would round or stall", denormals),
    "signed-zeros": ScoreSet("equal scores of different bits at the threshold", signed_zeros),
    "float16": ScoreSet("few values, hence massive ties", dtype=torch.float16),
    "bfloat16": ScoreSet("fewer still", dtype=torch.bfloat16),
}
SCORE_SETS: Mapping[str, ScoreSet] = {
    MODEL: ScoreSet("the goals: all 72 matrices of a whole model", shapes=_encoder(12, 768)),
    SMALL_MODEL: ScoreSet("rows and squares of a small model", shapes=_encoder(6, 384)),
    **SIZES,
    **ADVERSARIAL,
    SMOKE: ScoreSet("every step of the driver, in seconds", shapes=_encoder(2, 16)),
}
