"""The gallery shows every figure, from results that are committed."""

import re

import pytest

pytest.importorskip("matplotlib", reason="the figures are drawn by matplotlib")

from benchmarks.documents import gallery, readme
from benchmarks.harness.results import RESULTS
from verification.plots.registry import FIGURES

README = (readme.ROOT / "README.md").read_text(encoding="utf-8")


def test_the_page_is_up_to_date() -> None:
    assert gallery.PAGE.read_text(encoding="utf-8") == gallery.page(), (
        "run `python -m benchmarks.documents.gallery`"
    )


def test_every_figure_has_its_file_and_no_file_is_left_over() -> None:
    assert {file.stem for file in gallery.FOLDER.glob("*.svg")} == set(FIGURES)
    for file in gallery.FOLDER.iterdir():
        assert file.suffix == ".svg"
        assert f"pins figure {file.stem}".encode() in file.read_bytes()
        assert file.stat().st_size < 500_000


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_drawn_from_a_folder_of_results(name: str) -> None:
    folder = gallery.source(name)
    assert folder.is_relative_to(RESULTS)
    assert any(folder.iterdir())


def test_the_readme_shows_one_of_them() -> None:
    shown = re.findall(r"!\[[^\]]*\]\(docs/gallery/([a-z-]+)\.svg\)", README)
    assert len(shown) == 1
    assert set(shown) <= set(FIGURES)
