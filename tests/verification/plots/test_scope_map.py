import re
from typing import Any

import pytest

from verification.experiments.loss_change import STEP_ALONE

plots = pytest.importorskip("verification.plots", reason="the figures are drawn by matplotlib")
style = pytest.importorskip("verification.plots.style", reason="likewise")


def rows(seeds: int, places: list[tuple[float, int]]) -> list[dict[str, Any]]:
    return [
        {
            "seed": seed,
            "learning_rate": rate,
            "progress": progress,
            "criterion": name,
            "fraction": fraction,
            "measured": fraction * (seed + 1),
            "measured_unseen": -fraction * (seed + 2),
        }
        for seed in range(seeds)
        for rate, progress in places
        for name, fraction in ((STEP_ALONE, 0.0), ("pins", 0.01), ("pins", 0.5), ("new", 0.5))
    ]


EVERYWHERE = [(rate, progress) for rate in (5e-5, 2e-4) for progress in (0, 130)]


def drawn(seeds: int, places: list[tuple[float, int]]) -> Any:
    return plots.scope_map(rows(seeds, places))


def test_every_point_has_a_panel_for_each_kind_of_rows() -> None:
    text = plots.svg(drawn(2, EVERYWHERE), "map")
    for rate, progress in (("5e-05", 0), ("5e-05", 130), ("0.0002", 0), ("0.0002", 130)):
        for where in ("unseen rows", "the gradient's rows"):
            assert f">learning rate {rate}, {progress} steps, {where}<" in text
    for label in (STEP_ALONE, "pins", "new"):
        assert len(re.findall(f">{label}<", text)) == 1


def test_a_point_that_was_not_reached_has_none() -> None:
    text = plots.svg(drawn(2, EVERYWHERE[:3]), "map")
    assert ">learning rate 0.0002, 0 steps, unseen rows<" in text
    assert ">learning rate 0.0002, 130 steps, unseen rows<" not in text


def test_lines_are_means_and_bands_need_several_seeds() -> None:
    figure = drawn(3, EVERYWHERE[:1])
    unseen, gradient = figure.axes
    (line,) = [line for line in unseen.lines if line.get_label() == "pins"]
    assert list(line.get_xdata()) == [0.01, 0.5]
    assert list(line.get_ydata()) == pytest.approx([-0.03, -1.5])
    assert len(unseen.collections) == len(gradient.collections) == 2
    assert not any(axes.collections for axes in drawn(1, EVERYWHERE[:1]).axes)


def test_colours_and_markers_tell_all_criteria_apart() -> None:
    from pins.importance.criteria import CRITERIA

    for seen in zip(*(style.LOOKS[name] for name in CRITERIA), strict=True):
        assert len(set(seen)) == len(CRITERIA)
