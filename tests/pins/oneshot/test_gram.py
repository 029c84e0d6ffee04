"""Gram matrices are XᵀX of what the layers read."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pins.distributed.process_group import Group, SingleProcess
from pins.errors import CalibrationError
from pins.models.decoder import Decoder
from pins.oneshot.gram import Grams, inputs_of, linear_layers, shares
from tests.pins.oneshot.tiny_decoders import PASSED, save_decoder, window
from verification.testing.threaded_group import together


class Toy(nn.Module):
    """Two layers that read one tensor, a third one, and one that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.unused = (nn.Linear(4, 3, bias=False) for _ in range(4))

    def forward(self, x: Tensor, apart: bool = False) -> Tensor:
        other = x.clone() if apart else x
        return self.a(x) + self.b(other) + self.c(x * 2)  # type: ignore[no-any-return]


def integers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(-9, 9, shape, generator=torch.Generator().manual_seed(seed)).float()


def test_sums_over_windows_are_exact_for_integers_and_shared() -> None:
    toy = Toy()
    grams = Grams(linear_layers(toy))
    windows = [integers(2, 5, 4, seed=seed) for seed in range(3)]
    for each in windows:
        with grams.watching():
            toy(each)
    grams.add()
    toy(windows[0])  # outside, nothing is added
    read = torch.cat(windows).view(-1, 4).double()
    assert torch.equal(grams.of("a"), read.T @ read)
    assert torch.equal(grams.of("c"), 4 * (read.T @ read))
    assert grams.of("a") is grams.of("b")
    assert grams.vectors("a") == grams.vectors("c") == 30
    assert grams.rounding == 0
    assert torch.equal(grams.of("unused"), torch.zeros(4, 4, dtype=torch.float64))
    assert grams.vectors("unused") == 0


def test_layers_that_part_are_a_defect() -> None:
    toy = Toy()
    grams = Grams(linear_layers(toy))
    with grams.watching():
        toy(integers(3, 4))
    with pytest.raises(AssertionError, match="read different ones"), grams.watching():
        toy(integers(3, 4), apart=True)


def test_bfloat16_is_raised_to_float32_before_the_product() -> None:
    toy, read = Toy().bfloat16(), torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    grams = Grams(linear_layers(toy))
    for _ in range(2):
        with grams.watching():
            toy(read.bfloat16())
    grams.add()
    wide = read.bfloat16().double()
    right = 2 * (wide.T @ wide)
    assert torch.allclose(grams.of("a"), right, rtol=1e-6, atol=0)
    assert not torch.allclose(2 * (read.bfloat16().T @ read.bfloat16()).double(), right, rtol=1e-6)
    assert 0 < grams.rounding < 1e-6


def test_what_is_changed_after_it_was_read_is_summed_as_it_was_read() -> None:
    toy, read = Toy(), integers(3, 4)
    before = read.double()
    grams = Grams(linear_layers(toy))
    with grams.watching():
        toy(read)
        read.zero_()
    grams.add()
    assert torch.equal(grams.of("a"), before.T @ before)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30])
def test_what_is_not_finite_names_the_layer(value: float) -> None:
    toy, read = Toy(), integers(3, 4)
    grams = Grams(linear_layers(toy))
    with grams.watching():
        toy(read)
    grams.add()
    read[1, 2] = value
    with grams.watching():
        toy(read)
    with pytest.raises(CalibrationError, match="'a' reads NaN or infinity"):
        grams.add()
    assert not toy.a._forward_pre_hooks


@pytest.mark.parametrize("kind", PASSED)
def test_layers_of_a_block_have_the_matrices_of_their_inputs(kind: str, tmp_path: Path) -> None:
    decoder = Decoder.open(str(save_decoder(tmp_path, kind)))
    states = [decoder.first(window(seed=seed)) for seed in range(3)]
    with decoder.loaded(0) as block:
        layers, read = linear_layers(block), dict[str, list[Tensor]]()
        assert len(layers) >= 4
        grams = Grams(layers)

        def record(name: str) -> Any:
            return lambda _, given: read.setdefault(name, []).append(given[0].flatten(0, -2))

        for name, layer in layers.items():
            layer.register_forward_pre_hook(record(name))
        for state in states:
            with grams.watching():
                decoder.through(block, 0, state)
        grams.add()
    for name, layer in layers.items():
        inputs = torch.cat(read[name]).double()
        right = inputs.T @ inputs
        assert right.shape == (inputs_of(layer),) * 2
        assert float((grams.of(name) - right).norm() / right.norm()) < 1e-6
        assert grams.vectors(name) == len(inputs)
        assert ".experts." in name or len(inputs) == 36
    assert grams.rounding < 1e-6
    if kind == "Llama":
        attention = [grams.of(f"self_attn.{each}_proj") for each in "qkv"]
        assert attention[0] is attention[1] is attention[2]
        assert grams.of("mlp.gate_proj") is grams.of("mlp.up_proj")
        assert grams.of("mlp.gate_proj") is not attention[0]


class Rank(SingleProcess):
    """A rank that has nobody to talk to."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size


def summed(windows: list[Tensor], size: int) -> list[tuple[Tensor, int, float]]:
    """G of a layer on each rank, its vectors, and the rounding told by rank 0."""

    def work(group: Group) -> tuple[Tensor, int, float]:
        toy = Toy()
        grams = Grams(linear_layers(toy), group)
        for slot in shares(range(len(windows)), group):
            for number in slot:
                with grams.watching():
                    toy(windows[number])
            grams.add()
        return grams.of("b"), grams.vectors("b"), grams.rounding

    return together(size, work)


@given(number=st.integers(0, 40), size=st.integers(1, 10))
def test_each_window_is_of_one_rank(number: int, size: int) -> None:
    own = [shares(range(number), rank) for rank in (Rank(each, size) for each in range(size))]
    assert len({len(slots) for slots in own}) == 1
    assert sorted(w for slots in own for slot in slots for w in slot) == [*range(number)]


@given(seed=st.integers(0, 10**6), number=st.integers(1, 19), size=st.integers(2, 9))
def test_the_sum_has_the_same_bits_for_any_number_of_ranks(
    seed: int, number: int, size: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    windows = [torch.randn(5, 4, generator=generator) for _ in range(number)]
    ((right, vectors, rounding),) = summed(windows, 1)
    found = summed(windows, size)
    assert vectors == 5 * number
    assert all(torch.equal(gram, right) and count == vectors for gram, count, _ in found)
    assert found[0][2] == rounding


def test_the_sum_depends_on_the_order_of_the_windows() -> None:
    generator = torch.Generator().manual_seed(0)
    scales = torch.logspace(-5, 5, 40)
    windows = [torch.randn(5, 4, generator=generator) * scale for scale in scales]
    ((one, *_),), ((other, *_),) = summed(windows, 1), summed(windows[::-1], 1)
    assert torch.allclose(one, other)
    assert not torch.equal(one, other)


def test_what_is_not_finite_on_one_rank_is_told_by_all() -> None:
    def work(group: Group) -> str:
        toy = Toy()
        grams = Grams(linear_layers(toy), group)
        with grams.watching():
            toy(integers(3, 4) if group.rank else integers(3, 4) * math.nan)
        with pytest.raises(CalibrationError, match="'a' reads NaN"):
            grams.add()
        return "raised"

    assert together(3, work) == ["raised"] * 3
