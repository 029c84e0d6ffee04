"""Smoothing: the averages are their definitions, free of bias, exact on constants, cheap."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pins.errors import CheckpointError, CriterionError, ObservationError
from pins.importance.running_mean import RunningMean
from pins.importance.smoothing import (
    SMOOTHINGS,
    ExponentialAverage,
    NoSmoothing,
    Smoothing,
    Uncertainty,
    WindowMean,
    find_smoothing,
)

KINDS: dict[str, Callable[[], Smoothing]] = {
    **SMOOTHINGS,
    "average of windows": lambda: ExponentialAverage(window=True),
    "uncertainty of windows": lambda: Uncertainty(window=True),
}
AVERAGES = {name: kind for name, kind in KINDS.items() if name != "none"}
MEANS = {name: kind for name, kind in AVERAGES.items() if "uncertainty" not in name}

numbers = st.floats(-1e3, 1e3, width=32)
betas = st.floats(0, 0.999)


def rows(length: int = 3) -> st.SearchStrategy[list[list[float]]]:
    """Scores of a few weights over a few steps; shrinks to one step of zeros."""
    row = st.lists(numbers, min_size=length, max_size=length)
    return st.lists(row, min_size=1, max_size=12)


def smoothed(smoothing: Smoothing, scores: Sequence[Sequence[float]], every: int = 10**9) -> Tensor:
    """The importance after these steps, with a decision after every so many of them."""
    for step, row in enumerate(scores, start=1):
        smoothing.update("w", torch.tensor(row, dtype=torch.float64))
        if step % every == 0 and step < len(scores):
            smoothing.decided()
    return smoothing.importance("w")


# The definitions, written out for one weight in float64.


def mean(scores: Sequence[float], beta: float = 1.0) -> float:
    weights = [beta ** (len(scores) - 1 - j) for j in range(len(scores))]
    return math.fsum(w * s for w, s in zip(weights, scores, strict=True)) / math.fsum(weights)


def corrected(scores: Sequence[float], beta: float) -> float:
    """As PLATON writes an exponential average, and then divided by its bias."""
    average = 0.0
    for score in scores:
        average = beta * average + (1 - beta) * score
    return average / (1 - beta ** len(scores))


def errors(scores: Sequence[float], beta: float) -> list[float]:
    """|Iₜ − Īₜ₋₁| for t = 2, 3, …"""
    return [abs(scores[t] - mean(scores[:t], beta)) for t in range(1, len(scores))]


def windows(scores: Sequence[float], every: int) -> list[float]:
    return [mean(scores[first : first + every]) for first in range(0, len(scores), every)]


def close(found: Tensor, expected: Sequence[float]) -> bool:
    wanted = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
    return True


@given(rows(), st.integers(1, 5))
def test_the_window_mean_is_the_mean_since_the_last_decision(
    scores: list[list[float]], every: int
) -> None:
    found = smoothed(WindowMean(), scores, every)
    since = (len(scores) - 1) // every * every
    close(found, [mean(column[since:]) for column in zip(*scores, strict=True)])


@given(rows(), betas)
def test_the_exponential_average_is_the_one_from_zero_without_its_bias(
    scores: list[list[float]], beta: float
) -> None:
    found = smoothed(ExponentialAverage(beta), scores)
    columns = list(zip(*scores, strict=True))
    close(found, [mean(column, beta) for column in columns])
    close(found, [corrected(column, beta) for column in columns])


@given(rows(), betas, betas)
def test_uncertainty_is_the_average_times_the_average_error_of_its_prediction(
    scores: list[list[float]], beta1: float, beta2: float
) -> None:
    found = smoothed(Uncertainty(beta1, beta2), scores)
    expected = []
    for column in zip(*scores, strict=True):
        wrong = errors(column, beta1)
        expected.append(mean(column, beta1) * (mean(wrong, beta2) if wrong else 1))
    torch.testing.assert_close(
        found, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-6
    )


@given(rows(), betas, betas, st.integers(1, 5))
def test_windows_are_averaged_as_steps_are_with_the_one_that_ends_now(
    scores: list[list[float]], beta1: float, beta2: float, every: int
) -> None:
    columns = [windows(column, every) for column in zip(*scores, strict=True)]
    by_window = [list(row) for row in zip(*columns, strict=True)]
    for windowed, plain in (
        (ExponentialAverage(beta1, window=True), ExponentialAverage(beta1)),
        (Uncertainty(beta1, beta2, window=True), Uncertainty(beta1, beta2)),
    ):
        torch.testing.assert_close(
            smoothed(windowed, scores, every), smoothed(plain, by_window), rtol=1e-9, atol=1e-6
        )


def test_on_numbers_that_tell_before_from_after_and_corrected_from_not() -> None:
    # β₁ = β₂ = ½, scores 4, 8, 2. Ī: 4; (½·4 + 8)/(3/2) = 20/3; (¼·4 + ½·8 + 2)/(7/4) = 4.
    # errors |8 − 4| = 4, |2 − 20/3| = 14/3; Ū = (½·4 + 14/3)/(3/2) = 40/9. 4·40/9 = 160/9.
    # With |I − Ī| after the update: 0, 4/3, 2, so that Ū = (0 + 2/3 + 2)/(7/4) = 32/21.
    scores = [[4.0], [8.0], [2.0]]
    assert close(smoothed(ExponentialAverage(0.5), scores), [4])
    assert close(smoothed(Uncertainty(0.5, 0.5), scores), [160 / 9])
    assert close(smoothed(Uncertainty(0.5, 0.5), scores[:2]), [20 / 3 * 4])
    assert close(smoothed(Uncertainty(0.5, 0.5), scores[:1]), [4])


@pytest.mark.parametrize("kind", MEANS.values(), ids=MEANS)
@given(numbers, st.integers(1, 20), st.integers(1, 5))
def test_constant_scores_are_their_own_mean_bit_for_bit(
    kind: Callable[[], Smoothing], score: float, steps: int, every: int
) -> None:
    for dtype in (torch.float32, torch.float64):
        smoothing, scores = kind(), torch.tensor([score], dtype=dtype)
        for step in range(1, steps + 1):
            smoothing.update("w", scores)
            assert torch.equal(smoothing.importance("w"), scores)
            if step % every == 0 and step < steps:
                smoothing.decided()


@given(st.floats(0.1, 0.99), st.integers(1, 6))
def test_without_the_correction_constant_scores_are_not_their_own_mean(
    beta: float, steps: int
) -> None:
    average = 0.0
    for _ in range(steps):
        average = beta * average + (1 - beta) * 3.0
    assert average < 3.0 * (1 - beta**steps / 2)
    assert close(smoothed(ExponentialAverage(beta), [[3.0]] * steps), [3.0])


def test_constant_errors_are_their_own_uncertainty() -> None:
    smoothing, average = Uncertainty(), ExponentialAverage()
    score = torch.tensor([5.0], dtype=torch.float64)
    for step in range(20):
        smoothing.update("w", score)
        average.update("w", score)
        mean_now = average.importance("w")
        error = 0.5 if step else 1.0  # the first step has no error
        torch.testing.assert_close(smoothing.importance("w"), mean_now * error, rtol=1e-12, atol=0)
        score = mean_now + (-1) ** step * 0.5


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@given(st.lists(st.floats(0, 1e3, width=32), min_size=1, max_size=10), st.sampled_from([1, -1]))
def test_the_sign_of_signed_scores_stays(
    kind: Callable[[], Smoothing], scores: list[float], sign: int
) -> None:
    found = smoothed(kind(), [[sign * score] for score in scores])
    assert sign * found.item() >= -1e-12
    mirrored = smoothed(kind(), [[-sign * score] for score in scores])
    assert torch.equal(mirrored, -found)


def test_a_mean_of_absolute_values_would_lose_it() -> None:
    scores = [[1.0], [-3.0]]
    assert smoothed(WindowMean(), scores).item() == -1.0
    assert smoothed(WindowMean(), [[abs(score)] for (score,) in scores]).item() == 2.0


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_each_weight_is_smoothed_by_itself_wherever_it_stands(
    kind: Callable[[], Smoothing],
) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(7, 37, generator=generator)
    order = torch.randperm(37, generator=generator)
    together, permuted, alone = kind(), kind(), kind()
    for row in scores:
        together.update("w", row)
        permuted.update("w", row[order])
        alone.update("w", row[5:6])
    found = together.importance("w")
    assert torch.equal(found, together.importance("w"))
    assert torch.equal(permuted.importance("w"), found[order])
    assert torch.equal(alone.importance("w"), found[5:6])


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_state_continues_bit_for_bit(kind: Callable[[], Smoothing]) -> None:
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(9, 2, 5, generator=generator)
    first = kind()
    for row in scores[:4]:
        first.update("a/b.count/c", row)
        first.update("d", row[0])
    first.decided()
    first.update("a/b.count/c", scores[4])
    state = first.state_dict()
    kept = {key: tensor.clone() for key, tensor in state.items()}
    second = kind()
    second.load_state_dict(state)
    for row in scores[5:]:
        for smoothing in (first, second):
            smoothing.update("a/b.count/c", row)
            smoothing.update("d", row[1])
    for name in ("a/b.count/c", "d"):
        assert torch.equal(first.importance(name), second.importance(name))
    assert all(torch.equal(kept[key], tensor) for key, tensor in state.items())
    if kind is not NoSmoothing:
        fresh = kind()
        fresh.update("d", scores[8, 1])
        assert not torch.equal(fresh.importance("d"), first.importance("d"))


@pytest.mark.parametrize(
    ("kind", "tensors"),
    [
        ("none", 0),
        ("window", 1),
        ("average", 1),
        ("uncertainty", 2),
        ("average of windows", 2),
        ("uncertainty of windows", 3),
    ],
)
@pytest.mark.parametrize(
    ("dtype", "kept"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_how_many_tensors_are_kept_and_of_which_type(
    kind: str, tensors: int, dtype: torch.dtype, kept: torch.dtype
) -> None:
    smoothing = KINDS[kind]()
    for _ in range(3):
        smoothing.update("w", torch.ones(4, 3, dtype=dtype))
        smoothing.decided()
    smoothing.update("w", torch.ones(4, 3, dtype=dtype))
    held = [t for key, t in smoothing.state_dict().items() if ".count/" not in key]
    assert len(held) == tensors
    assert all(tensor.shape == (4, 3) and tensor.dtype == kept for tensor in held)


class CountsNew(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the tensors of many weights that are made, not those changed in place."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.made = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        old = {id(value) for value in [*args, *(kwargs or {}).values()]}
        views = func in (torch.ops.aten.detach.default,)
        self.made += isinstance(result, Tensor) and id(result) not in old and not views
        return result


@pytest.mark.parametrize("kind", AVERAGES.values(), ids=AVERAGES)
def test_an_update_makes_one_temporary_tensor(kind: Callable[[], Smoothing]) -> None:
    smoothing = kind()
    for _ in range(3):
        smoothing.update("w", torch.randn(8))
    scores = torch.randn(8)
    with CountsNew() as counter:
        smoothing.update("w", scores)
    # one for the average, and then one for its error: each is gone before the next
    assert counter.made == (2 if kind is SMOOTHINGS["uncertainty"] else 1)
    with CountsNew() as control:
        torch.add(scores * 2, 1)
    assert control.made == 2


def test_asking_changes_nothing_and_the_answer_is_ones_own() -> None:
    for kind in AVERAGES.values():
        smoothing, untouched = kind(), kind()
        for row in torch.randn(6, 3, generator=torch.Generator().manual_seed(2)):
            smoothing.update("w", row)
            untouched.update("w", row)
            smoothing.importance("w").zero_()
        assert torch.equal(smoothing.importance("w"), untouched.importance("w"))


def test_scores_are_left_as_they_are() -> None:
    for kind in KINDS.values():
        smoothing, scores = kind(), torch.tensor([1.0, -2.0])
        for _ in range(3):
            smoothing.update("w", scores)
            smoothing.importance("w")
        smoothing.decided()
        assert scores.tolist() == [1.0, -2.0]


def test_no_smoothing_is_the_scores_of_the_step() -> None:
    smoothing = NoSmoothing()
    assert not smoothing.every_step
    assert smoothed(smoothing, [[1.0], [7.0]]).item() == 7.0
    smoothing.decided()
    with pytest.raises(ObservationError):
        smoothing.importance("w")


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_nothing_to_average_is_an_error(kind: Callable[[], Smoothing]) -> None:
    smoothing = kind()
    with pytest.raises(
        ObservationError,
        match=rf"smoothing '{smoothing.name}' has no scores of 'w' to average: call update\(\)",
    ):
        smoothing.importance("w")


def test_a_window_begins_anew_after_a_decision() -> None:
    smoothing = WindowMean()
    smoothing.update("w", torch.ones(2))
    smoothing.decided()
    with pytest.raises(ObservationError, match="and decided\\(\\) only after a decision"):
        smoothing.importance("w")


@pytest.mark.parametrize("kind", AVERAGES.values(), ids=AVERAGES)
def test_scores_of_another_shape_are_refused(kind: Callable[[], Smoothing]) -> None:
    smoothing = kind()
    smoothing.update("w", torch.ones(2, 3))
    with pytest.raises(
        ObservationError, match=r"scores of 'w' have shape \(3,\), their average has \(2, 3\)"
    ):
        smoothing.update("w", torch.ones(3))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"window/w": torch.ones(2)}, "the state has 'window/w', which smoothing 'uncertainty'"),
        ({"masks": torch.ones(2)}, "the state has 'masks', which smoothing 'uncertainty' does not"),
        ({"average/w": torch.ones(2)}, "'uncertainty' has no count for average/w: give the res"),
        ({"deviation.count/w": torch.tensor(2)}, "'uncertainty' has no average for deviation/w"),
    ],
)
def test_the_state_of_something_else_is_refused_and_changes_nothing(
    state: dict[str, Tensor], message: str
) -> None:
    smoothing = Uncertainty()
    smoothing.update("w", torch.ones(2))
    before = smoothing.state_dict()
    with pytest.raises(CheckpointError, match=message):
        smoothing.load_state_dict(state)
    after = smoothing.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("beta", [-0.1, 1.0, 2, float("nan")])
def test_a_beta_out_of_range_is_refused(beta: float) -> None:
    with pytest.raises(CriterionError, match=f"beta is {beta}: it is the weight of the past"):
        ExponentialAverage(beta)
    with pytest.raises(CriterionError, match=f"beta1 is {beta}: "):
        Uncertainty(beta1=beta)
    with pytest.raises(CriterionError, match=f"beta2 is {beta}: "):
        Uncertainty(beta2=beta)


def test_a_smoothing_is_found_by_its_name_and_each_is_fresh() -> None:
    assert list(SMOOTHINGS) == ["none", "window", "average", "uncertainty"]
    for name in SMOOTHINGS:
        make = find_smoothing(name)
        assert make().name == name
        assert make() is not make()
    with pytest.raises(
        CriterionError,
        match=r"there is no smoothing 'ema': choose one of none, window, average, uncertainty$",
    ):
        find_smoothing("ema")


def test_a_running_mean_of_beta_zero_is_the_latest() -> None:
    latest = RunningMean(0.0)
    for score in (1.0, 5.0, 2.0):
        latest.add("w", torch.tensor([score]))
    assert latest.values["w"].tolist() == [2.0]
    assert latest.counts == {"w": 3}
