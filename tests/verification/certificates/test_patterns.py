"""`pins certify` of scores with patterns and rows: what it claims, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pins import masks as masks_module
from pins.selection.blocks import Blocks
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
@pytest.mark.parametrize("options", [(), ("--scope", "tensor"), ("--layer-minimum", "0.25")])
def test_blocks_are_counted_and_a_mask_of_them_is_judged(
    pins: Command, tmp_path: Path, options: tuple[str, ...]
) -> None:
    found = claim(pins, tmp_path, "--block", "1x4", "--keep", "7", *options)
    assert (found["total"], found["keep"], found["block"]) == (14, 7, [1, 4])
    mask = (tmp_path / "c.mask.safetensors").rename(tmp_path / "m.safetensors")
    bounds = {"tensor": [4, 3], "0.25": [2, 2]}.get(options[-1] if options else "", [0, 0])
    assert [part["minimum"] for part in found["tree"]] == bounds
    (tmp_path / "c.json").unlink()
    assert claim(pins, tmp_path, "--block", "1x4", "--keep", "7", "--mask", mask, *options) == found
    assert pins("check", tmp_path / "c.json")[0] == 0
    (tmp_path / "c.json").unlink()
    line = refusal(pins, tmp_path, "--block", "1x4", "--keep", "28", "--mask", mask)
    assert "keeps 28 of 56, --keep says 28 blocks of 1x4: no certificate" in line


def test_rows_of_blocks_are_read_from_a_mask(
    pins: Command, tmp_path: Path, scores: dict[str, Tensor]
) -> None:
    mask = select(scores, Blocks((1, 2), NofM(1, 4)))
    masks_module.save(mask, tmp_path / "m.safetensors")
    options = ("--block", "1x2", "--scope", "row", "--mask", tmp_path / "m.safetensors")
    found = claim(pins, tmp_path, *options)
    assert (runs(found), found["keep"]) == ([[(4, 1, 1)]] * 2, 7)
    assert pins("check", tmp_path / "c.json")[0] == 0
    (tmp_path / "c.json").unlink()
    line = refusal(pins, tmp_path, "--block", "1x4", *options[2:])
    assert "keeps a part of block 1: a block is kept or pruned as a whole" in line


@pytest.mark.usefixtures("scores")
def test_a_transposable_pattern_is_proved_by_potentials(pins: Command, tmp_path: Path) -> None:
    options = ("--pattern", "transposable-2:4", "--skip-indivisible")
    found = claim(pins, tmp_path, *options)
    assert [part["squares"] for part in found["tree"]] == [{"side": 4, "keep": 2}, None]
    assert (found["keep"], runs(found)) == (16 + 24, [[], []])
    code, said, _ = pins("check", tmp_path / "c.json")
    assert code == 0
    assert "exactly 2 of each row and column of 4 × 4 squares, exactly 24 of b has a larger" in said
    (tmp_path / "c.json").unlink()
    assert claim(pins, tmp_path, *options, "--transposed") == found  # the same squares, transposed
    (tmp_path / "c.json").unlink()
    mask = tmp_path / "c.mask.safetensors"  # the potentials that are there may stay
    files = ("--out", tmp_path / "c.json", "--mask", mask)
    code, said, _ = pins("certify", tmp_path / "s.safetensors", *files, *options)
    assert code == 0
    assert said.endswith(
        "keeps 40 of 56 weights and is optimal among masks with 2 of each row and column of 4 × 4 "
        "squares (2), bounds on tensors (1)\n"
    )


@pytest.mark.usefixtures("scores")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "nothing says how many weights are kept: give --keep, or a pattern"),
        (("--scope", "row"), "nothing says how many weights are kept"),
        (("--keep", "9", "--minimum-kept", "0.1"), "--minimum-kept is called --layer-minimum now"),
        (("--keep", "9", "--minimum-kept=0.1"), "--minimum-kept is called --layer-minimum now"),
        (("--pattern", "transposable-2:4"), "'b' is 3 × 8, which blocks of 4 × 4 do not divide"),
        (("--pattern", "transposable-2:4", "--keep", "9"), "keeps exactly so many"),
        (("--block", "1x3", "--keep", "2"), "which blocks of 1 × 3 do not divide"),
        (("--block", "1x4", "--keep", "15"), "keep is 15: it is the number of weights to keep"),
        (("--block", "1x4", "--pattern", "2:4"), "give one of them"),
        (("--skip-indivisible", "--keep", "9"), "belong to a pattern: give one"),
        (("--pattern", "2:4", "--scope", "tensor"), "leave scope and bounds of layers out"),
    ],
)
def test_contradictions_are_one_line(
    pins: Command, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    assert message in refusal(pins, tmp_path, *options)
    assert not (tmp_path / "c.json").exists()
