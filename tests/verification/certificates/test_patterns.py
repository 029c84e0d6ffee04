"""`pins certify` of scores with patterns and rows: what it claims, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pins import masks as masks_module
from pins.selection.constraints import NofM
from pins.selection.select import select
from tests.commands import Command
from verification.certificates.selection import save_scores

SHAPES = {"a": (4, 8), "b": (3, 8)}


@pytest.fixture
def scores(tmp_path: Path) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    found = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    save_scores(found, tmp_path / "s.safetensors")
    return found


def claim(pins: Command, folder: Path, *options: str | Path) -> dict[str, Any]:
    code, said, err = pins(
        "certify", folder / "s.safetensors", "--out", folder / "c.json", "--json", *options
    )
    assert (code, err) == (0, "")
    found: dict[str, Any] = json.loads(said)["claim"]
    return found


def refusal(pins: Command, folder: Path, *options: str | Path) -> str:
    code, said, err = pins(
        "certify", folder / "s.safetensors", "--out", folder / "c.json", *options
    )
    assert (code, said, err.count("\n")) == (2, "", 1)
    return err


def runs(found: dict[str, Any]) -> list[list[tuple[int, int, int]]]:
    return [
        [(run["length"], run["minimum"], run["maximum"]) for run in part["runs"]]
        for part in found["tree"]
    ]


@pytest.mark.usefixtures("scores")
def test_a_pattern_needs_no_number(pins: Command, tmp_path: Path) -> None:
    found = claim(pins, tmp_path, "--pattern", "2:4")
    assert found["keep"] == 28
    assert runs(found) == [[(4, 2, 2)]] * 2


@pytest.mark.usefixtures("scores")
def test_with_a_number_a_pattern_is_at_most(pins: Command, tmp_path: Path) -> None:
    found = claim(pins, tmp_path, "--pattern", "2:4", "--keep", "20")
    assert found["keep"] == 20
    assert runs(found) == [[(4, 0, 2)]] * 2
    (tmp_path / "c.json").unlink()
    line = refusal(pins, tmp_path, "--pattern", "2:4", "--keep", "29")
    assert "2:4 keeps at most 0.5 of the weights" in line


@pytest.mark.usefixtures("scores")
def test_groups_of_gpt2_run_along_the_stored_columns(pins: Command, tmp_path: Path) -> None:
    found = claim(pins, tmp_path, "--pattern", "2:4", "--transposed", "--skip-indivisible")
    assert [part["transposed"] for part in found["tree"]] == [True, False]  # b has no runs
    # (inputs, outputs) of b are 3 × 8
    assert runs(found) == [[(4, 2, 2)], []]
    assert found["keep"] == 16 + 24
    (tmp_path / "c.json").unlink()
    line = refusal(pins, tmp_path, "--pattern", "2:4", "--transposed")
    assert "'b' has rows of 3 weights, which 4 does not divide" in line


def test_the_rows_of_a_mask_say_how_many(
    pins: Command, tmp_path: Path, scores: dict[str, Tensor]
) -> None:
    mask = {name: s.argsort(1).argsort(1) >= 5 for name, s in scores.items()}
    masks_module.save(mask, tmp_path / "m.safetensors")
    found = claim(pins, tmp_path, "--scope", "row", "--mask", tmp_path / "m.safetensors")
    assert runs(found) == [[(8, 3, 3)]] * 2
    assert found["gap"] == {"numerator": "0", "denominator": "1"}
    mask["b"][2, scores["b"][2].argmin()] = True
    masks_module.save(mask, tmp_path / "odd.safetensors")
    (tmp_path / "c.json").unlink()
    line = refusal(pins, tmp_path, "--scope", "row", "--mask", tmp_path / "odd.safetensors")
    assert "rows of 'b' keep 3 to 4 weights: by row each keeps as many" in line


@pytest.mark.usefixtures("scores")
def test_without_a_mask_a_row_has_the_nearest_integer(pins: Command, tmp_path: Path) -> None:
    found = claim(pins, tmp_path, "--scope", "row", "--keep", "20")  # 20/56 of 8 are 2.9
    assert runs(found) == [[(8, 3, 3)]] * 2
    assert found["keep"] == 21


def test_a_mask_that_breaks_the_pattern_is_refused(
    pins: Command, tmp_path: Path, scores: dict[str, Tensor]
) -> None:
    mask = select(scores, NofM(2, 4))
    mask["a"][0, :4] = torch.tensor([True, True, True, False])
    masks_module.save(mask, tmp_path / "m.safetensors")
    line = refusal(pins, tmp_path, "--pattern", "2:4", "--mask", tmp_path / "m.safetensors")
    assert "the mask is not allowed: 2:4 group 0 of 'a' keeps 3 weights" in line


@pytest.mark.usefixtures("scores")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "nothing says how many weights are kept: give --keep, or a pattern"),
        (("--scope", "row"), "nothing says how many weights are kept"),
        (("--keep", "9", "--minimum-kept", "0.1"), "--minimum-kept is called --layer-minimum now"),
        (("--keep", "9", "--minimum-kept=0.1"), "--minimum-kept is called --layer-minimum now"),
        (("--pattern", "transposable-1:2"), "the format of certificates has no transposable"),
        (("--skip-indivisible", "--keep", "9"), "belong to a pattern: give one"),
        (("--pattern", "2:4", "--scope", "tensor"), "leave scope and bounds of layers out"),
    ],
)
def test_contradictions_are_one_line(
    pins: Command, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    assert message in refusal(pins, tmp_path, *options)
    assert not (tmp_path / "c.json").exists()
