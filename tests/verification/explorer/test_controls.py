"""Every control by the keyboard, and what the page then shows."""

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pins.runs.weight_sample import WeightSample
from pins.selection.constraints import keep_count
from tests.verification.explorer.expected import Settings, expected
from tests.verification.explorer.opened import Opened, opened
from verification import explorer

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMELESS = """() => Array.from(
  document.querySelectorAll("button, select, input, [tabindex], [role]"),
).filter((e) => !(
  e.labels?.length || e.getAttribute("aria-label") || e.getAttribute("role") === "status" ||
  (e.tagName === "BUTTON" && e.textContent.trim())
)).map((e) => e.outerHTML.slice(0, 80))"""
COLOURS = """() => Object.fromEntries(
  "ink soft accent bad kept pruned differs paper tint".split(" ").map(
    (name) => [name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`)],
  ),
)"""
TIME = """() => {
  const slider = document.getElementById("sparsity");
  const times = [];
  for (let value = 500; value < 900; value += 30) {
    slider.value = value;
    const start = performance.now();
    slider.dispatchEvent(new Event("input"));
    times.push(performance.now() - start);
  }
  return times.sort((a, b) => a - b)[times.length >> 1];
}"""


def shows(page: Opened, sample: WeightSample, name: str, decision: Settings) -> None:
    """The page shows the decision, its values to the last digit."""
    answer = expected(sample, name, decision)
    assert page.exact("lambda") == Fraction(answer.multiplier)
    for end in ("low", "high"):
        number = getattr(answer, end)
        if math.isfinite(number):
            assert page.exact(end) == Fraction(number)
        else:
            assert page.text(f"#exact-{end}").replace("−", "-").replace("∞", "inf") == str(number)
    for number in ("primal", "dual", "regret", "scale"):
        assert page.exact(number) == getattr(answer, number)
    assert page.exact("gap") == answer.dual - answer.primal
    count, total = int(answer.kept.sum()), answer.kept.numel()
    assert page.text("#card-kept") == f"{count} of {total}"
    assert f"{count} of {total}" in page.text("#summary")
    drawn = f"the first {count} are kept" if decision.bounds == "none" else "nodes a ≤ b"
    assert drawn in (page.page.get_attribute("#ranking svg", "aria-label") or "")
    if count == decision.keep:
        assert page.exact("primal") == page.exact("dual")
        assert "equal, exactly" in page.text("#summary")
        assert page.text("#verdict").startswith("proved: ")
    else:
        said = f"refuted: kept {count} of {total}, the claim says {decision.keep}"
        assert page.text("#verdict") == said
        assert page.text("#summary").startswith(f"{said}. ")


def test_every_control_by_the_keyboard(open_page: Opened, sample: WeightSample) -> None:
    decision = Settings(keep=keep_count(sample.sparsity, 240), rate=sample.learning_rate)
    shows(open_page, sample, "dense", decision)  # the run's own, before anything is touched

    open_page.press("#multiplier", "ArrowLeft")
    positions: list[Any] = open_page.page.evaluate("pins.sample.layers[0].multipliers")
    decision = replace(decision, multiplier=2.0 ** positions[1])
    shows(open_page, sample, "dense", decision)
    open_page.press("#multiplier", "Home")
    decision = replace(decision, multiplier=0.0)
    shows(open_page, sample, "dense", decision)
    assert "optimal brain damage" in open_page.text("#multiplier-value")
    open_page.press("#multiplier", "PageUp", "PageUp", "PageUp")
    assert (open_page.page.get_attribute("#multiplier", "aria-valuetext") or "").startswith("2")
    open_page.press("#multiplier", "Home")

    for key, keep in (("Home", 240), ("End", 0), ("ArrowLeft", 0), ("PageDown", 24)):
        open_page.press("#sparsity", key)
        decision = replace(decision, keep=keep)
        shows(open_page, sample, "dense", decision)
    open_page.press("#rate", "Home")
    decision = replace(decision, rate=0.0)
    shows(open_page, sample, "dense", decision)
    open_page.press("#rate", "End")
    decision = replace(decision, rate=explorer_rates(open_page)[-1])
    shows(open_page, sample, "dense", decision)

    for criterion in ("obd", "abs-pins", "magnitude", "sensitivity", "movement"):
        open_page.choose("#criterion", criterion)
        decision = replace(decision, criterion=criterion)
        shows(open_page, sample, "dense", decision)
        assert open_page.page.is_disabled("#multiplier")

    open_page.choose("#layer", "1")
    decision = replace(decision, keep=4)
    shows(open_page, sample, "tied", decision)
    for precision in ("float32", "bfloat16", "float64"):
        open_page.choose("#precision", precision)
        decision = replace(decision, precision=precision)
        shows(open_page, sample, "tied", decision)
    open_page.choose("#criterion", "magnitude")
    open_page.press("#rate", "Home")
    decision = replace(decision, criterion="magnitude", rate=0.0)
    for ties in ("higher", "kept", "pruned", "lower"):
        open_page.choose("#ties", ties)
        decision = replace(decision, ties=ties)
        shows(open_page, sample, "tied", decision)


def test_bounds_by_the_keyboard(open_page: Opened, sample: WeightSample) -> None:
    decision = Settings(keep=120, rate=sample.learning_rate, bounds="2:4")
    open_page.choose("#bounds", "2:4")
    shows(open_page, sample, "dense", decision)
    assert open_page.page.is_disabled("#sparsity")
    assert open_page.text("#sparsity-value") == "50.0 %: keep 120 of 240, by the bounds"
    assert open_page.text("#binding").startswith("All 60 groups of 4 keep exactly 2, each by")

    open_page.choose("#bounds", "halves-2:4")
    open_page.press("#sparsity", "Home", "PageUp", "PageUp", "PageUp", "PageUp", "PageUp")
    decision = replace(decision, keep=120, bounds="halves-2:4")
    shows(open_page, sample, "dense", decision)
    open_page.press("#sparsity", "PageUp")
    decision = replace(decision, keep=96)
    shows(open_page, sample, "dense", decision)
    kept = expected(sample, "dense", decision).kept
    full = int((kept.view(-1, 4).sum(1) == 2).sum())
    bound = re.findall(r"(\d+) at the maximum", open_page.text("#binding"))
    assert 0 < sum(map(int, bound)) <= full
    open_page.press("#nodes > summary", "Enter")
    rows = open_page.page.locator("#nodes-rows tr")
    rows.first.wait_for()
    told = [row.split("\t") for row in rows.all_inner_texts()]
    assert [row[:3] for row in told[:3]] == [
        ["root", "96 to 96", "96"],
        ["half: 1", "48 to 120", "48"],
        ["half: 2", "48 to 120", "48"],
    ]
    assert [int(row[2]) for row in told[3:]] == kept.view(-1, 4).sum(1).tolist()
    open_page.press("#mask", "Home")
    assert "; group of 4, number 1: " in open_page.text("#weight")

    open_page.choose("#layer", "2")  # of one weight, which nothing divides
    shows(open_page, sample, "one", replace(decision, keep=0, bounds="none"))
    option = open_page.page.locator("#bounds option[value='2:4']")
    assert option.text_content() == "exactly 2 of each 4 (1 is no multiple of 4)"
    assert option.is_disabled()


def test_bounds_that_allow_no_mask_are_said_and_no_other_decision_is_shown(
    open_page: Opened,
) -> None:
    open_page.choose("#ties", "kept")
    open_page.choose("#bounds", "at-most-2:4")
    assert open_page.page.input_value("#ties") == "lower"
    assert open_page.page.locator("#ties option[value=kept]").is_disabled()
    open_page.press("#sparsity", "Home")
    assert open_page.text("#summary") == (
        "No mask: 240 of 240 weights are to be kept, the bounds allow 120: choose another sparsity"
    )
    assert open_page.page.locator("#decision").is_hidden()
    open_page.choose("#bounds", "none")
    assert open_page.text("#card-kept") == "240 of 240"
    assert open_page.page.locator("#decision").is_visible()
    assert open_page.page.locator("#ties option[value=kept]").is_enabled()


def explorer_rates(page: Opened) -> list[float]:
    """η on the slider."""
    return [float(rate) for rate in page.page.evaluate("pins.sample.learning_rates")]


def test_a_layer_keeps_the_multiplier_or_the_nearest_above(open_page: Opened) -> None:
    open_page.press("#multiplier", "Home")
    open_page.choose("#layer", "2")
    assert "optimal brain damage" in open_page.text("#multiplier-value")
    open_page.press("#multiplier", "End")
    open_page.choose("#layer", "0")
    assert open_page.text("#multiplier-value") == "∞: PINS"


def test_the_mask_is_read_by_arrow_keys_and_as_a_table(
    open_page: Opened, sample: WeightSample
) -> None:
    indices = sample.indices("dense").tolist()
    said = "Weight {} of 240, index {} in the tensor: θ = "
    for keys, place in ((("End",), 239), (("ArrowLeft",), 238), (("Home", "ArrowRight"), 1)):
        open_page.press("#mask", *keys)
        words = open_page.page.get_attribute("#mask", "aria-valuetext") or ""
        assert words.startswith(said.format(place + 1, indices[place]))
        assert open_page.text("#weight") == words
    open_page.press("#mask", "Home", "ArrowUp", "ArrowLeft")  # there is nothing before the first
    assert open_page.page.get_attribute("#mask", "aria-valuenow") == "1"
    open_page.press("#weights > summary", "Enter")
    rows = open_page.page.locator("#weights-rows tr")
    rows.first.wait_for()
    assert rows.count() == 240
    kept = expected(sample, "dense", Settings(keep=keep_count(sample.sparsity, 240))).kept
    told = [row.split("\t")[-1] for row in rows.all_inner_texts()]
    assert told == ["kept" if keeps else "pruned" for keeps in kept.tolist()]


def test_a_move_is_shown_at_once(open_page: Opened) -> None:
    assert open_page.page.evaluate(TIME) < 100
    open_page.choose("#bounds", "at-most-2:4")
    assert open_page.page.evaluate(TIME) < 100


def test_every_control_and_chart_has_a_name(open_page: Opened) -> None:
    assert open_page.page.evaluate(NAMELESS) == []
    open_page.page.evaluate("document.body.append(document.createElement('input'))")
    assert open_page.page.evaluate(NAMELESS) == ["<input>"]


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2.2)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.fixture(params=["light", "dark"])
def phone(browser: "Browser", file: Path, request: pytest.FixtureRequest) -> Iterator[Opened]:
    with opened(browser, file, width=360, color_scheme=request.param) as page:
        yield page


def test_a_phone_in_both_schemes(phone: Opened) -> None:
    phone.press("#weights > summary", "Enter")
    phone.press("#ask", "Enter")
    phone.press("[data-twelve=optimum]", "Enter")
    phone.press("[data-twelve=ask]", "Enter")
    phone.page.locator("[data-twelve=certificate]").wait_for()
    assert phone.page.evaluate("document.scrollingElement.scrollWidth") <= 360
    colours = phone.page.evaluate(COLOURS)
    for ground in ("paper", "tint"):
        for ink in ("ink", "soft", "accent", "bad"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
    for mark in ("kept", "pruned", "differs"):
        assert contrast(colours[mark], colours["paper"]) >= 3, mark


def test_light_and_dark_differ(browser: "Browser", file: Path) -> None:
    grounds = []
    with opened(browser, file) as page:
        for scheme in ("light", "dark"):
            page.page.emulate_media(color_scheme=scheme)
            grounds.append(page.page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert grounds == ["rgb(255, 255, 255)", "rgb(22, 22, 22)"]


def test_without_a_curvature_there_is_no_way_to_optimal_brain_damage(
    browser: "Browser", sample: WeightSample, tmp_path: Path
) -> None:
    without = replace(sample, curvature=None)
    with opened(browser, explorer.write(without, tmp_path / "without.html")) as page:
        assert page.page.is_disabled("#multiplier")
        assert "kept no curvature" in page.text(".controls")
        assert page.page.locator("#criterion option[value=obd]").count() == 0
        shows(page, without, "dense", Settings(keep=keep_count(sample.sparsity, 240)))
        page.choose("#criterion", "movement")
        page.choose("#layer", "1")
        decision = Settings("movement", keep=keep_count(sample.sparsity, 40))
        shows(page, without, "tied", decision)


def test_a_score_beyond_the_precision_is_said_and_another_precision_goes_on(
    browser: "Browser", sample: WeightSample, tmp_path: Path
) -> None:
    weights = {**sample.weights, "dense": sample.weights["dense"] * 2.0**110}
    gradient = {**sample.gradient, "dense": sample.gradient["dense"] * 2.0**60}
    large = replace(sample, weights=weights, gradient=gradient)
    with opened(browser, explorer.write(large, tmp_path / "large.html")) as page:
        page.choose("#precision", "float32")
        assert re.fullmatch(
            r"dense\[\d+\] has the score -?Infinity in float32: choose another precision",
            page.text("#summary"),
        )
        page.choose("#precision", "float64")
        shows(page, large, "dense", Settings(keep=keep_count(sample.sparsity, 240)))
