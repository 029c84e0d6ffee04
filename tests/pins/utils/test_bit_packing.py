"""Bools as bits: counted, found, packed and applied as numpy does, whatever the size."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pins.utils import bit_packing
from verification.strategies import DTYPES, shapes

INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
SIZES = (0, 1, 7, 8, 9, 64, 255 * 8, 255 * 8 + 3, 256 * 8, 511 * 8, 3 * 255 * 8 + 16, 5001)


def bools(size: int, seed: int = 0, share: float = 0.5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(size, generator=generator) < share


@st.composite
def views(draw: st.DrawFn) -> Tensor:
    """Bools of any shape, beginning anywhere in their memory, some with gaps or transposed."""
    shape = draw(shapes(max_size=40, min_dims=0, max_dims=3))
    size = int(np.prod(shape))
    offset, stride = draw(st.integers(0, 9)), draw(st.integers(1, 3))
    drawn = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    memory = torch.zeros(offset + size * stride, dtype=torch.bool)
    memory[offset::stride][:size] = torch.tensor(drawn, dtype=torch.bool)
    view = memory[offset::stride][:size].view(shape)
    return view.T if draw(st.booleans()) and view.ndim == 2 else view


@given(views())
def test_ones_are_those_that_numpy_counts(mask: Tensor) -> None:
    assert int(bit_packing.ones(mask)) == np.count_nonzero(mask.numpy())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_ones_are_counted_where_sums_of_bytes_might_run_over(size: int, share: float) -> None:
    mask = bools(size, share=share) if share < 1 else torch.ones(size, dtype=torch.bool)
    assert int(bit_packing.ones(mask)) == int(mask.sum())
    assert bit_packing.ones(mask).dtype == torch.int64


def test_256_words_would_run_over() -> None:
    """The negative control of the number of words that are added as they are."""
    ones = torch.ones(256 * 8, dtype=torch.bool).view(torch.int64)
    assert int(ones[:255].sum()[None].view(torch.uint8).sum()) == 255 * 8
    assert int(ones.sum()[None].view(torch.uint8).sum()) != 256 * 8


@pytest.mark.parametrize("size", [size for size in SIZES if size % 8 == 0])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_positions_are_those_of_the_ones(size: int, share: float) -> None:
    mask = bools(size, share=share) if share < 1 else torch.ones(size, dtype=torch.bool)
    assert bit_packing.positions(mask).tolist() == np.flatnonzero(mask.numpy()).tolist()


@given(st.lists(st.booleans(), max_size=40))
def test_positions_of_any_words_are_those_of_the_ones(drawn: list[bool]) -> None:
    mask = torch.tensor(drawn + [False] * (-len(drawn) % 8), dtype=torch.bool)
    assert bit_packing.positions(mask).tolist() == [i for i, one in enumerate(drawn) if one]


@given(views())
def test_bits_are_those_of_numpy_and_come_back(mask: Tensor) -> None:
    packed = bit_packing.packed(mask)
    assert packed.dtype == torch.uint8
    expected = np.packbits(mask.numpy().reshape(-1), bitorder="little")
    assert packed.tolist() == expected.tolist()
    assert torch.equal(bit_packing.unpacked(packed, mask.shape), mask)


@pytest.mark.parametrize("shape", [(3, 5), (2, 8), (4, 17), (3, 0), (0, 3)])
def test_rows_are_packed_one_by_one(shape: tuple[int, int]) -> None:
    mask = bools(shape[0] * shape[1]).reshape(shape)
    packed = bit_packing.packed_rows(mask)
    expected = np.packbits(mask.numpy(), axis=1, bitorder="little")
    assert packed.dtype == torch.uint8
    assert packed.numpy().tolist() == expected.tolist()
    assert packed.shape == expected.shape
    assert torch.equal(bit_packing.unpacked_rows(packed, shape[1]), mask)


@pytest.mark.parametrize(
    ("bits", "message"),
    [
        (torch.tensor([[7], [8]], dtype=torch.uint8), "a padding bit is set"),
        (torch.tensor([[7, 0]], dtype=torch.uint8), r"\(2,\) of torch\.uint8 cannot hold 3 bits"),
        (torch.tensor([[7]]), r"\(1,\) of torch\.int64 cannot hold 3 bits"),
    ],
)
def test_bits_of_other_rows_are_refused(bits: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bit_packing.unpacked_rows(bits, 3)


@pytest.mark.parametrize("size", SIZES)
def test_bits_are_made_block_by_block(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = bools(size)
    at_once = bit_packing.packed(mask)
    monkeypatch.setattr(bit_packing, "_PACKED", 3)
    assert torch.equal(bit_packing.packed(mask), at_once)
    assert at_once.tolist() == np.packbits(mask.numpy(), bitorder="little").tolist()


def test_the_first_bool_is_the_lowest_bit() -> None:
    assert bit_packing.packed(torch.arange(10) == 0).tolist() == [1, 0]
    assert bit_packing.packed(torch.arange(10) == 9).tolist() == [0, 2]
    assert np.packbits(np.arange(10) == 0).tolist() == [128, 0]  # the other order is another


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("contiguous", [True, False])
def test_cleared_are_plus_zero_and_kept_keep_every_bit(
    dtype: torch.dtype, contiguous: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bit_packing, "_CLEARED", 16)
    special = [float("nan"), -0.0, float("inf"), -float("inf"), -1.5, 0.0, 2.0]
    integer = INTEGERS[dtype.itemsize]
    for shape in ((7, 11), (1, 7), (7, 0), (8, 14), (7,)):
        size = int(np.prod(shape))
        values = torch.tensor(special, dtype=dtype).repeat(size // 7).reshape(shape)
        values.view(integer)[values.isnan()] += 5  # a NaN that is not the usual one
        if not contiguous:
            values = torch.stack([values, values], -1)[..., 0]
        mask = bools(size, seed=size).reshape(shape)
        before, memory = values.contiguous().view(integer), values.data_ptr()
        bit_packing.clear(values, bit_packing.packed(mask))
        assert values.data_ptr() == memory
        assert torch.equal(values.contiguous().view(integer), before.where(mask, 0))


@given(views(), st.sampled_from(DTYPES))
def test_what_is_cleared_are_the_zeros_of_the_mask(mask: Tensor, dtype: torch.dtype) -> None:
    values = torch.full(mask.shape, -1.25, dtype=dtype)
    bit_packing.clear(values, bit_packing.packed(mask))
    assert torch.equal(values, torch.full_like(values, -1.25).where(mask, 0))


def test_parameters_are_cleared_outside_the_graph() -> None:
    parameter = torch.nn.Parameter(torch.ones(3, 3))
    bit_packing.clear(parameter, bit_packing.packed(torch.eye(3, dtype=torch.bool)))
    assert parameter.tolist() == torch.eye(3).tolist()
    assert parameter.requires_grad
    assert parameter.grad_fn is None
