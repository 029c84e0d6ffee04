"""Masks: applied exactly, counted exactly, and stored one bit per weight."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from pins import masks
from pins.errors import FileError, MaskError
from pins.masks import FORMAT, Count, Overlap, PackedMasks
from verification.strategies import masks as mask_mappings
from verification.strategies import masks_for, score_mappings

TRUE, FALSE = torch.tensor([True]), torch.tensor([False])


def scratch(factory: pytest.TempPathFactory) -> Path:
    """One file that all examples of a test write in turn."""
    return factory.getbasetemp() / "mask.safetensors"


@given(st.data())
def test_applied_masks_leave_kept_weights_alone_and_make_the_others_plus_zero(
    data: st.DataObject,
) -> None:
    tensors = data.draw(score_mappings(zero_size=True))
    mask = data.draw(masks_for(tensors))
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    masks.apply(mask, tensors)
    for name, tensor in tensors.items():
        kept = mask[name]
        assert torch.equal(tensor[kept], before[name][kept])
        assert torch.equal(tensor[kept].signbit(), before[name][kept].signbit())
        assert not tensor[~kept].any()
        assert not tensor[~kept].signbit().any()


def test_pruned_weights_become_plus_zero_also_where_they_were_not_finite() -> None:
    weights = {"w": torch.tensor([float("nan"), float("inf"), -1.0, -0.0, 2.0])}
    masks.apply({"w": torch.tensor([False, False, False, False, True])}, weights)
    assert weights["w"].tolist() == [0, 0, 0, 0, 2]
    assert not weights["w"].signbit().any()
    # a product would not do
    assert not (torch.tensor([float("nan"), -1.0]) * 0 == 0).all()


def test_masks_are_applied_to_parameters_in_place_and_outside_the_graph() -> None:
    parameter = torch.nn.Parameter(torch.ones(2, 3).t().contiguous().t())
    memory = parameter.data_ptr()
    mask = torch.tensor([[True, False, True], [False, True, False]])
    masks.apply({"w": mask}, {"w": parameter})
    assert parameter.data_ptr() == memory
    assert parameter.tolist() == mask.tolist()
    assert parameter.is_leaf


def test_masks_of_other_tensors_are_not_applied() -> None:
    weights = {"a": torch.ones(1), "b": torch.ones(2)}
    with pytest.raises(MaskError, match="'c' has a mask but no tensor"):
        masks.apply({"a": FALSE, "c": FALSE}, weights)
    with pytest.raises(MaskError, match=r"shape \(1,\), the tensor has shape \(2,\)"):
        masks.apply({"a": FALSE, "b": FALSE}, weights)
    assert weights["a"].tolist() == [1]  # nothing was done by half


def test_masks_are_applied_to_all_parameters_of_a_model() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    masks.apply({"0.weight": torch.eye(3, 2).bool()}, dict(model.named_parameters()))
    for name, parameter in model.named_parameters():
        kept = torch.eye(3, 2) if name == "0.weight" else 1
        assert torch.equal(parameter, before[name] * kept), name


def test_a_pruned_weight_of_either_zero_is_not_broken() -> None:
    mask = {"w": torch.tensor([False, False, False, False, True])}
    assert masks.count_broken(mask, {"w": torch.tensor([0.0, -0.0, 0.0, -0.0, 1.0])}) == 0
    assert masks.count_broken(mask, {"w": torch.tensor([1e-45, -0.0, float("nan"), 0, 0])}) == 2


@given(mask_mappings())
def test_counts_are_sums_of_ones(mask: dict[str, Tensor]) -> None:
    each = masks.count_each(mask)
    assert each == {
        name: Count(sum(m.reshape(-1).tolist()), len(m.reshape(-1))) for name, m in mask.items()
    }
    whole = masks.count(mask)
    assert whole.kept == sum(count.kept for count in each.values())
    assert whole.total == sum(count.total for count in each.values())


def test_sparsity_is_one_minus_the_kept_ratio() -> None:
    assert Count(1, 4).sparsity == 0.75
    assert Count(0, 0).sparsity == 0.0


@given(st.data())
def test_overlaps_count_pairs_of_bits(data: st.DataObject) -> None:
    first = data.draw(mask_mappings())
    second = data.draw(masks_for(first))
    pairs = [
        pair
        for name in first
        for pair in zip(
            first[name].reshape(-1).tolist(), second[name].reshape(-1).tolist(), strict=True
        )
    ]
    overlap = masks.compare(first, second)
    assert overlap == Overlap(
        both=pairs.count((True, True)),
        first_only=pairs.count((True, False)),
        second_only=pairs.count((False, True)),
        neither=pairs.count((False, False)),
    )
    assert overlap.kept_jaccard == masks.compare(second, first).kept_jaccard
    assert masks.compare(first, first).kept_jaccard == 1
    assert masks.compare(first, first).pruned_jaccard == 1


def test_jaccard_indices_are_intersection_over_union() -> None:
    overlap = Overlap(both=1, first_only=2, second_only=1, neither=6)
    assert overlap.kept_jaccard == 1 / 4
    assert overlap.pruned_jaccard == 6 / 9
    assert Overlap(0, 0, 0, 0).kept_jaccard == 1
    assert Overlap(0, 0, 0, 0).pruned_jaccard == 1


@pytest.mark.parametrize("wrong", [torch.tensor([1.0]), torch.tensor([2], dtype=torch.uint8)])
def test_what_is_no_mask_is_not_compared(wrong: Tensor) -> None:
    with pytest.raises(MaskError, match=r"masks are torch\.bool"):
        masks.compare({"w": TRUE}, {"w": wrong})
    with pytest.raises(MaskError, match=r"masks are torch\.bool"):
        masks.compare({"w": wrong}, {"w": TRUE})


@given(mask=mask_mappings())
def test_saved_masks_come_back(
    tmp_path_factory: pytest.TempPathFactory, mask: dict[str, Tensor]
) -> None:
    path = scratch(tmp_path_factory)
    masks.save(mask, path)
    loaded = masks.load(str(path))
    assert list(loaded) == list(mask)
    for name, original in mask.items():
        assert loaded[name].dtype == torch.bool
        assert loaded[name].shape == original.shape
        assert torch.equal(loaded[name], original)


@given(mask=mask_mappings(min_tensors=1))
def test_bit_i_mod_8_of_byte_i_over_8_is_weight_i(
    tmp_path_factory: pytest.TempPathFactory, mask: dict[str, Tensor]
) -> None:
    path = scratch(tmp_path_factory)
    masks.save(mask, path)
    packed = load_file(path)
    for name, original in mask.items():
        bits = original.reshape(-1).tolist()
        read = [bool(int(packed[name][i // 8]) >> (i % 8) & 1) for i in range(len(bits))]
        assert read == bits
        assert packed[name].shape == (math.ceil(len(bits) / 8),)


def test_a_mask_with_strides_is_saved_in_row_major_order(tmp_path: Path) -> None:
    mask = torch.tensor([[True, False, False], [True, True, False]]).t()
    masks.save({"w": mask}, tmp_path / "mask")
    assert torch.equal(masks.load(tmp_path / "mask")["w"], mask)


def test_only_bools_are_saved(tmp_path: Path) -> None:
    with pytest.raises(
        MaskError, match=r"the mask of 'w' is torch\.float32: masks are torch\.bool"
    ):
        masks.save({"w": torch.ones(1)}, tmp_path / "mask")
    assert not (tmp_path / "mask").exists()


def test_plain_bool_tensors_are_masks_too(tmp_path: Path) -> None:
    mask = {"a": torch.tensor([[True, False]]), "b": torch.tensor(True)}
    save_file(mask, tmp_path / "mask")
    loaded = masks.load(tmp_path / "mask")
    assert {name: m.tolist() for name, m in loaded.items()} == {"a": [[True, False]], "b": True}


def test_plain_tensors_of_another_dtype_are_not(tmp_path: Path) -> None:
    save_file({"w": torch.ones(1)}, tmp_path / "mask")
    message = "is not a pins-mask file: its metadata says None version None"
    with pytest.raises(FileError, match=message):
        masks.load(tmp_path / "mask")


def test_a_later_version_is_refused(tmp_path: Path) -> None:
    save_file(
        {"w": torch.ones(1, dtype=torch.uint8)},
        tmp_path / "mask",
        metadata={**FORMAT, "version": "2"},
    )
    with pytest.raises(FileError, match="its metadata says 'pins-mask' version '2'"):
        masks.load(tmp_path / "mask")


@given(data=st.data())
def test_a_mask_file_cut_short_anywhere_is_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = scratch(tmp_path_factory)
    masks.save({"w": torch.ones(20, dtype=torch.bool)}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(FileError, match="is not a whole safetensors file"):
        masks.load(path)


def tampered(path: Path, shapes: Any, packed: Tensor) -> Path:
    """A mask file of one tensor whose metadata says `shapes`."""
    text = shapes if isinstance(shapes, str) else json.dumps(shapes)
    save_file({"w": packed}, path, metadata={**FORMAT, "order": '["w"]', "shapes": text})
    return path


BYTE = torch.tensor([0b1011], dtype=torch.uint8)


def test_the_untampered_file_is_read(tmp_path: Path) -> None:
    path = tampered(tmp_path / "mask", {"w": [2, 2]}, BYTE)
    assert masks.load(path)["w"].tolist() == [[True, True], [False, True]]


@pytest.mark.parametrize(
    ("shapes", "packed", "message"),
    [
        ({"w": [3]}, BYTE, "a padding bit is set"),
        ({"w": [9]}, BYTE, r"\(1,\) of torch\.uint8 cannot hold 9 bits"),
        ({"w": [0]}, BYTE, "cannot hold 0 bits"),
        ({"w": [4]}, BYTE.int(), r"of torch\.int32 cannot hold 4 bits"),
        ({"w": [4]}, BYTE[None], r"\(1, 1\) of torch\.uint8 cannot hold 4 bits"),
        ({"v": [4]}, BYTE, "'w'"),
        ({"w": None}, BYTE, "damaged"),
        ({"w": [4.0]}, BYTE, "damaged"),
        ({"w": "4"}, BYTE, "damaged"),
        ({"w": [[2, 2]]}, BYTE, "damaged"),
        ({"w": [-1, -8]}, BYTE, "damaged"),
        ({"w": [-1]}, BYTE[:0], "damaged"),
        ({"w": [2**62, 4]}, BYTE[:0], "damaged"),
        ({"w": [2**70]}, BYTE, "damaged"),
        ([4], BYTE, "damaged"),
        (None, BYTE, "damaged"),
        ("{", BYTE, "damaged"),
        ("[" * 100_000, BYTE, "damaged"),
    ],
    ids=range(18),
)
def test_a_tampered_mask_file_is_refused(
    tmp_path: Path, shapes: Any, packed: Tensor, message: str
) -> None:
    path = tampered(tmp_path / "mask", shapes, packed)
    with pytest.raises(FileError, match=f"damaged.*{message}" if message != "damaged" else message):
        masks.load(path)


def test_shapes_missing_from_the_metadata_are_missed(tmp_path: Path) -> None:
    save_file({"w": BYTE}, tmp_path / "mask", metadata={**FORMAT, "order": '["w"]'})
    with pytest.raises(FileError, match="is a damaged mask file: there is no 'shapes'"):
        masks.load(tmp_path / "mask")


def test_there_must_be_a_file(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="is not a file"):
        masks.load(tmp_path / "mask")


# ---- Packed in memory ----------------------------------------------------------------------------


@given(mask_mappings())
def test_packed_masks_are_the_masks_again(drawn: dict[str, Tensor]) -> None:
    packed = PackedMasks(drawn)
    assert (list(packed), len(packed)) == (list(drawn), len(drawn))
    for name, mask in drawn.items():
        assert packed[name].dtype == torch.bool
        assert torch.equal(packed[name], mask)
        assert packed[name] is not packed[name]  # made whenever it is asked for
    with pytest.raises(KeyError, match="missing"):
        packed["missing"]


@given(st.data())
def test_packed_masks_are_applied_as_masks_are(data: st.DataObject) -> None:
    tensors = data.draw(score_mappings(zero_size=True))
    mask = data.draw(masks_for(tensors))
    others = {name: tensor.clone() for name, tensor in tensors.items()}
    masks.apply(mask, tensors)
    PackedMasks(mask).apply(others)
    for name, tensor in tensors.items():
        assert torch.equal(tensor, others[name])
        assert torch.equal(tensor.signbit(), others[name].signbit())


def test_packed_masks_take_a_bit_a_weight() -> None:
    packed = PackedMasks({"w": torch.ones(100, 81, dtype=torch.bool)})
    assert sum(bits.numel() * bits.element_size() for bits in packed._bits.values()) == 1013


def test_packed_masks_are_applied_to_parameters_in_place_whatever_stood_there() -> None:
    parameter = torch.nn.Parameter(torch.tensor([[float("nan"), -1.0], [-2.0, 3.0]]).t())
    memory = parameter.data_ptr()
    PackedMasks({"w": torch.eye(2, dtype=torch.bool).flip(0)}).apply({"w": parameter})
    assert parameter.data_ptr() == memory
    assert parameter.tolist() == [[0, -2], [-1, 0]]
    assert not parameter.diagonal().signbit().any()
