"""Methods that find the k largest scores of a whole model: PINS, and common alternatives.

To add a method: a function from scores and k to masks, and a row in METHODS. A method must not
change the scores. Masks may have any dtype, nonzero = keep; making them is part of the time.
"""

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from benchmarks.harness.score_sets import ScoreSet
from benchmarks.selection import patterns
from benchmarks.selection.patterns import Pattern, Scores, Select, by_pins, by_sort, by_topk
from pins.selection.select import decide, select

SELECT = "pins.select"
DECIDE = "pins.decide"
KTHVALUE = "torch.kthvalue"
TOPK = "torch.topk"
PARTITION = "np.partition"
UNSTRUCTURED = "global_unstructured"
HEAP = "heapq.nlargest"
READ = "one read"
HALF = "pins.select, half"
ROWS = "pins.select, rows"
TWO_OF_FOUR = "pins.select, 2:4"
EIGHT_OF_SIXTEEN = "pins.select, 8:16"
AT_MOST_TWO_OF_FOUR = "pins.select, at most 2:4"
OPTIMA = (SELECT, DECIDE, HALF, ROWS, TWO_OF_FOUR, EIGHT_OF_SIXTEEN, AT_MOST_TWO_OF_FOUR)


@dataclass(frozen=True)
class Method:
    """One way to select.

    Attributes:
        says: description for the table.
        select: scores, k ↦ masks in the order of the tensors; the yardstick returns no masks.
        extra_bytes: bytes of a score ↦ estimated peak bytes a weight beyond scores and masks; a
            method that would not fit is not run.
        largest: greatest n that is tried; None: no limit.
        devices: kinds of device on which it runs.
        pattern: what it keeps of each run of a row; None: k of all scores.
    """

    says: str
    select: Callable[[Scores, int], Sequence[Tensor]]
    extra_bytes: Callable[[int], float]
    largest: int | None = None
    devices: tuple[str, ...] = ("cpu", "cuda")
    pattern: Pattern | None = None

    def keep(self, score_set: ScoreSet) -> int:
        """The number of ones of its masks."""
        return self.pattern.keep(score_set.size) if self.pattern else score_set.keep

    def suits(self, score_set: ScoreSet) -> bool:
        """Whether the tensors have rows that its runs divide."""
        return self.pattern is None or all(
            len(shape) > 1 and shape[-1] % patterns.LONGEST == 0
            for shape in score_set.shapes.values()
        )


def optimum(scores: Scores, keep: int) -> list[Tensor]:
    """Exactly k, ties to the lower index."""
    return [*select(scores, keep).values()]


def proved(scores: Scores, keep: int) -> list[Tensor]:
    """The same, and its proof."""
    return [*decide(scores, keep).masks.values()]


def kthvalue(scores: Scores, keep: int) -> list[Tensor]:
    """s ≥ s₍ₖ₎; more than k if s₍ₖ₎ is tied."""
    values = flat(scores)
    threshold = torch.kthvalue(values, len(values) - keep + 1).values
    return [each >= threshold for each in scores.values()]


def topk(scores: Scores, keep: int) -> list[Tensor]:
    """Exactly k, ties in any order."""
    values = flat(scores)
    mask = torch.zeros_like(values, dtype=torch.bool)
    mask[torch.topk(values, keep, sorted=False).indices] = True
    return by_tensor(mask, scores)


def partition(scores: Scores, keep: int) -> list[Tensor]:
    """s ≥ s₍ₖ₎; more than k if s₍ₖ₎ is tied."""
    threshold = kth_largest(scores, keep)
    return [each >= threshold for each in scores.values()]


def kth_largest(scores: Scores, keep: int) -> float:
    """s₍ₖ₎ by numpy, which partitions one copy of all scores.

    numpy has no bfloat16 and is slow for float16: both are converted to float32, which is exact.
    """
    values = torch.cat([each.reshape(-1).float().cpu() for each in scores.values()]).numpy()
    values.partition(-keep)
    return float(values[-keep])


def unstructured(scores: Scores, keep: int) -> list[Tensor]:
    """The k largest |s|, ties in any order: it ignores the sign, so it keeps other weights."""
    module = nn.Module()
    for number, each in enumerate(scores.values()):
        module.register_parameter(str(number), nn.Parameter(each, requires_grad=False))
    places = [(module, str(number)) for number in range(len(scores))]
    prune.global_unstructured(
        places,
        pruning_method=prune.L1Unstructured,
        importance_scores=dict(zip(places, scores.values(), strict=True)),
        amount=sum(each.numel() for each in scores.values()) - keep,
    )
    return [module.get_buffer(f"{name}_mask") for _, name in places]


def heap(scores: Scores, keep: int) -> list[Tensor]:
    """Exactly k, ties to the lower index: the optimum in plain Python."""
    values = flat(scores).tolist()
    mask = torch.zeros(len(values), dtype=torch.bool)
    mask[heapq.nlargest(keep, range(len(values)), key=values.__getitem__)] = True
    return by_tensor(mask, scores)


def one_read(scores: Scores, _keep: int) -> list[Tensor]:
    """The sum of each tensor and no mask: a lower bound for methods that read all scores."""
    for each in scores.values():
        each.sum()
    return []


def flat(scores: Scores) -> Tensor:
    """All scores in one vector, tensor by tensor."""
    return torch.cat([each.reshape(-1) for each in scores.values()])


def by_tensor(mask: Tensor, scores: Scores) -> list[Tensor]:
    """A mask of all scores in one vector, split into masks of the tensors."""
    parts = torch.split(mask, [each.numel() for each in scores.values()])
    return [part.view(each.shape) for part, each in zip(parts, scores.values(), strict=True)]


def _patterned(says: str, way: Callable[[Pattern], Select], pattern: Pattern) -> Method:
    return Method(says, way(pattern), lambda each: each + 4, pattern=pattern)


METHODS: Mapping[str, Method] = {
    SELECT: Method("the optimum, exactly k, ties by index", optimum, lambda _: 2),
    DECIDE: Method("the same, and its proof from scores and masks", proved, lambda _: 2),
    KTHVALUE: Method(
        "`torch.kthvalue(torch.cat(…))`, then s ≥ threshold", kthvalue, lambda each: 2 * each + 8
    ),
    TOPK: Method(
        "`torch.topk(torch.cat(…))`, then its indices scattered to masks",
        topk,
        lambda each: 3 * each + 16,
    ),
    PARTITION: Method(
        "`torch.cat(…).numpy()` partitioned in place, then s ≥ threshold",
        partition,
        lambda each: 4 if each >= 4 else 8,
        devices=("cpu",),
    ),
    UNSTRUCTURED: Method(
        "`torch.nn.utils.prune.global_unstructured` with these scores as `importance_scores` (it "
        "ranks \\|s\\|)",
        unstructured,
        lambda each: 10 * each + 16,
    ),
    HEAP: Method(
        "`heapq.nlargest` of the indices, by score", heap, lambda _: 80, 10**6, devices=("cpu",)
    ),
    HALF: _patterned("half of all scores, as a measure of the patterns", by_pins, patterns.HALF),
    ROWS: _patterned("the optimum with half of each row", by_pins, patterns.ROWS),
    "torch.topk, rows": _patterned(
        "`torch.topk` of each row, then its indices scattered", by_topk, patterns.ROWS
    ),
    "torch.sort, rows": _patterned(
        "a stable `torch.sort` of each row, then indices scattered, as Wanda does",
        by_sort,
        patterns.ROWS,
    ),
    TWO_OF_FOUR: _patterned("the optimum with 2 of each 4", by_pins, patterns.TWO_OF_FOUR),
    "torch.topk, 2:4": _patterned(
        "`torch.topk` of each 4, then its indices scattered", by_topk, patterns.TWO_OF_FOUR
    ),
    EIGHT_OF_SIXTEEN: _patterned(
        "the optimum with 8 of each 16", by_pins, patterns.EIGHT_OF_SIXTEEN
    ),
    "torch.topk, 8:16": _patterned(
        "`torch.topk` of each 16, then its indices scattered", by_topk, patterns.EIGHT_OF_SIXTEEN
    ),
    AT_MOST_TWO_OF_FOUR: _patterned(
        "the optimum with k of all scores and at most 2 of each 4",
        by_pins,
        patterns.AT_MOST_TWO_OF_FOUR,
    ),
    READ: Method("the yardstick: `sum()` of each tensor", one_read, lambda _: 0),
}
