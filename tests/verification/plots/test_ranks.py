from typing import Any

import pytest

plots = pytest.importorskip("verification.plots", reason="the figures are drawn by matplotlib")
ranks = pytest.importorskip("verification.plots.ranks", reason="likewise")

TIMES = [
    {"instance": "small", "predicted": 0.001, "found": 0.002},
    {"instance": "large", "predicted": 0.01, "found": 0.01},
]
PAPER = [
    {"model": name, "ranks": ranks, "total_seconds": 0.1, "gathering_seconds": 0.5}
    for name in ("7 B", "70 B")
    for ranks in (8, 1024)
]


def figure(times: Any = TIMES, exchanged: Any = (), paper: Any = PAPER) -> Any:
    return plots.rank_decisions(times, exchanged, paper)


def test_axes_have_names_and_units_and_each_set_and_model_its_points() -> None:
    text = plots.svg(figure(exchanged=TIMES[:1]), "distributed")
    for words in ("measured time of a decision (ms)", "predicted bytes (kB)", ">1,024<"):
        assert words in text
    assert ">7 B: pins.decide<" in text
    assert ">small<" in text
    assert ">small<" not in plots.svg(figure(TIMES[1:]), "distributed")
    assert plots.svg(figure([], [], []), "distributed")


def test_points_are_found_against_predicted_and_the_diagonal_is_where_they_are_equal() -> None:
    time, amount, ranks = figure().axes
    small, large, equal = time.lines
    assert (list(small.get_xdata()), list(small.get_ydata())) == ([2.0], [1.0])
    assert list(large.get_xdata()) == list(large.get_ydata()) == [10.0]
    assert list(equal.get_xdata()) == list(equal.get_ydata())
    assert not amount.lines
    assert [list(line.get_ydata()) for line in ranks.lines] == [[100.0] * 2, [500.0] * 2] * 2


def test_no_two_sets_of_a_figure_look_alike() -> None:
    colours, markers = zip(*ranks.LOOKS, strict=True)
    assert len(set(colours)) == len(set(markers)) == len(ranks.LOOKS)
