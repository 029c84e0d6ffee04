"""Twelve weights by hand: chosen so that rules of thumb fail, and judged exactly."""

import math
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from pins.runs.weight_sample import WeightSample
from pins.selection.select import select
from tests.verification.explorer.opened import Opened
from tests.verification.explorer.test_proof import checked, downloaded
from verification.certificates.regret import regret
from verification.explorer.twelve import KEEP, POSITIVE, SIZE, twelve

LETTERS = "ABCDEFGHIJKL"


@pytest.fixture(scope="session")
def scores(sample: WeightSample) -> torch.Tensor:
    """Of the twelve weights of the first layer."""
    importance = sample.importance("pins")["dense"]
    chosen = twelve(importance)
    assert chosen is not None
    return importance[chosen["places"]]


def toggle(page: Opened, letters: str) -> None:
    for letter in letters:
        button = page.page.get_by_role("button", name=letter, exact=False).and_(
            page.page.locator(
                f"[data-twelve=weights] button:nth-child({LETTERS.index(letter) + 1})"
            )
        )
        button.focus()
        page.page.keyboard.press("Space")


def named(mask: torch.Tensor) -> str:
    return "".join(letter for letter, keeps in zip(LETTERS, mask.tolist(), strict=True) if keeps)


def said(page: Opened, part: str) -> str:
    return page.text(f"[data-twelve={part}]")


def test_a_wrong_answer_is_told_with_its_regret_and_the_right_one_is_recognised(
    open_page: Opened, scores: torch.Tensor, tmp_path: Path
) -> None:
    best, by_size = select(scores, KEEP), select(scores.abs(), KEEP)
    toggle(open_page, named(by_size)[:4])
    assert said(open_page, "live").startswith("4 of 5 kept, sum ")
    open_page.press("[data-twelve=check]", "Enter")
    assert said(open_page, "said") == "Kept 4 of 12, the claim says 5: keep 1 more."

    toggle(open_page, named(by_size)[4:])
    open_page.press("[data-twelve=check]", "Enter")
    lost = regret({"w": scores}, {"w": by_size})
    worst, best_pruned = (
        int(scores.where(which, fill).argsort()[place])
        for which, fill, place in ((by_size, math.inf, 0), (~by_size, -math.inf, -1))
    )
    assert said(open_page, "said").startswith("Not the optimum: its sum falls short by ")
    exchange = f"prune {LETTERS[worst]} and keep {LETTERS[best_pruned]}, "
    assert exchange in said(open_page, "said")
    assert Fraction(said(open_page, "exact").rpartition(" ")[2]) == lost.exact
    files = downloaded(open_page, "[data-twelve=ask]", tmp_path)
    assert [file.name for file in files] == [
        "twelve-certificate.json",
        "twelve-best.safetensors",
        "twelve-mask.safetensors",
        "twelve-scores.safetensors",
    ]
    code, line = checked(files[0])
    assert (code, line) == (0, said(open_page, "verdict"))
    assert "falls short of the optimum by exactly " in line
    assert "✗ wrong" in said(open_page, "sides")

    toggle(open_page, named(best ^ by_size))
    assert open_page.page.locator("[data-twelve=proof]").is_hidden()
    open_page.press("[data-twelve=check]", "Enter")
    assert said(open_page, "said") == "This is the optimum: its regret is 0, exactly."
    assert said(open_page, "exact") == "Regret, exactly: 0"


def test_the_proof_of_the_optimum_is_shown_and_checked(
    open_page: Opened, scores: torch.Tensor, tmp_path: Path
) -> None:
    open_page.press("[data-twelve=optimum]", "Enter")
    letters = ", ".join(named(select(scores, KEEP)))
    assert said(open_page, "said") == f"The optimum keeps {letters}."
    pressed = open_page.page.locator("[data-twelve=weights] [aria-pressed=true] b")
    assert pressed.all_text_contents() == letters.split(", ")
    files = downloaded(open_page, "[data-twelve=ask]", tmp_path)
    assert "so no 5 of them sum to more" in said(open_page, "lambda")
    assert "✗" not in said(open_page, "sides")
    assert files[0].read_text(encoding="utf-8") == said(open_page, "certificate")
    code, line = checked(files[0])
    assert (code, line) == (0, said(open_page, "verdict"))
    assert line.startswith("proved: the mask keeps exactly 5 of 12 weights")


def test_a_wrong_number_has_no_proof(open_page: Opened, tmp_path: Path) -> None:
    toggle(open_page, "ABCDEF")
    files = downloaded(open_page, "[data-twelve=ask]", tmp_path)
    assert said(open_page, "lambda").startswith(
        "There is no proof: kept 6 of 12, the claim says 5."
    )
    assert checked(files[0]) == (1, "refuted: kept 6 of 12, the claim says 5")
    assert said(open_page, "verdict") == "refuted: kept 6 of 12, the claim says 5"
    open_page.press("[data-twelve=clear]", "Enter")
    assert said(open_page, "live").startswith("0 of 5 kept, sum 0.00 ")


def test_a_layer_without_twelve_says_so(open_page: Opened) -> None:
    open_page.choose("#layer", "2")
    assert open_page.page.locator("[data-twelve=none]").is_visible()
    assert open_page.page.locator("[data-twelve=play]").is_hidden()


def test_the_twelve_defeat_rules_of_thumb() -> None:
    scores = torch.randn(500, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    chosen = twelve(scores)
    assert chosen is not None
    assert chosen == twelve(scores)
    own, digits = scores[chosen["places"]], torch.tensor(chosen["digits"])
    assert len(digits) == SIZE
    assert len(set(digits.abs().tolist())) == SIZE
    assert (digits > 0).sum() == POSITIVE
    best = select(own, KEEP)
    assert (own[best] < 0).any()
    assert not torch.equal(best, select(own.abs(), KEEP))
    assert torch.equal(best, select(digits.double(), KEEP))  # as the reader sees them


@pytest.mark.parametrize("scores", [torch.zeros(40), torch.ones(40), torch.arange(1.0, 9.0)])
def test_scores_that_do_not_differ_make_no_twelve(scores: torch.Tensor) -> None:
    assert twelve(scores.double()) is None


def test_scores_of_one_sign_make_twelve_as_well() -> None:
    chosen = twelve(torch.linspace(1, 2, 100, dtype=torch.float64))
    assert chosen is not None
    assert min(chosen["digits"]) > 0
