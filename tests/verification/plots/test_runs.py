from typing import Any

import pytest
import torch

from pins.selection.select import decide
from verification.experiments.score_curve import score_curve

plots = pytest.importorskip("verification.plots", reason="the figures are drawn by matplotlib")


def change(criterion: str, fraction: float) -> dict[str, Any]:
    return {
        "criterion": criterion,
        "fraction": fraction,
        "predicted": -fraction,
        "measured": fraction / 2,
        "measured_unseen": fraction,
    }


ROWS = [change("step alone", 0.0)] + [
    change(name, fraction) for name in ("pins", "obd", "a new one") for fraction in (0.01, 0.5)
]


def test_every_criterion_is_drawn_even_one_without_a_colour() -> None:
    text = plots.svg(plots.loss_change(ROWS), "loss")
    for label in ("pins", "pins, predicted", "obd", "a new one", "on unseen rows"):
        assert f">{label}<" in text
    assert ">step alone<" not in text


def test_the_same_rows_give_the_same_file_and_others_another() -> None:
    first = plots.svg(plots.predicted_against_measured(ROWS), "points")
    assert plots.svg(plots.predicted_against_measured(ROWS), "points") == first
    assert plots.svg(plots.predicted_against_measured(ROWS[:-1]), "points") != first


@pytest.mark.parametrize("least", [-1.0, 0.5])
def test_scores_of_one_sign_and_of_both_are_drawn_and_ties_counted(least: float) -> None:
    importance = {"w": torch.tensor([2.0, 1.0, 1.0, least])}
    for keep, tied in ((2, 2), (1, 1)):
        curve = score_curve(importance, decide(importance, keep).proof)
        text = plots.svg(plots.sorted_scores(curve), "scores")
        assert f">λ = {2.0 if keep == 1 else 1.0:.3g}<" in text
        assert f">kept: {keep}<" in text
        assert f">equal to λ: {tied}<" in text


def test_training_and_layers_are_labelled() -> None:
    decisions = [{"step": 2, "sparsity": 0.5}]
    assert ">training step<" in plots.svg(plots.training([2.0, 1.0, 1.5], decisions, 1), "t")
    layers = [{"kind": kind, "sparsity": 0.5} for kind in ("query", "key", "query", "key")]
    text = plots.svg(plots.layer_sparsity(layers), "layers")
    assert ">query<" in text
    assert ">layer<" in text


def test_an_id_of_one_figure_is_not_that_of_another() -> None:
    import re

    texts = [plots.svg(plots.loss_change(ROWS), name) for name in ("one", "two")]
    clips = [set(re.findall(r'clipPath id="(\w+)"', text)) for text in texts]
    assert clips[0]
    assert not clips[0] & clips[1]


def test_decisions_show_prediction_measurement_and_their_ratio() -> None:
    decisions = [
        {"step": 10, "predicted": -0.5, "measured": 1.0},
        {"step": 20, "predicted": 0.0, "measured": 0.5},  # has no ratio
    ]
    text = plots.svg(plots.measured_decisions(decisions), "decisions")
    assert ">predicted change<" in text
    assert ">measured / predicted<" in text
