"""Trees that the format writes otherwise than the library: the checker reads what is written."""

from pathlib import Path

import pytest
import torch

from pins import masks as masks_module
from pins.selection.tree import Node, Runs, TensorNode, View
from verification.certificates.selection import certify, save_scores
from verification.checker import check

EQUAL = {name: torch.ones(1, 2) for name in ("b", "a")}
VIEW = View(1, 1, 2)


@pytest.mark.parametrize(
    ("leaves", "kept", "tie_rule"),
    [
        ((TensorNode("a", VIEW), TensorNode("b", VIEW)), "a", "lower-index"),
        ((TensorNode("a", VIEW), TensorNode("b", VIEW)), "b", "none"),
        ((TensorNode("b", VIEW), TensorNode("a", VIEW)), "b", "lower-index"),
        ((TensorNode("b", VIEW, -1), TensorNode("a", VIEW)), "b", "lower-index"),
        (
            (TensorNode("b", VIEW, runs=(Runs(2, -2, 2),)), TensorNode("a", VIEW)),
            "b",
            "lower-index",
        ),
    ],
    ids=["another order", "against it", "the same order", "a negative minimum", "of runs"],
)
def test_the_flat_order_is_the_one_of_the_tree_and_bounds_are_natural(
    leaves: tuple[TensorNode, ...], kept: str, tie_rule: str, tmp_path: Path
) -> None:
    masks = {name: torch.full((1, 2), name == kept) for name in EQUAL}
    save_scores(EQUAL, tmp_path / "scores.safetensors")
    masks_module.save(masks, tmp_path / "mask.safetensors")
    document = certify(
        EQUAL,
        masks,
        certificate=tmp_path / "certificate.json",
        scores_file=tmp_path / "scores.safetensors",
        mask_file=tmp_path / "mask.safetensors",
        constraint=Node("model", leaves, 2, 2),
    )
    assert document["claim"]["tie_rule"] == tie_rule
    verdict = check(tmp_path / "certificate.json")
    assert verdict.outcome.name == "PROVED", verdict.message
