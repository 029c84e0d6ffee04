"""Hypothesis strategies for the objects of PINS: scores, selections, masks, programs, schedules.

For the tests of this package and of packages that build on it; needs the extra 'test'. Examples
are valid unless the docstring says otherwise: the laws must hold for all of them. `assert_law` and
`counterexample` test a law for any selector, whatever Hypothesis profile is loaded.
"""

import contextlib
import itertools
import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, currently_in_test_context, find, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample
from torch import Tensor

from pins.pruning.schedules import CubicSchedule, OneShotSchedule
from verification.counterexample import Counterexample, identity, judge
from verification.laws import Law, Selector

if TYPE_CHECKING:
    from solvers.program import BinaryProgram

Instance = tuple[dict[str, Tensor], int]
"""(importance, keep)."""

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)

_INTEGER = {
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
    torch.float32: torch.int32,
    torch.float64: torch.int64,
}
_SIMPLE = (0.0, 1.0, -1.0, 0.5, 2.0, -0.25)  # exact in every dtype, so tied across tensors


@st.composite
def shapes(
    draw: st.DrawFn, *, min_size: int = 0, max_size: int = 24, min_dims: int = 0, max_dims: int = 3
) -> tuple[int, ...]:
    """Shapes of `min_size` to `max_size` entries in `min_dims` (0 or 1) to `max_dims` dimensions.

    They include zero-size shapes such as (2, 0) and the 0-d shape () of one entry. Shrinks to one
    short dimension.
    """
    size = draw(st.integers(min_size, max_size))
    dims = draw(st.integers(1, max_dims))
    if size == 1 and min_dims == 0 and draw(st.booleans()):
        return ()
    shape: list[int] = []
    rest = size
    for _ in range(dims - 1):
        # with no entry left to place, any size will do
        divisors = [d for d in range(1, rest + 1) if rest % d == 0] or range(4)
        shape.append(draw(st.sampled_from(divisors)))
        rest //= max(shape[-1], 1)
    return (*shape, rest)


class _Floats:
    """The finite floats of a dtype as bit patterns: integers whose sign bit is the float's sign.

    Attributes:
        dtype: of the floats.
        integer: the integer dtype of the same width.
        negative: the pattern of −0.0, the sign bit alone.
        largest: the pattern of the largest finite float.
        simple: the patterns of `_SIMPLE` and of −0.0.
    """

    def __init__(self, dtype: torch.dtype, integer: torch.dtype) -> None:
        self.dtype, self.integer = dtype, integer
        self.negative = int(torch.iinfo(integer).min)
        values = torch.tensor([torch.finfo(dtype).max, *_SIMPLE], dtype=dtype)
        self.largest, *simple = (int(pattern) for pattern in values.view(integer))
        self.simple = (*simple, self.negative)

    def patterns(self) -> st.SearchStrategy[int]:
        """Any pattern; magnitudes are drawn as integers, so that every exponent is likely."""
        ends = [0, 1, 2, self.largest - 1, self.largest]
        magnitudes = st.one_of(st.sampled_from(ends), st.integers(0, self.largest))
        return st.one_of(magnitudes, magnitudes.map(lambda magnitude: self.negative + magnitude))

    def around(self, pattern: int) -> list[int]:
        """The patterns of a float, its two neighbours, and its negative."""
        sign = self.negative if pattern < 0 else 0
        magnitude = pattern - sign
        near = [m for m in (magnitude, magnitude - 1, magnitude + 1) if 0 <= m <= self.largest]
        return [*(sign + m for m in near), self.negative - sign + magnitude]

    def tensor(self, patterns: Sequence[int], shape: Sequence[int]) -> Tensor:
        """The tensor of floats with these patterns."""
        return torch.tensor(patterns, dtype=self.integer).view(self.dtype).reshape(tuple(shape))


_FLOATS = {dtype: _Floats(dtype, integer) for dtype, integer in _INTEGER.items()}


@st.composite
def scores(
    draw: st.DrawFn,
    *,
    min_size: int = 1,
    max_size: int = 24,
    dtypes: Sequence[torch.dtype] = DTYPES,
    min_dims: int = 1,
    max_dims: int = 1,
) -> Tensor:
    """One tensor of finite scores, of one of `dtypes`.

    The entries are a few floats of any size, subnormals and both zeros included, with repetitions,
    negatives and neighbouring floats, so that ties and near-ties at the threshold are frequent.
    Shrinks to a short 1-D tensor of zeros of the first dtype.
    """
    floats = _FLOATS[draw(st.sampled_from(list(dtypes)))]
    shape = draw(shapes(min_size=min_size, max_size=max_size, min_dims=min_dims, max_dims=max_dims))
    size = math.prod(shape)
    centres = draw(st.lists(floats.patterns(), max_size=6)) if size else []
    choice = [*floats.simple, *(near for centre in centres for near in floats.around(centre))]
    drawn = draw(st.lists(st.sampled_from(choice), min_size=size, max_size=size))
    return floats.tensor(drawn, shape)


@st.composite
def score_mappings(
    draw: st.DrawFn,
    *,
    min_tensors: int = 1,
    max_tensors: int = 4,
    max_size: int = 16,
    dtypes: Sequence[torch.dtype] = DTYPES,
    zero_size: bool = False,
) -> dict[str, Tensor]:
    """Named tensors of finite scores, with one or more entries in total.

    Shapes include 0-d ones, and with `zero_size` those without an entry; dtypes are mixed; the
    names are not in alphabetical order. Shrinks to one tensor with a single zero.
    """
    number = draw(st.integers(min_tensors, max_tensors))
    names = draw(st.permutations([f"layer.{i}" for i in range(number)]))
    needed = draw(st.integers(0, number - 1))
    tensor = partial(scores, max_size=max_size, dtypes=dtypes, min_dims=0, max_dims=3)
    least = [int(i == needed or not zero_size) for i in range(number)]
    return {name: draw(tensor(min_size=size)) for name, size in zip(names, least, strict=True)}


@st.composite
def selections(
    draw: st.DrawFn,
    *,
    max_tensors: int = 4,
    max_size: int = 16,
    dtypes: Sequence[torch.dtype] = DTYPES,
    zero_size: bool = False,
) -> Instance:
    """(importance, keep): `score_mappings` of at most `max_size` entries a tensor, 0 ≤ keep ≤ n.

    Shrinks to one tensor with a single zero, nothing kept.
    """
    mappings = score_mappings(
        max_tensors=max_tensors, max_size=max_size, dtypes=dtypes, zero_size=zero_size
    )
    importance = draw(mappings)
    total = sum(tensor.numel() for tensor in importance.values())
    return importance, draw(st.integers(0, total))


@st.composite
def integer_selections(
    draw: st.DrawFn,
    *,
    max_tensors: int = 3,
    max_total: int = 12,
    max_value: int = 100,
    distinct: bool = False,
    zero_size: bool = False,
) -> Instance:
    """(importance, keep): float32 scores that are integers of [−max_value, max_value].

    With `distinct`, no score occurs twice; with `zero_size`, tensors may be empty. Differences
    exceed every tolerance of a floating-point solver. Shrinks to one tensor with a single zero,
    nothing kept.
    """
    integers = st.integers(-max_value, max_value)
    values = draw(st.lists(integers, min_size=1, max_size=max_total, unique=distinct))
    cuts = sorted(draw(st.lists(st.integers(0, len(values)), max_size=max_tensors - 1)))
    pieces = torch.tensor(values, dtype=torch.float32).tensor_split(cuts)
    given = [piece.clone() for piece in pieces if zero_size or piece.numel()]
    importance = {f"layer.{i}": piece for i, piece in enumerate(given)}
    return importance, draw(st.integers(0, len(values)))


def instances(
    law: Law, *, ties: bool = True, zero_size: bool = False
) -> st.SearchStrategy[Instance]:
    """The instances of a law: `selections`, or `integer_selections` if `law.integers`.

    Without `ties`, a law that needs the tie rule gets distinct integers, so that a selector with
    another tie rule can satisfy it. With `zero_size`, tensors without an entry are among them.
    """
    distinct = law.tie_rule and not ties
    if law.integers or distinct:
        return integer_selections(distinct=distinct, zero_size=zero_size)
    return selections(zero_size=zero_size)


def assert_law(
    selector: Selector,
    law: Law,
    *tried_on: st.SearchStrategy[Instance],
    max_examples: int = 1000,
) -> None:
    """Require that `counterexample`, which has the same arguments, finds none.

    Raises:
        AssertionError: the law was seen broken; the message is the text of the `Counterexample`.
    """
    found = counterexample(selector, law, *tried_on, max_examples=max_examples)
    if found is not None:
        raise AssertionError(str(found))


def counterexample(
    selector: Selector,
    law: Law,
    *tried_on: st.SearchStrategy[Instance],
    max_examples: int = 1000,
) -> Counterexample | None:
    """A small (importance, keep) for which the selector breaks the law; None if the search fails.

    Strategies are tried in order, and the counterexample is shrunk. Each instance is judged once,
    so that one on which a random or stateful selector failed is reported as it was seen; for other
    selectors the result is deterministic. The settings of the caller's tests do not matter; within
    a test with @given, the search runs in a thread of its own, and such a test needs deadline=None
    if the search may go beyond the smallest instances. None does not prove the law.

    Args:
        selector: (importance, keep) ↦ mask. It gets copies of the scores, so that changing them has
            no effect. Its exceptions are not caught.
        law: one of `verification.laws.LAWS`, or another `Law`.
        tried_on: strategies from small to large, because searching small instances first is faster
            than shrinking; default: all instances of at most two small integers, then four
            integers, a few floats, and `instances(law)`.
        max_examples: the number of instances of each strategy.

    Raises:
        MaskError: the selector returned a mask that is not a bool tensor of shape (n,).
    """
    verdicts: dict[Hashable, Counterexample | Exception | None] = {}

    def broken(instance: Instance) -> bool:
        key = identity(*instance)
        if key not in verdicts:
            verdicts[key] = judge(selector, law, *instance)
        verdict = verdicts[key]
        if isinstance(verdict, Exception):
            raise verdict
        return verdict is not None

    def found() -> Iterator[Instance]:
        if not tried_on:  # Hypothesis takes longer to start than these take
            yield from filter(broken, itertools.islice(_smallest(), max_examples))
        for strategy in tried_on or _from_small_to_large(law):
            with contextlib.suppress(NoSuchExample):
                yield find(strategy, broken, settings=_search(max_examples))

    def search(gradients: bool) -> Counterexample | None:
        with torch.set_grad_enabled(gradients):
            first = next(found(), None)
        verdict = None if first is None else verdicts[identity(*first)]
        assert not isinstance(verdict, Exception)
        return verdict

    if not currently_in_test_context():
        return search(torch.is_grad_enabled())
    with ThreadPoolExecutor(1) as thread:  # Hypothesis refuses @given in @given in one thread
        return thread.submit(search, torch.is_grad_enabled()).result()


def _search(max_examples: int) -> settings:
    """Settings that take nothing that decides from the profile that is loaded."""
    return settings(
        max_examples=max_examples,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
        deadline=None,
        backend="hypothesis",
    )


def _smallest() -> Iterator[Instance]:
    """All instances of one or two integers of [−2, 2] in one or two tensors, the simplest first."""
    for size, tensors in ((1, 1), (2, 1), (2, 2)):
        for values in itertools.product((0, 1, -1, 2, -2), repeat=size):
            pieces = torch.tensor(values, dtype=torch.float32).tensor_split(tensors)
            for keep in range(size + 1):
                yield {f"layer.{i}": piece.clone() for i, piece in enumerate(pieces)}, keep


def _from_small_to_large(law: Law) -> tuple[st.SearchStrategy[Instance], ...]:
    floats = () if law.integers else (selections(max_tensors=2, max_size=4),)
    return integer_selections(max_total=4, max_value=4), *floats, instances(law)


@st.composite
def masks_for(draw: st.DrawFn, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A bool mask of the shape of each of `tensors`; shrinks to masks that keep nothing."""
    return {name: draw(_mask(tuple(tensor.shape))) for name, tensor in tensors.items()}


@st.composite
def masks(
    draw: st.DrawFn, *, min_tensors: int = 0, max_tensors: int = 4, max_size: int = 40
) -> dict[str, Tensor]:
    """Named bool masks of any shape, zero-size and 0-d ones included.

    The names are not in alphabetical order. Shrinks to `min_tensors` empty masks.
    """
    number = draw(st.integers(min_tensors, max_tensors))
    names = draw(st.permutations([f"layer.{i}" for i in range(number)]))
    return {name: draw(_mask(draw(shapes(max_size=max_size)))) for name in names}


@st.composite
def _mask(draw: st.DrawFn, shape: tuple[int, ...]) -> Tensor:
    size = math.prod(shape)
    bits = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    return torch.tensor(bits, dtype=torch.bool).reshape(shape)


@st.composite
def programs(
    draw: st.DrawFn, *, max_size: int = 7, max_rows: int = 3, max_value: int = 9
) -> "BinaryProgram":
    """Small 0-1 programs in integers of [−max_value, max_value], feasible or not.

    Floating-point solvers are exact for them. Shrinks to one variable of cost 0, without rows.
    """
    # imported here, so that the laws do not need the solvers and PuLP
    from scipy import sparse

    from solvers.program import BinaryProgram, Sense

    size = draw(st.integers(1, max_size))
    rows = draw(st.integers(0, max_rows))
    numbers = st.integers(-max_value, max_value).map(float)
    row = st.lists(numbers, min_size=size, max_size=size)
    entries = draw(st.lists(row, min_size=rows, max_size=rows))
    return BinaryProgram(
        objective=np.array(draw(row), dtype=np.float64),
        matrix=sparse.csr_array(np.array(entries, dtype=np.float64).reshape(rows, size)),
        senses=tuple(draw(st.lists(st.sampled_from(Sense), min_size=rows, max_size=rows))),
        rhs=np.array(draw(st.lists(numbers, min_size=rows, max_size=rows)), dtype=np.float64),
    )


_RATIOS = (st.floats(0.0, 1.0), st.fractions(0, 1, max_denominator=1000))


def sparsities() -> st.SearchStrategy[float | Fraction]:
    """Ratios in [0, 1] as floats and as fractions; shrinks to 0.0."""
    return st.one_of(*_RATIOS)


def schedules(*, max_steps: int = 60) -> st.SearchStrategy[CubicSchedule | OneShotSchedule]:
    """Valid schedules of both kinds that end within `max_steps` steps.

    Shrinks to a one-shot schedule at step 1 that prunes nothing.
    """
    one_shot = st.builds(OneShotSchedule, final_sparsity=sparsities(), at=st.integers(1, max_steps))
    return st.one_of(one_shot, cubic_schedules(max_steps=max_steps))


@st.composite
def cubic_schedules(draw: st.DrawFn, *, max_steps: int = 60) -> CubicSchedule:
    """Valid cubic schedules of at most `max_steps` steps; shrinks to one step that prunes nothing.

    Both sparsities have the same type: float, or fraction.
    """
    steps = draw(st.integers(1, max_steps))
    warmup = draw(st.integers(0, steps - 1))
    ratios: st.SearchStrategy[float | Fraction] = draw(st.sampled_from(_RATIOS))
    first, second = draw(ratios), draw(ratios)
    return CubicSchedule(
        steps=steps,
        final_sparsity=max(first, second),
        initial_sparsity=min(first, second),
        warmup=warmup,
        cooldown=draw(st.integers(0, steps - 1 - warmup)),
        interval=draw(st.integers(1, max_steps)),
    )
