from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pins.runs.weight_sample import WeightSample
from tests.browser import launched
from tests.verification.explorer.opened import Opened, opened
from tests.verification.explorer.samples import small_sample
from verification import explorer

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    with launched() as browser:
        yield browser


@pytest.fixture(scope="session")
def sample() -> WeightSample:
    return small_sample()


@pytest.fixture(scope="session")
def file(sample: WeightSample, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return explorer.write(sample, tmp_path_factory.mktemp("explorer") / "explorer.html")


@pytest.fixture
def open_page(browser: "Browser", file: Path) -> Iterator[Opened]:
    """The page, from disk; at the end it has asked for nothing and complained of nothing."""
    with opened(browser, file) as page:
        yield page


@pytest.fixture(scope="module")
def numbers_page(browser: "Browser", file: Path) -> Iterator[Opened]:
    """The page for many examples, its controls left alone."""
    with opened(browser, file) as page:
        yield page
