import re
from typing import Any

import pytest

plots = pytest.importorskip("verification.plots", reason="the figures are drawn by matplotlib")
times = pytest.importorskip("verification.plots.times", reason="likewise")


def row(method: str, size: int, nanoseconds: float | None, instance: str = "") -> dict[str, Any]:
    return {"method": method, "size": size, "nanoseconds": nanoseconds, "instance": instance}


SIZED = [row("pins.select", 10**4, 2.0), row("pins.select", 10**5, 1.0), row("new", 10**4, None)]
ADVERSARIAL = [row("one read", 10**7, 0.2, "sorted"), row("pins.select", 10**7, 1.0, "equal")]


def test_axes_have_names_and_units_and_each_method_with_a_time_a_line() -> None:
    text = plots.svg(plots.selection(SIZED, ADVERSARIAL), "times")
    for words in ("number of weights n", "time per weight (ns)", "n = 10,000,000", ">sorted<"):
        assert words in text
    assert ">pins.select<" in text
    assert ">new<" not in text
    alone = plots.svg(plots.selection(SIZED, []), "times")
    assert ">sorted<" not in alone


def test_both_axes_are_logarithmic_and_lines_ascend_in_size() -> None:
    figure = plots.selection(SIZED[::-1], [])
    (axes,) = figure.axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    (line,) = axes.lines
    assert list(line.get_xdata()) == [10**4, 10**5]
    assert list(line.get_ydata()) == [2.0, 1.0]


def test_the_time_limit_is_drawn_where_one_was_reached() -> None:
    done = {"solver": "cbc", "scaled": True, "seconds": 0.1, "status": "OPTIMAL"}
    rows = [{**done, "size": 256}, {**done, "size": 1024}]
    stopped = {**done, "solver": "highs", "size": 256, "status": "INTERRUPTED"}
    text = plots.svg(plots.solver_times([*rows, stopped], 5.0), "solvers")
    assert ">time limit<" in text
    assert ">1,024<" in text
    unscaled = {**stopped, "scaled": False}
    assert ">time limit<" not in plots.svg(plots.solver_times([*rows, unscaled], 5.0), "solvers")


def test_no_two_methods_of_a_figure_look_alike() -> None:
    figures = [
        [name for name in times.LOOKS if name not in ("closed form", "cbc", "highs")],
        ["pins.select", "closed form", "cbc", "highs"],
    ]
    for names in figures:
        colours, markers = zip(*(times.LOOKS[name] for name in names), strict=True)
        assert len(set(colours)) == len(set(markers)) == len(names)
    assert all(re.fullmatch("#[0-9A-F]{6}", colour) for colour, _ in times.LOOKS.values())
