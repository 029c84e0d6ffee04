import math
import re
from typing import Any

import pytest

plots = pytest.importorskip("verification.plots", reason="the figures are drawn by matplotlib")
module = pytest.importorskip("verification.plots.perplexity", reason="likewise")

DENSE = [3.0, 3.5]
PERPLEXITIES = {"2:4": 90.0, "50 %": 40.0, "60 %": 160.0}


def row(setting: str, method: str, factor: float = 1.0, draw: int = 0) -> dict[str, Any]:
    perplexity = factor * PERPLEXITIES[setting]
    return {"setting": setting, "method": method, "draw": draw, "perplexity": perplexity}


ROWS = [
    row(setting, method)
    for setting in ("60 %", "50 %", "2:4")
    for method in ("alps + swaps", "wanda + refit", "wanda")
]


def lines(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    (axes,) = plots.one_shot_perplexity(rows, DENSE).axes
    found: dict[str, list[Any]] = {}
    for line in axes.lines:
        found.setdefault(line.get_label(), []).append(line)
    return found


def test_methods_have_a_line_over_the_sparsities_and_a_point_at_the_pattern() -> None:
    found = lines(ROWS)
    assert list(found) == ["dense", "wanda", "wanda + refit", "alps + swaps"]
    assert found["dense"][0].get_ydata()[0] == pytest.approx(math.exp(3.25))
    for pattern, line in list(found.values())[1:]:
        assert list(pattern.get_ydata()) == [90]
        assert list(line.get_ydata()) == pytest.approx([40, 160])
        assert [round(x) for x in (*pattern.get_xdata(), *line.get_xdata())] == [0, 1, 2]
    styles = [found[name][1].get_linestyle() for name in ("wanda", "wanda + refit", "alps + swaps")]
    assert styles == ["-", "--", ":"]
    assert len({x for name in found if name != "dense" for x in found[name][1].get_xdata()}) == 6
    text = plots.svg(plots.one_shot_perplexity(ROWS, DENSE), "perplexity")
    for label in ("2:4", "60 %", *found):
        assert len(re.findall(f">{re.escape(label)}<", text)) == 1


def test_a_point_is_the_geometric_mean_of_its_draws_and_a_bar_their_range() -> None:
    rows = [row("50 %", "wanda"), row("50 %", "wanda", 4.0, draw=1)]
    (axes,) = plots.one_shot_perplexity(rows, DENSE).axes
    (line,) = lines(rows)["wanda"]
    assert list(line.get_ydata()) == pytest.approx([80])
    (bar,) = axes.collections[0].get_segments()
    assert list(bar[:, 1]) == pytest.approx([40, 160])


def test_colours_and_markers_tell_all_methods_apart() -> None:
    from pins.oneshot.methods.registry import METHODS

    shown = [name for name in METHODS if name in module.LOOKS]
    assert shown == ["magnitude", "wanda", "ria", "sparsegpt", "alps", "obs"]
    for seen in zip(*module.LOOKS.values(), strict=True):
        assert len(set(seen)) == len(shown)
