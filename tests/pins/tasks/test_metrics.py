"""Metrics against scikit-learn's and SciPy's, and their worth where those have none."""

import math
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pins.tasks.metrics import METRICS, accuracy, f1, matthews, pearson, spearman

sklearn = pytest.importorskip("sklearn.metrics")
stats = pytest.importorskip("scipy.stats")

CLOSE = 1e-6


Rows = list[tuple[float, float]]  # predictions and targets


def pairs(values: st.SearchStrategy[float], smallest: int = 1) -> st.SearchStrategy[Rows]:
    """Predictions and targets, pair by pair."""
    return st.lists(st.tuples(values, values), min_size=smallest, max_size=30)


def columns(rows: Rows) -> tuple[list[float], list[float]]:
    predictions, targets = zip(*rows, strict=True)
    return list(predictions), list(targets)


@given(pairs(st.integers(0, 4)))
def test_accuracy_is_that_of_scikit_learn(rows: Rows) -> None:
    predictions, targets = columns(rows)
    ours = accuracy(torch.tensor(predictions), torch.tensor(targets)).item()
    assert ours == pytest.approx(sklearn.accuracy_score(targets, predictions), abs=CLOSE)


@given(pairs(st.integers(0, 1)))
def test_f1_is_that_of_scikit_learn(rows: Rows) -> None:
    predictions, targets = columns(rows)
    ours = f1(torch.tensor(predictions), torch.tensor(targets)).item()
    expected = sklearn.f1_score(targets, predictions, zero_division=0)
    assert ours == pytest.approx(expected, abs=CLOSE)


@given(pairs(st.integers(0, 1)))
def test_matthews_is_that_of_scikit_learn(rows: Rows) -> None:
    predictions, targets = columns(rows)
    ours = matthews(torch.tensor(predictions), torch.tensor(targets)).item()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of a single class
        expected = sklearn.matthews_corrcoef(targets, predictions)
    assert ours == pytest.approx(expected, abs=CLOSE)


def test_a_model_that_always_says_the_same_has_matthews_0() -> None:
    targets = torch.tensor([1] * 7 + [0] * 3)
    assert matthews(torch.ones(10, dtype=torch.int64), targets).item() == 0
    functional = pytest.importorskip("torchmetrics.functional.classification")
    theirs = functional.multiclass_matthews_corrcoef(torch.ones_like(targets), targets, 2)
    assert theirs > 0.2  # why it is not theirs


# hundredths: SciPy's own rounding is none of the question
scores = st.integers(-500, 500).map(lambda hundredths: hundredths / 100)


@pytest.mark.parametrize("name", ["pearson", "spearman"])
@given(rows=pairs(st.one_of(scores, st.sampled_from([0.0, 1.0, 2.5])), smallest=2))
def test_correlations_are_those_of_scipy(name: str, rows: Rows) -> None:
    predictions, targets = columns(rows)
    value = METRICS[name](torch.tensor(predictions), torch.tensor(targets)).item()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of a constant
        expected = getattr(stats, f"{name}r")(predictions, targets).statistic
    constant = len(set(predictions)) == 1 or len(set(targets)) == 1
    assert math.isnan(expected) <= constant
    assert value == pytest.approx(0 if constant else expected, abs=CLOSE)


def test_the_two_correlations_differ() -> None:
    targets = torch.arange(5.0)
    assert spearman(targets.exp(), targets).item() == pytest.approx(1)
    assert pearson(targets.exp(), targets).item() < 0.9


@pytest.mark.parametrize("name", ["pearson", "spearman"])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_a_correlation_has_no_scale(name: str, scale: float) -> None:
    metric = METRICS[name]
    targets = torch.tensor([1.0, 2.0, 3.0, 5.0])
    assert metric(targets * scale, targets).item() == pytest.approx(1)
    assert metric(-targets * scale, targets).item() == pytest.approx(-1)
    # a model that has nearly collapsed: its answers differ in their last digits alone
    assert metric(1e6 + targets / 4, targets).item() == pytest.approx(1)


@pytest.mark.parametrize("name", ["matthews", "pearson", "spearman"])
def test_one_row_and_constants_have_correlation_0(name: str) -> None:
    metric = METRICS[name]
    assert metric(torch.tensor([1.0]), torch.tensor([1.0])).item() == 0
    assert metric(torch.full((9,), 0.1), torch.arange(9.0)).item() == 0
    assert metric(torch.arange(9.0), torch.full((9,), 0.1)).item() == 0


@pytest.mark.parametrize("name", ["pearson", "spearman"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_prediction_that_is_no_number_has_no_correlation(name: str, value: float) -> None:
    predictions = torch.tensor([1.0, value, 3.0])
    assert math.isnan(METRICS[name](predictions, torch.tensor([1.0, 2.0, 3.0])).item())


@pytest.mark.parametrize("name", METRICS)
def test_the_right_answers_score_1(name: str) -> None:
    targets = torch.tensor([0, 1, 1, 0, 1])
    right: Tensor = METRICS[name](targets, targets)
    wrong = METRICS[name](1 - targets, targets)
    assert right.item() == pytest.approx(1)
    assert wrong.item() == pytest.approx(0 if name in ("accuracy", "f1") else -1)
