"""Self-regularisation: the rule as a law over histories, the loss, runs that go on bit for bit."""

import copy
import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pins.errors import CheckpointError, ModelError, ScheduleError, SettingError
from pins.models.distillation_loss import Mixture, mixed_loss
from pins.models.heads import CLASSIFICATION, Distributions, Values
from pins.models.self_distillation import Selection, SelfRegularizer
from pins.pruning.pruner import Pruner
from pins.pruning.schedules import CubicSchedule
from pins.utils.io import load_tensors, save_tensors
from tests.pins.headed import HEADED, head_of, padded
from tests.pins.networks import BagClassifier, examples, tiny

SCORES = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
DROPS = st.sampled_from([0.0, 0.25, 0.5, math.inf])
SPARSITIES = st.sampled_from([0.0, 0.1, Fraction(1, 10), 0.5, 0.9])
HISTORIES = st.lists(st.tuples(SCORES, SPARSITIES), max_size=12)


def exact(sparsity: float | Fraction) -> Fraction:
    return Fraction(str(sparsity))


@given(HISTORIES, st.booleans(), DROPS)
def test_a_checkpoint_is_the_teacher_unless_one_as_sparse_scored_higher_or_it_has_collapsed(
    history: list[tuple[float, float | Fraction]], higher: bool, max_drop: float
) -> None:
    selection = Selection(higher_is_better=higher, max_drop=max_drop)
    sign = 1 if higher else -1
    for number, (score, sparsity) in enumerate(history):
        better = [
            (other, earlier) for other, earlier in history[:number] if sign * other > sign * score
        ]
        beaten = any(exact(earlier) >= exact(sparsity) for _, earlier in better)
        collapsed = any(abs(other - score) > max_drop * other for other, _ in better)
        assert selection.offer(score, sparsity) is not (beaten or collapsed)


@given(HISTORIES)
def test_without_the_guard_the_first_of_a_sparsity_and_the_latest_best_at_it_are_teachers(
    history: list[tuple[float, float | Fraction]],
) -> None:
    selection = Selection(max_drop=math.inf)
    best: dict[Fraction, float] = {}
    for score, sparsity in sorted(history, key=lambda checkpoint: exact(checkpoint[1])):
        ratio = exact(sparsity)
        assert selection.offer(score, sparsity) is (score >= best.get(ratio, -math.inf))
        best[ratio] = max(score, best.get(ratio, score))


@pytest.mark.parametrize(("max_drop", "taken"), [(0.25, False), (math.inf, True)])
def test_a_model_that_collapses_in_the_ramp_is_no_teacher(max_drop: float, taken: bool) -> None:
    selection = Selection(max_drop=max_drop)
    assert [selection.offer(0.93, 0.0), selection.offer(0.93, 0.2)] == [True, True]
    assert selection.offer(0.50, 0.4) is taken
    assert selection.offer(0.80, 0.6)  # it has recovered


@pytest.mark.parametrize("max_drop", [-0.1, math.nan])
def test_a_drop_that_is_no_share_is_refused(max_drop: float) -> None:
    with pytest.raises(SettingError, match=f"max_drop is {max_drop}: it is a share"):
        Selection(max_drop=max_drop)


@given(HISTORIES, st.booleans())
def test_the_authors_rule_wants_more_than_all_before(
    history: list[tuple[float, float | Fraction]], higher: bool
) -> None:
    selection = Selection("best-ever", higher_is_better=higher)
    best = -math.inf
    for score, sparsity in history:
        value = score if higher else -score
        assert selection.offer(score, sparsity) is (value > best)
        best = max(best, value)


@pytest.mark.parametrize("rule", ["latest-best", "best-ever"])
def test_the_best_score_of_all_time_freezes_at_the_dense_model(rule: Any) -> None:
    sparsities = [0.0, 0.0, 0.2, 0.4, 0.6, 0.8, 0.8, 0.8]
    scores = [0.88, 0.90, 0.89, 0.88, 0.86, 0.80, 0.83, 0.82]
    selection = Selection(rule)
    chosen = [selection.offer(*each) for each in zip(scores, sparsities, strict=True)]
    if rule == "best-ever":
        assert chosen == [True, True] + [False] * 6
    else:
        assert chosen == [True] * 7 + [False]


@pytest.mark.parametrize("rule", ["latest-best", "best-ever"])
@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_makes_no_teacher(rule: Any, score: float) -> None:
    selection = Selection(rule)
    assert not selection.offer(score, 0.0)
    assert selection.offer(0.1, 0.0)
    assert not selection.offer(score, 0.5)


@given(HISTORIES, HISTORIES, st.sampled_from(["latest-best", "best-ever"]), st.booleans())
def test_a_selection_goes_on_where_it_stood(
    before: list[tuple[float, float]], after: list[tuple[float, float]], rule: Any, higher: bool
) -> None:
    first = Selection(rule, higher_is_better=higher)
    again = Selection(rule, higher_is_better=higher)
    for checkpoint in before:
        first.offer(*checkpoint)
    again.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
    assert [first.offer(*each) for each in after] == [again.offer(*each) for each in after]


def test_a_rule_that_is_none_is_refused() -> None:
    rule: Any = "best"
    with pytest.raises(SettingError, match="no rule 'best': choose one of latest-best, best-ever"):
        Selection(rule)


@pytest.mark.parametrize("score", [None, 0.9, math.nan])
def test_an_expert_is_not_replaced_by_the_first_checkpoint_however_bad(score: float | None) -> None:
    headed = HEADED["classification"]
    model, expert = headed.model(), headed.model()
    regularizer = SelfRegularizer(model, expert, teacher_score=score)
    assert not regularizer.update(0.1, 0.0)
    assert regularizer.update(0.92, 0.2)  # better than the expert, or than the first one
    assert SelfRegularizer(model).update(0.1, 0.0)  # without an expert the model teaches itself


def test_an_expert_whose_score_is_known_is_replaced_by_a_better_checkpoint_at_once() -> None:
    headed = HEADED["classification"]
    assert SelfRegularizer(headed.model(), headed.model(), teacher_score=0.9).update(0.91, 0.1)


def test_a_sparsity_that_is_none_is_refused() -> None:
    regularizer = SelfRegularizer(HEADED["classification"].model())
    with pytest.raises(ScheduleError, match=r"sparsity is 1\.5: it is a ratio from 0"):
        regularizer.update(0.5, 1.5)


@pytest.mark.parametrize("name", HEADED)
def test_the_loss_mixes_the_predictions_of_model_and_teacher(name: str) -> None:
    headed, head = HEADED[name], head_of(name)
    student, batch = headed.model(), headed.batch()
    regularizer = SelfRegularizer(
        student, temperature=3.0, weight=0.4, divergence="cross-entropy", dtype=torch.float32
    )
    assert regularizer.head is head
    teacher = head.rows(student(**batch), batch)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.mul_(1.5)
    output = student(**batch)
    mixture = Mixture(3.0, 0.4, "cross-entropy")
    expected = mixed_loss(head.rows(output, batch), teacher, mixture)
    loss = regularizer.loss(output, batch)
    torch.testing.assert_close(loss, expected)
    itself = mixed_loss(head.rows(output, batch), head.rows(output, batch), mixture)
    assert not torch.isclose(loss, itself, rtol=1e-4, atol=0)
    per_item = regularizer.loss(output, batch, num_items=2)
    torch.testing.assert_close(per_item, expected * len(teacher.targets) / 2)
    torch.autograd.backward(regularizer.loss(output, batch))
    assert all(parameter.grad is None for parameter in regularizer.teacher.parameters())
    assert any(parameter.grad is not None for parameter in student.parameters())


@pytest.mark.parametrize("name", HEADED)
def test_the_divergence_is_that_of_model_and_teacher(name: str) -> None:
    headed, head = HEADED[name], head_of(name)
    student, batch = headed.model(), headed.batch()
    # what the loss is mixed by does not matter
    regularizer = SelfRegularizer(
        student, temperature=3.0, weight=0.4, divergence="cross-entropy", dtype=torch.float32
    )
    teacher = head.rows(student(**batch), batch)
    itself = regularizer.divergence(student(**batch), batch)
    torch.testing.assert_close(itself, torch.zeros_like(itself), rtol=0, atol=1e-6)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.mul_(1.5)
    output = student(**batch)
    rows = head.rows(output, batch)
    if isinstance(rows, Values):
        assert isinstance(teacher, Values)
        expected = (rows.values - teacher.values).square().mean()
    else:
        assert not isinstance(teacher, Values)
        log_q, log_p = ((r.logits / 3).log_softmax(-1) for r in (teacher, rows))
        possible = log_q.exp() > 0
        terms = torch.where(possible, log_q.exp() * (log_q - log_p), 0.0)
        expected = terms.sum(-1).mean()
    found = regularizer.divergence(output, batch)
    torch.testing.assert_close(found, expected)
    assert found > 1e-5
    assert not found.requires_grad


@pytest.mark.parametrize("name", HEADED)
def test_a_teacher_like_the_model_leaves_the_tasks_loss_times_1_less_alpha(name: str) -> None:
    headed, head = HEADED[name], head_of(name)
    student, batch = headed.model(), headed.batch()
    output = student(**batch)
    loss = SelfRegularizer(student, dtype=torch.float32).loss(output, batch)
    rows = head.rows(output, batch)
    if isinstance(rows, Values):
        expected = 0.5 * (rows.values - rows.targets).square().mean()
    else:
        each = nn.functional.cross_entropy(rows.logits, rows.targets, reduction="none")
        entropy = torch.special.entr(rows.logits.softmax(-1)).sum(-1)
        outcomes = (rows.logits > -torch.inf).sum(-1)
        expected = (entropy / outcomes.log() * each).mean()  # 1 − α is the relative entropy
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("name", HEADED)
@pytest.mark.parametrize("columns", [1, 5])
def test_padding_changes_neither_loss_nor_gradient(name: str, columns: int) -> None:
    headed = HEADED[name]
    student = headed.model()
    regularizer = SelfRegularizer(student, dtype=torch.float32)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.mul_(1.5)
    found = []
    for batch in (headed.batch(), padded(headed.batch(), columns)):
        loss = regularizer.loss(student(**batch), batch)
        trained = [parameter for parameter in student.parameters() if parameter.dim() > 1]
        gradients = torch.autograd.grad(loss, trained, allow_unused=True)
        found.append((loss, [gradient for gradient in gradients if gradient is not None]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["tokens", "span", "causal", "seq2seq"])
def test_texts_without_targets_change_nothing(name: str) -> None:
    headed = HEADED[name]
    student, batch = headed.model(), headed.batch()
    regularizer = SelfRegularizer(student, dtype=torch.float32)
    more = {key: torch.cat([tensor, tensor[:1]]) for key, tensor in batch.items()}
    for key in headed.targets:
        more[key][3] = -100
    torch.testing.assert_close(
        regularizer.loss(student(**more), more), regularizer.loss(student(**batch), batch)
    )


def test_the_teacher_follows_the_rule() -> None:
    student = HEADED["classification"].model()
    regularizer = SelfRegularizer(student, dtype=torch.float32)

    def taught() -> bool:
        """Whether the teacher has the weights that the model has now."""
        pairs = zip(student.parameters(), regularizer.teacher.parameters(), strict=True)
        return all(torch.equal(mine, theirs) for mine, theirs in pairs)

    def train() -> None:
        with torch.no_grad():
            for parameter in student.parameters():
                parameter.add_(0.5)

    assert taught()
    for score, sparsity, expected in (
        (0.9, 0.1, True), (0.8, 0.1, False), (0.75, 0.2, True), (0.75, 0.2, True),
        (0.7, 0.2, False), (0.7, 0.3, True), (0.5, 0.4, False),
    ):  # fmt: skip
        train()
        assert regularizer.update(score, sparsity) is expected
        assert taught() is expected


def test_a_dense_model_is_the_first_teacher() -> None:
    headed = HEADED["classification"]
    student, dense, batch = headed.model(), headed.model(), headed.batch()
    with torch.no_grad():
        for parameter in dense.parameters():
            parameter.add_(0.1)
        expected = dense(**batch).logits
    regularizer = SelfRegularizer(student, teacher=dense, weight=1.0, dtype=torch.float32)
    output = student(**batch)
    targets = batch["labels"]
    divergence = mixed_loss(
        Distributions(output.logits, targets), Distributions(expected, targets), Mixture(weight=1.0)
    )
    assert torch.equal(regularizer.loss(output, batch), divergence)
    assert divergence.item() > 0
    with pytest.raises(ModelError, match=r"the teacher has 'classifier.weight' of shape \(2, 8\)"):
        SelfRegularizer(student, tiny("Bert", "ForSequenceClassification", num_labels=2))
    with pytest.raises(ModelError, match="BagClassifier has no head that PINS knows"):
        SelfRegularizer(BagClassifier())


class Run:
    """The plain loop of the module's docstring, with dropout, stopped and resumed as one likes."""

    def __init__(self, *, regularized: bool = True) -> None:
        torch.manual_seed(0)
        self.model = tiny("Bert", "ForSequenceClassification", num_labels=3)
        self.model.get_parameter("bert.embeddings.word_embeddings.weight").requires_grad_(False)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(trained, lr=0.3, momentum=0.5)
        schedule = CubicSchedule(8, 0.5, interval=2)
        self.pruner = Pruner(self.model, self.optimizer, "magnitude", schedule)
        self.regularizer = SelfRegularizer(self.model) if regularized else None
        self.chosen: list[bool] = []

    def steps(self, first: int, last: int) -> None:
        rows = examples(words=10, rows=40)
        for step in range(first, last):
            batch = rows.batch(range(5 * step, 5 * step + 5))
            self.model.train()
            output = self.model(**batch)
            if self.regularizer is None:
                torch.autograd.backward(output.loss)
            else:
                torch.autograd.backward(self.regularizer.loss(output, batch))
            self.optimizer.step()
            self.pruner.step()
            self.optimizer.zero_grad()
            if self.regularizer is not None:
                chosen = self.regularizer.update((1.0, 0.0, 0.5)[step % 3], self.pruner.sparsity)
                self.chosen.append(chosen)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_a_run_that_stopped_goes_on_bit_for_bit(tmp_path: Path) -> None:
    whole, first, second = Run(), Run(), Run()
    whole.steps(0, 8)
    first.steps(0, 3)
    assert first.regularizer is not None
    assert second.regularizer is not None
    tensors, scalars = first.regularizer.state_dict()
    save_tensors(tensors, tmp_path / "teacher.safetensors", {})
    text = json.dumps(scalars, allow_nan=False)

    second.model.load_state_dict(first.model.state_dict())
    second.optimizer.load_state_dict(copy.deepcopy(first.optimizer.state_dict()))
    second.pruner.load_state_dict(first.pruner.state_dict())
    second.regularizer.load_state_dict(
        load_tensors(tmp_path / "teacher.safetensors")[0], json.loads(text)
    )
    torch.testing.assert_close(
        weights(second.regularizer.teacher), weights(first.regularizer.teacher), rtol=0, atol=0
    )
    assert second.regularizer.state_dict()[1] == scalars
    state = torch.get_rng_state()
    first.steps(3, 8)
    torch.set_rng_state(state)
    second.steps(3, 8)
    assert first.chosen[3:] == second.chosen
    assert True in second.chosen
    assert False in whole.chosen
    torch.testing.assert_close(weights(first.model), weights(second.model), rtol=0, atol=0)


def test_the_teacher_draws_no_random_number_of_the_training() -> None:
    torch.manual_seed(0)
    plain = Run(regularized=False)
    plain.steps(0, 8)
    state = torch.get_rng_state()
    regularized = Run()
    regularized.steps(0, 8)
    assert torch.equal(torch.get_rng_state(), state)
    again = Run()
    again.steps(0, 8)
    torch.testing.assert_close(weights(again.model), weights(regularized.model), rtol=0, atol=0)
    name = "classifier.weight"
    assert not torch.equal(plain.model.get_parameter(name), again.model.get_parameter(name))


def test_a_state_of_something_else_is_refused_and_changes_nothing() -> None:
    headed = HEADED["classification"]
    regularizer = SelfRegularizer(headed.model())
    regularizer.update(0.5, 0.5)
    tensors, scalars = regularizer.state_dict()
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    other_tensors, other = SelfRegularizer(
        tiny("Bert", "ForSequenceClassification", num_labels=2)
    ).state_dict()
    damaged: list[tuple[dict[str, Any], str]] = [
        ({}, "was given no state of a SelfRegularizer: give what its state_dict"),
        ({**scalars, "version": 2}, "was given no state of a SelfRegularizer"),
        ({**scalars, "shared": None}, "was given no state of a SelfRegularizer"),
        ({**scalars, "rule": "best-ever"}, "with rule 'best-ever', this one has 'latest-best'"),
        ({**scalars, "higher_is_better": False}, "with higher_is_better False, this one has True"),
        ({**scalars, "best": [["1/0", 0.5]]}, r"the teacher is damaged \(ZeroDivisionError"),
        ({**scalars, "best": [[1]]}, r"the state of the teacher is damaged \(ValueError"),
        ({**scalars, "best": None}, r"the state of the teacher is damaged \(TypeError"),
    ]
    for state, message in damaged:
        with pytest.raises(CheckpointError, match=message):
            regularizer.load_state_dict(tensors, state)
    with pytest.raises(CheckpointError, match=r"state has '\S+' of shape .*: it is of another mod"):
        regularizer.load_state_dict(other_tensors, other)
    assert regularizer.state_dict()[1] == scalars
    for name, tensor in regularizer.state_dict()[0].items():
        assert torch.equal(tensor, before[name])


def test_settings_that_make_no_sense_are_refused_before_anything_is_copied() -> None:
    model = HEADED["classification"].model()
    with pytest.raises(SettingError, match="temperature is 0"):
        SelfRegularizer(model, temperature=0)
    with pytest.raises(SettingError, match="weight is 2"):
        SelfRegularizer(model, weight=2)
    rule: Any = "first"
    with pytest.raises(SettingError, match="no rule 'first'"):
        SelfRegularizer(model, rule=rule)
    with pytest.raises(SettingError, match=r"dtype is torch\.int8"):
        SelfRegularizer(model, dtype=torch.int8)


def test_a_head_may_be_given() -> None:
    model, batch = BagClassifier(), examples().batch([0, 1, 2])
    regularizer = SelfRegularizer(model, head=CLASSIFICATION)
    assert regularizer.head is CLASSIFICATION
    assert bool(regularizer.loss(model(**batch), batch).isfinite())
