import pytest
import torch
from torch import Tensor

from verification.experiments.model_snapshot import ModelSnapshot
from verification.experiments.smooth_loss import loss_function
from verification.experiments.taylor_remainders import displacement, dot, sample
from verification.experiments.toy_classifier import BATCH, ToyClassifier
from verification.experiments.training import evaluate


def lesson(
    seed: int = 0, steps: int = 30
) -> tuple[ToyClassifier, dict[str, Tensor], ModelSnapshot]:
    toy = ToyClassifier(seed)
    toy.train(steps)
    rows = dict(toy.batch())
    return toy, rows, toy.observe(rows)


def test_a_seed_gives_the_same_lesson_and_another_seed_another() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, rows, observed = lesson()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    second, rows_again, again = lesson()
    _, other_rows, other = lesson(seed=1)
    assert torch.equal(rows["x"], rows_again["x"])
    assert not torch.equal(rows["x"], other_rows["x"])
    assert torch.equal(first.unseen["x"], second.unseen["x"])
    for name, weight in observed.before.items():
        assert torch.equal(weight, again.before[name])
        assert not torch.equal(weight, other.before[name])


def test_batches_differ_and_none_holds_an_unseen_row() -> None:
    toy = ToyClassifier()
    batches = [toy.batch() for _ in range(3)]
    assert [len(batch["labels"]) for batch in batches] == [BATCH] * 3
    assert not torch.equal(batches[0]["x"], batches[1]["x"])
    unseen = {*toy.unseen["x"][:, 0].tolist()}
    assert all(unseen.isdisjoint(batch["x"][:, 0].tolist()) for batch in batches)
    assert {*toy.unseen["x"][:3, 0].tolist()} <= unseen


def test_thirty_steps_learn_most_labels_but_not_their_noise() -> None:
    untrained, trained = ToyClassifier(), lesson()[0]
    before, after = (evaluate(toy.model, [toy.unseen]) for toy in (untrained, trained))
    assert before.accuracy < 0.5
    assert 0.8 < after.accuracy < 0.95  # the noise of the labels sets a bound
    assert after.loss < before.loss / 2


def test_the_gradient_is_the_gradient_of_the_loss() -> None:
    toy, rows, observed = lesson()
    everything = {name: torch.ones_like(w, dtype=torch.bool) for name, w in observed.before.items()}
    direction = displacement(observed.before, observed.after, everything)
    line = sample(loss_function(toy.model, rows), observed.before, direction)
    slope = float(dot(observed.gradient, direction))
    assert slope < 0
    assert line.test([slope]).slopes == pytest.approx([1, 2], abs=0.05)
    assert line.test([1.01 * slope]).slopes == pytest.approx([1, 1], abs=0.05)


def test_the_fisher_is_the_mean_square_of_the_gradients_of_single_rows() -> None:
    toy, rows, _ = lesson()
    three = {name: tensor[:3] for name, tensor in rows.items()}
    singles = [{name: tensor[i : i + 1] for name, tensor in rows.items()} for i in range(3)]
    gradients = [toy.observe(single).gradient for single in singles]
    observed = toy.observe(three)
    assert observed.curvature is not None
    for name, fisher in observed.curvature.items():
        squares = torch.stack([gradient[name].square() for gradient in gradients])
        torch.testing.assert_close(fisher, squares.mean(0))
        assert (fisher - observed.gradient[name].square()).abs().max() > 1e-4


def test_losses_use_the_given_weights_and_do_not_change_the_model() -> None:
    toy, rows, observed = lesson()
    own = toy.losses(observed.before, rows)
    expected = [evaluate(toy.model, [each]).loss for each in (rows, toy.unseen)]
    assert own.tolist() == pytest.approx(expected)
    assert not own.requires_grad
    pruned = {name: torch.zeros_like(weight) for name, weight in observed.before.items()}
    assert toy.losses(pruned, rows).min() > own.max()
    assert torch.equal(toy.losses(observed.before, rows), own)


def test_one_step_lowers_the_loss_on_its_rows() -> None:
    toy, rows, observed = lesson()
    start, stepped = toy.losses(observed.before, rows), toy.losses(observed.after, rows)
    assert stepped[0] < start[0]
