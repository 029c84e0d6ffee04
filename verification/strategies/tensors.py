"""Strategies of tensors: shapes, scores of any float dtype, named scores, masks."""

import math
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from hypothesis import strategies as st
from torch import Tensor

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
