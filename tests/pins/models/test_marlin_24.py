"""What compressed-tensors writes as marlin-24 comes back as its quantised weights, each of them.

It has no reader of its own to compare with; its writer is the other side.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from pins.models import marlin_24

WRITER = "compressed_tensors.compressors.sparse_quantized_compressors.marlin_24"


def written(weight: Tensor, bits: int, group: int | None) -> tuple[dict[str, Tensor], Tensor]:
    """The entries of a 2:4 matrix as the library writes them, and the dense matrix they stand for.

    Every scale is another power of two, so that the products are exact.
    """
    writer: Any = pytest.importorskip(WRITER, reason="compressed-tensors has no marlin-24")
    quantization = pytest.importorskip("compressed_tensors.quantization")
    outputs, inputs = weight.shape
    strategy = "channel" if group is None else "group"
    args = quantization.QuantizationArgs(
        num_bits=bits, strategy=strategy, group_size=group, symmetric=True
    )
    groups = 1 if group is None else inputs // group
    scales = 2.0 ** torch.randint(-4, 5, (outputs, groups))
    numbers = weight.clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    whole = (numbers.view(outputs, groups, -1) * scales[:, :, None]).view(weight.shape)
    state = {
        "a.weight": whole,
        "a.weight_scale": scales,
        "a.weight_zero_point": torch.zeros_like(scales, dtype=torch.int8),
    }
    scheme = quantization.QuantizationScheme(targets=["Linear"], weights=args)
    entries = writer.Marlin24Compressor().compress(state, {"a": scheme})
    return entries, whole


def two_of_four(outputs: int, inputs: int, bits: int) -> Tensor:
    numbers = torch.randint(-(2 ** (bits - 1)), 2 ** (bits - 1), (outputs, inputs)).float()
    order = torch.rand(outputs, inputs // 4, 4).argsort(2)
    return numbers * (order < 2).view(outputs, inputs)


@pytest.mark.parametrize(
    ("outputs", "inputs", "bits", "group"),
    [(64, 32, 4, None), (128, 64, 4, None), (64, 96, 8, None), (64, 256, 4, 128),
     (128, 512, 4, 128), (192, 384, 8, 128)],
)  # fmt: skip
def test_what_the_library_writes_is_read(
    outputs: int, inputs: int, bits: int, group: int | None
) -> None:
    torch.manual_seed(outputs + inputs + bits)
    entries, whole = written(two_of_four(outputs, inputs, bits), bits, group)
    own = marlin_24.packed_entries(entries)["a"]
    parts = [entries[name] for name in own]
    assert marlin_24.shape_of(*(part.shape for part in parts)) == (outputs, inputs)
    assert torch.equal(marlin_24.dense(*parts), whole)
    parts[0] = parts[0].clone()
    parts[0][0, 0] ^= 1  # the control: one bit of one number
    assert int((marlin_24.dense(*parts) != whole).sum()) == 1


def test_rows_with_fewer_than_two_of_four_are_read() -> None:
    torch.manual_seed(0)
    entries, whole = written(two_of_four(64, 64, 4) * (torch.rand(64, 64) > 0.3), 4, None)
    found = marlin_24.dense(
        *(entries[f"a.{part}"] for part in ("weight_packed", "meta", "scale_packed"))
    )
    assert torch.equal(found, whole)


def test_entries_that_contradict_each_other_are_refused() -> None:
    packed, meta = torch.zeros(1, 128, dtype=torch.int32), torch.zeros(1, 128, dtype=torch.int16)
    scales = torch.ones(1, 64)
    with pytest.raises(ValueError, match="two numbers of four inputs have one place"):
        marlin_24.dense(packed, meta, scales)
    for wrong in (packed[:, :100], packed[:, :0]):
        with pytest.raises(ValueError, match="no entries of the shapes"):
            marlin_24.dense(wrong, meta, scales)
    with pytest.raises(ValueError, match="no entries of the shapes"):
        marlin_24.shape_of((1, 128), (1, 100), (1, 50))
    with pytest.raises(ValueError, match="has int32 and int16"):
        marlin_24.dense(packed.float(), meta, scales)
    assert marlin_24.packed_entries(["a.meta", "b.weight"]) == {}
