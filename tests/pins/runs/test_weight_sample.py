"""A sample of weights: spread over each tensor, exact in its numbers, whole on disk."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pins.errors import CriterionError, FileError, ObservationError
from pins.importance.criteria import CRITERIA
from pins.runs import weight_sample
from pins.runs.weight_sample import GROUPS, LEAST, WeightSample, flat_indices, sample_sizes, take
from pins.selection.select import select
from pins.utils.io import save_tensors
from verification.strategies import score_mappings


def drawn(*shapes: tuple[int, ...], seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {f"layer.{i}": torch.randn(shape, generator=generator) for i, shape in enumerate(shapes)}


def sample_of(*shapes: tuple[int, ...], curvature: bool = True) -> WeightSample:
    weights = drawn(*shapes)
    return take(
        weights,
        drawn(*shapes, seed=1),
        {name: w.square() for name, w in weights.items()} if curvature else None,
        learning_rate=0.25,
        sparsity=0.75,
        description="made up",
    )


SHAPES = ((40, 30), (7,), (200, 200), ())


def test_each_weight_comes_from_where_the_sample_says() -> None:
    weights, gradient, sample = drawn(*SHAPES), drawn(*SHAPES, seed=1), sample_of(*SHAPES)
    for name, weight in weights.items():
        index = sample.indices(name)
        assert torch.equal(sample.weights[name], weight.reshape(-1)[index])
        assert torch.equal(sample.gradient[name], gradient[name].reshape(-1)[index])
        assert sample.curvature is not None
        assert torch.equal(sample.curvature[name], weight.square().reshape(-1)[index])
        assert index.tolist() == sorted(set(index.tolist()))
        assert sample.shapes[name] == weight.shape


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 10**6), max_size=6), st.integers(0, 999))
def test_every_tensor_gives_its_share_and_small_ones_what_they_have(
    sizes: dict[str, int], size: int
) -> None:
    taken, total = sample_sizes(sizes, size), sum(sizes.values())
    for name, own in sizes.items():
        assert min(own, LEAST) <= taken[name] <= own
        assert taken[name] == own or taken[name] % GROUPS == 0
        if own > LEAST and total:
            assert taken[name] >= min(own * size / total, own) * (1 - 1e-12)
    assert sum(taken.values()) <= size + (LEAST + 1) * len(sizes)


def test_a_small_model_is_its_own_sample_and_ranked_as_a_whole() -> None:
    sample = sample_of((12, 5), (3,))
    assert sample.total == 63
    whole = torch.cat([w.reshape(-1) for w in drawn((12, 5), (3,)).values()])
    assert torch.equal(torch.cat(list(sample.weights.values())), whole)
    assert torch.equal(
        torch.cat(list(select(sample.importance("magnitude", 0.0), 20).values())),
        select(whole.abs(), 20),
    )


@pytest.mark.parametrize("name", [n for n, criterion in CRITERIA.items() if not criterion.adaptive])
def test_scores_are_the_criterion_of_the_step_in_float64(name: str) -> None:
    sample = sample_of((30, 30))
    weight, gradient = (part["layer.0"].double() for part in (sample.weights, sample.gradient))
    after = weight - 0.25 * gradient
    formula = {
        "pins": -gradient * after,
        "abs-pins": (gradient * after).abs(),
        "magnitude": after.abs(),
        "sensitivity": (gradient * weight).abs(),
        "movement": -gradient * weight,
        "obd": 0.5 * weight.float().square().double() * after.square(),
    }[name]
    assert torch.equal(sample.importance(name)["layer.0"], formula)
    assert sample.importance(name)["layer.0"].dtype == torch.float64
    at_rest = sample.importance(name, 0.0)["layer.0"]
    assert torch.equal(at_rest, formula) == (name in ("sensitivity", "movement"))


def test_what_is_missing_is_named() -> None:
    sample = sample_of((4, 4), curvature=False)
    with pytest.raises(ObservationError, match="reads a diagonal curvature, and there is none"):
        sample.importance("obd")
    with pytest.raises(CriterionError, match="no criterion 'taylor'"):
        sample.importance("taylor")


@given(score_mappings(dtypes=(torch.float32,), zero_size=True), st.booleans())
def test_what_is_saved_is_loaded_bit_for_bit(tensors: dict[str, Tensor], curved: bool) -> None:
    import tempfile

    kept = take(
        tensors,
        {name: -tensor for name, tensor in tensors.items()},
        {name: tensor.abs() for name, tensor in tensors.items()} if curved else None,
        learning_rate=0.1,
        sparsity=1 / 3,
        description="a “name” with / and é",
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sample.safetensors"
        weight_sample.save(kept, path)
        loaded = weight_sample.load(path)
    assert (loaded.curvature is None) == (not curved)
    for field in ("learning_rate", "sparsity", "description", "shapes"):
        assert getattr(loaded, field) == getattr(kept, field)
    assert list(loaded.weights) == list(tensors)
    for field in ("weights", "gradient", *(["curvature"] if curved else [])):
        for name, tensor in getattr(kept, field).items():
            found = getattr(loaded, field)[name]
            assert torch.equal(found.view(torch.int32), tensor.view(torch.int32))


def test_another_file_is_no_sample(tmp_path: Path) -> None:
    path = tmp_path / "scores.safetensors"
    save_tensors({"w": torch.ones(3)}, path, {"format": "pins-scores", "version": "1"})
    with pytest.raises(FileError, match="is no sample of weights of version 1: its format is 'pin"):
        weight_sample.load(path)
    save_tensors({"w": torch.ones(3)}, path, {"format": "pins-weight-sample", "version": "1"})
    with pytest.raises(FileError, match="is no whole sample of weights"):
        weight_sample.load(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shapes": []}, "has no attribute 'items'"),
        ({"shapes": {}}, "there is no 'w'"),
        ({"shapes": {"w": ["3"]}}, "'str'"),
        ({"shapes": {"w": [2]}}, r"'w' is \(3,\), a sample of \(2,\)"),
        ({"shapes": {"w": [-3, -1]}}, r"'w' is \(3,\), a sample of \(-3, -1\)"),
        ({"sparsity": None}, "NoneType"),
        ({"sparsity": 1.5}, "sparsity 1.5 is out of range"),
        ({"learning_rate": float("nan")}, "learning rate nan .* is out of range"),
        ({"learning_rate": 10**400}, "too large to convert to float"),
    ],
)
def test_values_that_no_sample_has_are_one_line(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    about = {"shapes": {"w": [3]}, "learning_rate": 0.1, "sparsity": 0.5, "description": ""}
    parts = {"weights/w": torch.ones(3), "gradient/w": torch.ones(3)}
    header = {"format": "pins-weight-sample", "version": "1"}
    path = tmp_path / "sample.safetensors"
    save_tensors(parts, path, {**header, "about": json.dumps(about)})
    assert weight_sample.load(path).total == 3
    save_tensors(parts, path, {**header, "about": json.dumps(about | changes)})
    with pytest.raises(FileError, match=rf"\A.*is no whole sample of weights: .*{message}.*\Z"):
        weight_sample.load(path)
    for wrong in (torch.ones(2), torch.ones(3, dtype=torch.int32), torch.ones(3, 1)):
        save_tensors(parts | {"gradient/w": wrong}, path, {**header, "about": json.dumps(about)})
        with pytest.raises(FileError, match="differ in names, shapes or dtype"):
            weight_sample.load(path)


def test_sixteen_bits_are_widened() -> None:
    half = {name: weight.to(torch.bfloat16) for name, weight in drawn((9, 9)).items()}
    sample = take(half, half, None, learning_rate=0.0, sparsity=0.5, description="")
    assert torch.equal(sample.weights["layer.0"], half["layer.0"].reshape(-1).float())


def test_places_of_a_whole_tensor_are_all() -> None:
    assert flat_indices(7, 7).tolist() == list(range(7))
