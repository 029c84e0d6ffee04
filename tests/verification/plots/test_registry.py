"""Every figure of `pins plot` is drawn from a run, says what it shows, and can be read."""

import re
from pathlib import Path

import pytest

figures = pytest.importorskip(
    "verification.plots.registry", reason="the figures are drawn by matplotlib"
)
plots = pytest.importorskip("verification.plots", reason="likewise")

from benchmarks.harness.results import RESULTS  # noqa: E402
from pins.errors import FileError, SettingError  # noqa: E402
from verification.experiments.run_reader import RunData  # noqa: E402

OF_BENCHMARKS = ("one-shot-perplexity", "scope-map", "solver-times")
OF_DEMOS = ("loss-change", "multiplier-path", "taylor", "unscaled")
OF_PRUNING = ("self-regularisation",)
OF_BOTH = [n for n in figures.FIGURES if n not in (*OF_BENCHMARKS, *OF_DEMOS, *OF_PRUNING)]
DRAWN = [
    *((name, "demo_folder") for name in (*OF_BOTH, *OF_DEMOS)),
    *((name, "prune_folder") for name in (*OF_BOTH, *OF_PRUNING)),
    *((name, "results") for name in OF_BENCHMARKS),
]
# panels whose axes are not drawn: a cube has none
WITHOUT_AXES = ("polytope",)


@pytest.fixture(scope="module")
def results() -> Path:
    return RESULTS


@pytest.mark.parametrize(("name", "folder"), DRAWN)
def test_it_is_drawn_with_labels(name: str, folder: str, request: pytest.FixtureRequest) -> None:
    figure = figures.find_figure(name).draw(RunData(request.getfixturevalue(folder)))
    shown = [axes for axes in figure.axes if axes.axison]
    assert bool(shown) == (name not in WITHOUT_AXES)
    if name != "overlap":  # its axes are names of criteria
        words = [figure.get_supxlabel(), figure.get_supylabel()]
        words += [text for axes in shown for text in (axes.get_xlabel(), axes.get_ylabel())]
        assert sum(bool(word) for word in words) >= (2 if shown else 0)


@pytest.mark.parametrize(("name", "folder"), dict(DRAWN).items())
def test_it_is_the_same_each_time(name: str, folder: str, request: pytest.FixtureRequest) -> None:
    run = RunData(request.getfixturevalue(folder))
    entry = figures.find_figure(name)
    assert plots.svg(entry.draw(run), name) == plots.svg(entry.draw(run), name)


@pytest.mark.parametrize("name", figures.FIGURES)
def test_a_caption_says_what_to_see_and_when_it_would_look_otherwise(name: str) -> None:
    entry = figures.FIGURES[name]
    assert 250 < len(entry.caption) < 900
    assert "\n" not in entry.caption
    assert not re.search(r"\d{3,}", entry.caption)  # numbers are the run's
    assert entry.title[0].isupper()
    assert not entry.title.endswith(".")


@pytest.mark.parametrize("name", [*OF_DEMOS, *OF_PRUNING, *OF_BENCHMARKS])
def test_a_run_that_lacks_what_it_is_drawn_from_is_told(
    name: str, demo_folder: Path, prune_folder: Path
) -> None:
    folder = prune_folder if name in (*OF_DEMOS, *OF_BENCHMARKS) else demo_folder
    with pytest.raises(FileError, match=r"holds no .*: give --from the folder of"):
        figures.find_figure(name).draw(RunData(folder))


def test_a_figure_that_there_is_not_is_told() -> None:
    with pytest.raises(SettingError, match="no figure 'pie': choose one of polytope, dual-func"):
        figures.find_figure("pie")


def test_another_run_makes_another_picture(demo_folder: Path, prune_folder: Path) -> None:
    for name in ("dual-function", "schedule", "survival"):
        entry = figures.FIGURES[name]
        first, second = (entry.draw(RunData(folder)) for folder in (demo_folder, prune_folder))
        assert plots.svg(first, name) != plots.svg(second, name)
