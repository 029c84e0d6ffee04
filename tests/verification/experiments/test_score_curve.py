import torch
from hypothesis import given

from pins.selection.select import decide
from verification.experiments.score_curve import AROUND, POINTS, score_curve
from verification.strategies import Instance, selections


@given(selections(max_tensors=3, max_size=60, zero_size=True))
def test_the_curve_descends_and_counts_ties_and_zeros(selection: Instance) -> None:
    importance, keep = selection
    proof = decide(importance, keep).proof
    curve = score_curve(importance, proof)
    scores = torch.cat([s.double().reshape(-1) for s in importance.values()])
    ordered = scores.sort(descending=True).values.tolist()
    assert (curve["keep"], curve["total"]) == (keep, len(ordered))
    assert [ordered[rank] for rank in curve["ranks"]] == curve["scores"]
    assert len(set(curve["ranks"])) == len(curve["ranks"]) == min(POINTS, len(ordered))
    first = curve["first"]
    assert curve["near"] == ordered[first : keep + AROUND]
    assert first == max(keep - AROUND, 0)
    assert curve["tied"] == sum(score == curve["lambda"] for score in ordered)
    assert curve["zeros"] == sum(score == 0 for score in ordered)


def test_a_tie_at_the_threshold_is_counted() -> None:
    importance = {"w": torch.tensor([3.0, 1.0, 1.0, 1.0, 0.0])}
    curve = score_curve(importance, decide(importance, 2).proof)
    assert (curve["lambda"], curve["tied"], curve["zeros"]) == (1.0, 3, 1)
