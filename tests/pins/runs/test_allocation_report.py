"""How a run says what its masks keep: counted in the masks themselves."""

from typing import Any

import pytest
import torch

from pins.runs.allocation_report import allocation_report
from pins.runs.model_card import model_card
from pins.selection.allocation import Allocation
from pins.selection.select import decide
from pins.selection.tree import View
from tests.pins.runs.test_model_card import facts

pytest.importorskip("huggingface_hub", reason="a card has front matter")

SHAPES = {"a": (4, 8), "b": (2, 6), "c": (8, 8)}
VIEWS = {name: View.of(shape) for name, shape in SHAPES.items()}


def report(allocation: Allocation, sparsity: float = 0.5) -> dict[str, Any]:
    """Of the decision on some scores."""
    generator = torch.Generator().manual_seed(0)
    scores = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    constraint = allocation.constraint(sparsity, VIEWS)
    return allocation_report(allocation, sparsity, VIEWS, decide(scores, constraint).masks)


def test_groups_are_counted_in_the_masks_and_dense_tensors_listed() -> None:
    found = report(Allocation(pattern="2:4", exactly=True, skip_indivisible=True))
    assert found["groups"] == {"number": 24, "least": 2, "most": 2}
    assert found["dense"] == {"b": 12}
    assert (found["kept"], found["nearest"]) == (48 + 12, 54)
    assert found["sentences"] == [
        "The pattern is 2:4: exactly 2 of each 4 consecutive inputs of an output are kept. Counted "
        "in the final mask: 24 groups, each keeps 2.",
        "Dense, because 4 does not divide them: 1 of 3 tensors, 12 weights (b).",
    ]


def test_a_mask_that_breaks_the_pattern_is_reported_as_it_is() -> None:
    broken = {name: torch.ones(shape, dtype=torch.bool) for name, shape in SHAPES.items()}
    broken["a"][0, 0] = False
    allocation = Allocation(pattern="1:2", exactly=True)
    found = allocation_report(allocation, 0.5, VIEWS, broken)
    assert found["groups"] == {"number": 54, "least": 1, "most": 2}
    assert "each keeps 1 to 2" in found["sentences"][0]


def test_at_most_says_so() -> None:
    found = report(Allocation(pattern="1:2"), 0.75)
    assert found["groups"] == {"number": 54, "least": 0, "most": 1}
    assert "at most 1 of each 2 consecutive inputs" in found["sentences"][0]
    assert found["kept"] == found["nearest"] == 27


def test_the_sum_of_the_rows_and_the_share_of_the_whole_are_stated() -> None:
    found = report(Allocation(scope="row"), 0.7)
    assert found["kept"] == 4 * 2 + 2 * 2 + 8 * 2 == 28
    assert found["nearest"] == 32
    assert found["sentences"] == [
        "Each row, the weights of one output, keeps the nearest integer to its share: 28 weights "
        "in all; the share of the whole is 32."
    ]


def test_blocks_are_counted() -> None:
    (sentence,) = report(Allocation(block="2x2"), 0.5)["sentences"]
    assert sentence == (
        "Blocks of 2 × 2 (outputs × inputs) are kept or pruned whole: 14 of 27 are kept."
    )


def test_transposable_groups_are_counted_both_ways() -> None:
    allocation = Allocation(pattern="transposable-1:2", exactly=True)
    found = report(allocation)
    assert found["groups"] == {"number": 2 * 54, "least": 1, "most": 1}
    assert ", and of each 2 outputs of an input, are kept" in found["sentences"][0]


def test_one_ranking_of_all_single_weights_needs_no_words() -> None:
    assert report(Allocation())["sentences"] == []


def test_the_card_states_the_pattern_its_counts_and_its_tag() -> None:
    settings = {**facts()["settings"], "sparsity": None, "pattern": "2:4"}
    sentences = ["The pattern is 2:4.", "Dense: 1 of 3 tensors (b)."]
    card = model_card(facts(settings=settings, allocation={"sentences": sentences}))
    assert "Exactly 2:4 was asked for." in card
    assert "The pattern is 2:4. Dense: 1 of 3 tensors (b)." in card
    assert "- pattern: 2:4" in card
    assert "n-m-sparsity" in card
    assert "unstructured" not in card


@pytest.mark.parametrize(
    ("setting", "tag"), [({}, "unstructured-sparsity"), ({"block": "1x4"}, "block-sparsity")]
)
def test_the_tag_of_other_cards(setting: dict[str, str], tag: str) -> None:
    card = model_card(facts(settings={**facts()["settings"], **setting}))
    assert f"- {tag}\n" in card
    assert "97 % was asked for." in card
