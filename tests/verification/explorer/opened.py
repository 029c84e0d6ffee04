"""The page in a browser, and what it tells: numbers as they are computed and as they are shown."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tests.verification.explorer.expected import Answer, Settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

EXPLORE = """([number, settings]) => {
  const { r, s, kept, multiplier, interval, primal, dual, regret } = pins.explore(number, settings);
  const written = (number) => Object.values(pins.fraction(number)).join("/");
  return {
    ranking: Array.from(r),
    objective: Array.from(s),
    kept,
    multiplier,
    low: interval.low,
    high: interval.high,
    primal: written(primal),
    dual: written(dual),
    regret: written(regret.exact),
    scale: written(regret.scale),
  };
}"""


@dataclass
class Opened:
    """An open page.

    Attributes:
        page: of Playwright.
        complaints: what the console said, and errors that nothing caught.
        asked: addresses that the page asked for.
    """

    page: "Page"
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def explored(self, number: int, settings: Settings) -> Answer:
        """What the page computes for a layer under settings, its controls left alone."""
        told: Mapping[str, Any] = self.page.evaluate(EXPLORE, [number, settings.in_the_page()])
        return Answer(
            ranking=torch.tensor(told["ranking"], dtype=torch.float64),
            objective=torch.tensor(told["objective"], dtype=torch.float64),
            kept=torch.tensor(told["kept"], dtype=torch.bool),
            multiplier=float(told["multiplier"]),
            low=float(told["low"]),
            high=float(told["high"]),
            primal=Fraction(told["primal"]),
            dual=Fraction(told["dual"]),
            regret=Fraction(told["regret"]),
            scale=Fraction(told["scale"]),
        )

    def text(self, where: str) -> str:
        """What stands at a selector, in view or not."""
        return self.page.locator(where).text_content() or ""

    def exact(self, name: str) -> Fraction:
        """A number of the list of exact fractions."""
        return Fraction(self.text(f"#exact-{name}"))

    def press(self, control: str, *keys: str) -> None:
        """Keys, typed at a control that the keyboard has reached."""
        self.page.focus(control)
        for key in keys:
            self.page.keyboard.press(key)

    def choose(self, control: str, option: str) -> None:
        """An option of a select, by arrow keys alone."""
        self.press(control, "Home")
        for _ in range(self.page.locator(f"{control} option").count()):
            if self.page.input_value(control) == option:
                return
            self.press(control, "ArrowDown")
        raise AssertionError(f"{control} has no {option}")


@contextmanager
def opened(
    browser: "Browser", file: Path, *, width: int = 1280, **context: Any
) -> Iterator[Opened]:
    """The page at that width; fails at the end if it complained, or asked for more than itself."""
    with browser.new_context(viewport={"width": width, "height": 900}, **context) as made:
        it = Opened(made.new_page())
        it.page.on("console", lambda message: it.complaints.append(message.text))
        it.page.on("pageerror", lambda error: it.complaints.append(str(error)))
        it.page.on("request", lambda request: it.asked.append(request.url))
        it.page.goto(file.as_uri())
        yield it
        assert it.complaints == []
        assert [url for url in it.asked if not url.startswith(("file:", "data:", "blob:"))] == []
