"""A claim is about the layers that it names, and true as it is written; a lie is found."""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from pins.errors import FileError
from pins.models.stored_model import StoredModel
from pins.utils.io import write_json
from verification.audit.claims import Facts, claims_of, ratio

LAYERS = [
    Facts("model.embed_tokens.weight", 100, 10_000, 10_000, 0, {100: 100}),
    Facts("model.layers.0.mlp.up_proj.weight", 100, 10_000, 5_000, 40, {100: 60, 4: 2}),
    Facts("model.layers.1.mlp.up_proj.weight", 100, 10_000, 5_020, 0, {100: 60, 4: 3}),
    Facts("model.norm.weight", 1, 100, 100, 0, {}),
    Facts("lm_head.weight", 100, 10_000, 10_000, 0, {100: 100}),
]
UP = "model.layers.{}.mlp.up_proj"


def ruled(said: Mapping[str, Any], place: Path, where: str = "quantization_config") -> list[Any]:
    model = StoredModel(place, (), {where: {"sparsity_config": said}}, {})
    return [claim.rule(LAYERS) for claim in claims_of(model)]


@pytest.mark.parametrize(
    ("said", "true"),
    [
        ({"global_sparsity": 0.5, "ignore": ["lm_head"]}, True),
        ({"global_sparsity": 0.5, "ignore": ["re:.*head"], "targets": ["Linear"]}, True),
        ({"global_sparsity": 50, "targets": ["re:.*up_proj"]}, True),
        ({"global_sparsity": 49.9, "targets": [UP.format(0), UP.format(1)]}, True),
        ({"global_sparsity": 0.2475}, True),  # of the whole model, to the digits written
        ({"global_sparsity": 0.33}, True),  # with the output matrix
        ({"global_sparsity": 0.5}, False),
        ({"global_sparsity": 0.52, "ignore": ["lm_head"]}, False),
        ({"global_sparsity": 0.9, "targets": [UP.format(9)]}, False),
        ({"sparsity_structure": "2:4", "targets": [UP.format(0)]}, True),
        ({"sparsity_structure": "2:4", "targets": [UP.format(1)]}, False),
        ({"sparsity_structure": "2:4", "ignore": ["lm_head"]}, False),
        ({"sparsity_structure": "3:4", "ignore": ["lm_head"]}, True),
    ],
)
def test_claims_of_compressed_tensors(said: dict[str, Any], true: bool, tmp_path: Path) -> None:
    for where in ("quantization_config", "compression_config"):
        [found] = ruled(said, tmp_path, where)
        assert found["true"] == true, found
    assert found["key"].startswith("sparsity_config.")
    assert found["claimed"] in said.values()


@pytest.mark.parametrize(
    "said", [{}, {"global_sparsity": 0.0}, {"sparsity_structure": "unstructured"}]
)
def test_what_claims_nothing(said: dict[str, Any], tmp_path: Path) -> None:
    assert ruled(said, tmp_path) == []


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"global_sparsity": "much"}, "'much' is no sparsity"),
        ({"global_sparsity": 101}, "101 is no sparsity"),
        ({"global_sparsity": float("nan")}, "nan is no sparsity"),
        ({"global_sparsity": 0.5, "targets": ["re:("]}, "'re:\\(' is no pattern"),
        ({"global_sparsity": 0.5, "targets": [3]}, "states no sparsity that can be read"),
    ],
)
def test_a_config_that_cannot_be_read_is_one_line(
    said: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(FileError, match=message):
        ruled(said, tmp_path)


def test_digits_of_a_ratio_are_those_that_are_written() -> None:
    assert ratio(0.5) == (Fraction(1, 2), 2)
    assert ratio(50) == (Fraction(1, 2), 2)
    assert ratio(0.123) == (Fraction(123, 1000), 3)
    assert ratio(12.345) == (Fraction(2469, 20000), 4)
    assert ratio(1) == (Fraction(1), 2)


def run(folder: Path, kept: int, **settings: Any) -> list[bool]:
    blocks: list[Any] = [{"layers": {f"{UP.format(i)}.weight": {}}} for i in (0, 1)]
    facts = {"format": "pins-oneshot", "settings": settings, "blocks": blocks}
    write_json({**facts, "weights": {"kept": kept}}, folder / "run.json")
    model = StoredModel(folder, (), {}, {})
    return [claim.rule(LAYERS)["true"] for claim in claims_of(model)]


def test_claims_of_our_own_runs(tmp_path: Path) -> None:
    assert run(tmp_path, 10_020, sparsity=0.5) == [True, True]
    assert run(tmp_path, 10_060, sparsity=0.5) == [True, True]  # with what is free
    assert run(tmp_path, 10_061, sparsity=0.5) == [True, False]
    assert run(tmp_path, 10_020, sparsity=0.6) == [False, True]
    assert run(tmp_path, 10_020, sparsity=None, pattern="2:4") == [False, True]
    write_json({"format": "pins-oneshot"}, tmp_path / "run.json")
    with pytest.raises(FileError, match="states no run that can be read: there is no 'settings'"):
        claims_of(StoredModel(tmp_path, (), {}, {}))
    write_json({"format": "another", "settings": {}}, tmp_path / "run.json")
    assert claims_of(StoredModel(tmp_path, (), {}, {})) == []
