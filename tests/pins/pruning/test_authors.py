"""The released code's quirks: each by numbers worked out by hand, on and off, and all in a run."""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from fractions import Fraction
from itertools import pairwise
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pins.errors import (
    CardinalityError,
    CriterionError,
    ImportanceError,
    ObservationError,
    ParameterError,
    ScheduleError,
    SettingError,
)
from pins.importance.criterion import Observation
from pins.importance.smoothing import ExponentialAverage, Uncertainty
from pins.models.parameters import prunable_parameters
from pins.pruning.authors import (
    AuthorsPruner,
    AuthorsSchedule,
    NominalPins,
    Quirks,
    loose_decision,
    named_parameters,
    reported_as_final,
)
from pins.pruning.authors_smoothing import LaggingAverages
from pins.pruning.pruner import Pruner
from pins.pruning.schedules import (
    CubicSchedule,
    LinearSchedule,
    OneShotSchedule,
    Schedule,
    paper_phases,
)
from pins.selection.constraints import exact_ratio
from pins.selection.reach import keep_of
from pins.selection.select import decide
from tests.pins.networks import tiny, tiny_batch
from verification.strategies import cubic_schedules, scores

NAMES = [field.name for field in fields(Quirks)]
ELSEWHERE = ["cross_entropy_as_kl", "frozen_teacher", "near_final", "scheduler_first", "adamw"]
HERE = [name for name in NAMES if name not in ELSEWHERE]


def only(*names: str) -> Quirks:
    return Quirks(**{name: name in names for name in NAMES})


class Layer(nn.Module):
    """Weights in a layer that the released code would prune, with gradients set by hand."""

    def __init__(self, *weights: float) -> None:
        super().__init__()
        dense = nn.Linear(len(weights), 1, bias=False, dtype=torch.float64)
        self.output = nn.ModuleDict({"dense": dense})
        with torch.no_grad():
            dense.weight.copy_(torch.tensor([weights], dtype=torch.float64))

    @property
    def weight(self) -> nn.Parameter:
        return self.get_parameter("output.dense.weight")

    def gradient(self, *values: float) -> None:
        self.weight.grad = torch.tensor([values], dtype=torch.float64)

    @property
    def values(self) -> list[float]:
        values: list[float] = self.weight.detach().flatten().tolist()
        return values


def after_one_step(
    quirks: Quirks,
    weights: Sequence[float],
    gradient: Sequence[float],
    rate: float = 0.0,
    decay: float = 0.0,
) -> list[float]:
    """The weights after one step of SGD and one decision that keeps half of them."""
    layer = Layer(*weights)
    optimizer = torch.optim.SGD(layer.parameters(), lr=rate, weight_decay=decay)
    pruner = AuthorsPruner(layer, optimizer, OneShotSchedule(0.5), quirks)
    layer.gradient(*gradient)
    optimizer.step()
    pruner.step()
    return layer.values


# One quirk at a time, by hand.


def test_absolute() -> None:
    # s = −gθ: −1·2 = −2 and 1·1 = 1, so that the second is kept; |s|: 2 and 1
    assert after_one_step(only(), [2, 1], [1, -1]) == [0, 1]
    assert after_one_step(only("absolute"), [2, 1], [1, -1]) == [2, 0]


def test_nominal_step() -> None:
    # η = ½, weight decay 1: u = −½(g + θ)
    #   θ = 4, g = 2: θ+u = 4 − ½·6 = 1    −g(θ+u) = −2    −gθ + ηg² = −8 + 2 = −6
    #   θ = 6, g = 1: θ+u = 6 − ½·7 = 2.5  −g(θ+u) = −2.5  −gθ + ηg² = −6 + ½ = −5.5
    # and in both cases the mask falls on θ+u
    weights, gradient = [4, 6], [2, 1]
    assert after_one_step(only(), weights, gradient, rate=0.5, decay=1) == [1, 0]
    both = after_one_step(only("nominal_step"), weights, gradient, rate=0.5, decay=1)
    assert both == [0, 2.5]


def test_the_scores_of_platon_are_the_weights_after_the_step_times_their_gradients() -> None:
    # as above: |gθ| of θ+u is 2 and 2.5, |−gθ + ηg²| is 6 and 5.5
    weights, gradient = [4, 6], [2, 1]
    assert after_one_step(only("absolute"), weights, gradient, rate=0.5, decay=1) == [0, 2.5]
    released = after_one_step(only("absolute", "nominal_step"), weights, gradient, 0.5, 1)
    assert released == [1, 0]
    assert Quirks.platon() == replace(Quirks(), nominal_step=False, scheduler_first=False)


def test_the_nominal_score_takes_the_rate_of_the_first_group_at_that_step() -> None:
    groups: list[dict[str, Any]] = [
        {"params": nn.Linear(1, 1).parameters()},
        {"params": nn.Linear(1, 1).parameters(), "lr": 9.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.5)
    seen = Observation(
        after=torch.tensor([7.0, 7.0]),
        gradient=torch.tensor([2.0, -1.0]),
        before=torch.tensor([3.0, -4.0]),
    )
    signed, absolute = (NominalPins(optimizer, absolute=kind) for kind in (False, True))
    # −2·3 + ½·4 = −4, −(−1)(−4) + ½·1 = −3.5; then with η = 2: −6 + 8 = 2, −4 + 2 = −2
    assert signed.importance(seen).tolist() == [-4.0, -3.5]
    assert absolute.importance(seen).tolist() == [4.0, 3.5]
    optimizer.param_groups[0]["lr"] = 2.0
    assert signed.importance(seen).tolist() == [2.0, -2.0]


def test_loose_threshold_keeps_one_too_many() -> None:
    # n = 8320, r = 0.2: j = ⌊8320·0.8⌋ = 6656, τ = the 6656-th smallest = 6655 of 0, 1, 2, …;
    # 6655 scores lie below it, 8320 − 6655 = 1665 are kept. Asked for: 0.2·8320 = 1664.
    importance = {"w": torch.randperm(8320, generator=torch.Generator().manual_seed(0)).float()}
    loose = loose_decision(importance, 0.2)
    assert int(loose.masks["w"].sum()) == loose.proof.keep == keep_of(loose.tree) == 1665
    assert loose.proof.kept_min == 6655.0
    assert decide(importance, 1664).proof.kept_min == 6656.0


def test_loose_threshold_keeps_ties() -> None:
    # 0, 0, …, 8 with a thousand of each and 320 eights: the 6656-th smallest is 6, of which the
    # places 6001 to 7000 consist: 8320 − 6000 = 2320 are kept
    importance = {"w": (torch.arange(8320) // 1000).float()}
    assert loose_decision(importance, 0.2).proof.keep == 2320
    assert decide(importance, 1664).proof.keep == 1664


def test_loose_threshold_prunes_nothing_where_all_scores_are_equal() -> None:
    importance = {"v": torch.zeros(3), "w": torch.zeros(2, 4)}
    assert loose_decision(importance, 0.2).proof.keep == 11
    assert decide(importance, 2).proof.keep == 2


def test_loose_threshold_cannot_prune_everything() -> None:
    # r = 0: j = n, τ = the largest, which is not below itself
    assert loose_decision({"w": torch.tensor([1.0, 3.0, 2.0])}, 0.0).proof.keep == 1


@pytest.mark.parametrize(
    ("total", "ratio"),
    [
        (100, 1.0),  # ⌊100·0⌋
        (4, 0.8),  # ⌊4·0.2⌋
        (10, 0.9),  # 1 − 0.9 = 0.09999999999999998 in floats, ⌊0.9999999999999998⌋
    ],
)
def test_loose_threshold_has_no_score_number_zero(total: int, ratio: float) -> None:
    with pytest.raises(
        CardinalityError,
        match=rf"score number 0 of {total} as its threshold to keep {ratio}, and numbers begin",
    ):
        loose_decision({"w": torch.arange(float(total))}, ratio)


@given(scores(min_size=1), st.floats(0, 1))
def test_loose_threshold_is_the_kth_value_and_strictly_below(s: Tensor, ratio: float) -> None:
    rank = int(s.numel() * (1 - ratio))
    if rank < 1:
        return
    below = s < torch.kthvalue(s.flatten().float(), rank).values.to(s.dtype)
    if s.dtype == torch.float64:
        below = s < torch.kthvalue(s.flatten(), rank).values
    found = loose_decision({"w": s}, ratio)
    assert torch.equal(found.masks["w"], ~below)
    assert found.proof.holds


def test_what_cannot_be_ranked_is_refused_here_too() -> None:
    with pytest.raises(ImportanceError, match=r"importance\['w'\] at index \(1\) is nan"):
        loose_decision({"w": torch.tensor([1.0, float("nan"), 2.0])}, 0.5)


def test_calendar() -> None:
    # T = 20, warm-up 4, cool-down 6, ΔT = 5. Theirs, t from 0: 4 < t ≤ 14 with 5 | t: 5, 10;
    # then all t > 14; step = t + 1. Ours: 4 + 5 = 9, 14 = 20 − 6.
    ours = CubicSchedule(steps=20, final_sparsity=0.8, warmup=4, cooldown=6, interval=5)
    theirs = AuthorsSchedule(**vars(ours))
    assert decisions(ours) == [9, 14]
    assert decisions(theirs) == [6, 11, 16, 17, 18, 19, 20]
    assert (ours.last, theirs.last) == (14, 20)
    # t = 5: left = 1 − 1/10, kept 0.2 + 0.8·0.729 = 0.7832, sparsity 0.2168
    assert theirs.sparsity(6) == Fraction("0.2168") != ours.sparsity(6)
    assert theirs.kept_ratio(6) == pytest.approx(0.7832)
    layer = Layer(1, 2)
    optimizer = torch.optim.SGD(layer.parameters())
    assert AuthorsPruner(layer, optimizer, ours).schedule == theirs
    assert AuthorsPruner(layer, optimizer, ours, only()).schedule is ours


def test_calendar_of_the_paper() -> None:
    # 201 … 1920 hold 210, 220, …, 1920: 172 decisions; then t = 1921 … 3119: 1199 more
    warmup, cooldown = paper_phases(3120)
    ours = CubicSchedule(steps=3120, final_sparsity=0.8, warmup=warmup, cooldown=cooldown)
    assert len(decisions(ours)) == 172
    assert len(decisions(AuthorsSchedule(**vars(ours)))) == 172 + 1199


def decisions(schedule: Schedule, until: int = 4000) -> list[int]:
    return [step for step in range(-5, until) if schedule.decides(step)]


@given(cubic_schedules().filter(lambda schedule: schedule.cooldown >= 2))
def test_the_authors_schedule_is_a_schedule(ours: CubicSchedule) -> None:
    schedule = AuthorsSchedule(**vars(ours))
    values = [schedule.sparsity(step) for step in range(1, schedule.steps + 3)]
    assert all(before <= after for before, after in pairwise(values))
    taken = decisions(schedule, 200)
    assert taken[-1] == schedule.last == schedule.steps
    assert taken[0] > schedule.warmup + 1
    assert schedule.sparsity(schedule.last) == exact_ratio(schedule.final_sparsity)
    for step in range(1, schedule.steps + 1):
        kept = float(1 - schedule.sparsity(step))
        assert math.isclose(schedule.kept_ratio(step), kept, rel_tol=1e-12, abs_tol=1e-12)


def test_dense_between() -> None:
    # magnitudes do not matter: g = −θ gives s = θ², and θ doubles with each step of rate 1
    quirks = {True: only("dense_between"), False: only()}
    for dense, chosen in quirks.items():
        layer = Layer(3, 1, 2, 4)
        optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
        schedule = CubicSchedule(steps=8, final_sparsity=0.5, cooldown=2, interval=3)
        pruner = AuthorsPruner(layer, optimizer, schedule, chosen)
        zeros, sparsities, decided = [], [], []
        for _ in range(8):
            layer.gradient(-3, -1, -2, -4)
            optimizer.step()
            decided.append(pruner.step() is not None)
            zeros.append(layer.values.count(0))
            sparsities.append(pruner.sparsity)
        assert [step for step in range(1, 9) if decided[step - 1]] == [3, 6]
        # 1 − v(3) = ½(1 − ½³) = 0.4375, of 4 keep 2.25; then 2. After the last decision zeros stay
        wanted = [0, 0, 2, 0, 0, 2, 2, 2] if dense else [0, 0, 2, 2, 2, 2, 2, 2]
        assert zeros == wanted
        assert sparsities == [number / 4 for number in wanted]


def feed(smoothing: Any, values: Sequence[float], every: int = 0) -> float:
    for number, value in enumerate(values, start=1):
        smoothing.update("w", torch.tensor([value]))
        if every and number % every == 0 and number < len(values):
            smoothing.decided()
    importance: float = smoothing.importance("w").item()
    return importance


def test_lagging_averages() -> None:
    # β₁ = β₂ = ½, windows of 2, scores 4, 8 | 2, 6 | 1
    #   t = 0: Ī = 0, Ū = 0                                          I = 4
    #   t = 1:                                                       I = (4 + 8)/2 = 6
    #   t = 2: Ī = ½·0 + ½·6 = 3,   Ū = ½·0 + ½|6 − 3| = 1.5         I = 2
    #   t = 3:                                                       I = (2 + 6)/2 = 4
    #   t = 4: Ī = ½·3 + ½·4 = 3.5, Ū = ½·1.5 + ½|4 − 3.5| = 1       I = 1
    values = [4.0, 8.0, 2.0, 6.0, 1.0]
    found = [feed(LaggingAverages(0.5, 0.5, 2), values[:number]) for number in range(1, 6)]
    assert found == [0, 0, 3 * 1.5, 3 * 1.5, 3.5 * 1]
    # β₂ = 1: Ī alone. β₂ = 0: Ī·|I − Ī|, with I the window so far
    assert [feed(LaggingAverages(0.5, 1.0, 2), values[:n]) for n in (3, 5)] == [3, 3.5]
    assert feed(LaggingAverages(0.5, 0.0, 2), values[:3]) == 3 * abs(2 - 3)
    assert feed(LaggingAverages(0.5, 0.0, 2), values[:4]) == 3 * abs(4 - 3)
    assert feed(LaggingAverages(0.5, 0.0, 2), values) == 3.5 * abs(1 - 3.5)


def test_without_the_lag_a_decision_sees_its_window_and_no_bias() -> None:
    # windows 6, 4: Ī = 6, then (½·6 + 4)/(3/2) = 14/3, with the one error |4 − 6| = 2
    values = [4.0, 8.0, 2.0, 6.0]
    smoothing = Uncertainty(0.5, 0.5, window=True)
    assert feed(smoothing, values[:2]) == 6
    smoothing.decided()
    assert feed(smoothing, values[2:]) == pytest.approx(14 / 3 * 2)
    layer, schedule = Layer(1, 2), OneShotSchedule(0.5)
    optimizer = torch.optim.SGD(layer.parameters())
    for beta2, kind in ((0.99, Uncertainty), (0.0, Uncertainty), (1.0, ExponentialAverage)):
        pruner = AuthorsPruner(layer, optimizer, schedule, only(), beta2=beta2)
        assert type(pruner.smoothing) is kind
        pruner = AuthorsPruner(layer, optimizer, schedule, only("lagging_averages"), beta2=beta2)
        assert isinstance(pruner.smoothing, LaggingAverages)


def test_lagging_averages_of_constants_are_not_the_constants() -> None:
    lagging = LaggingAverages(0.85, 1.0, 1)
    assert feed(lagging, [1.0] * 5) == pytest.approx(1 - 0.85**4)
    assert feed(ExponentialAverage(0.85), [1.0] * 5) == 1.0


def test_with_scores_of_zero_the_loose_threshold_prunes_nothing_at_the_first_decision() -> None:
    # the averages are still 0 when the first window has not ended
    loose = only("lagging_averages", "loose_threshold")
    assert after_one_step(loose, [1, 2, 3, 4], [-1, -1, -1, -1]) == [1, 2, 3, 4]
    exact = only("lagging_averages")
    assert after_one_step(exact, [1, 2, 3, 4], [-1, -1, -1, -1]) == [1, 2, 0, 0]
    assert after_one_step(only(), [1, 2, 3, 4], [-1, -1, -1, -1]) == [0, 0, 3, 4]


def test_biases() -> None:
    model = tiny("Bert", "ForSequenceClassification")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = OneShotSchedule(0.5)
    ours = prunable_parameters(model).parameters
    theirs = AuthorsPruner(model, optimizer, schedule, only("biases")).parameters
    # 2 layers of query, key, value, output (8 → 8), intermediate (8 → 16) and output (16 → 8)
    assert len(theirs) - len(ours) == 2 * 6
    assert set(ours) < set(theirs)
    assert all(name.endswith(".bias") for name in theirs.keys() - ours.keys())
    assert sum(p.numel() for p in theirs.values()) == 2 * (4 * 72 + 9 * 16 + 17 * 8)
    assert AuthorsPruner(model, optimizer, schedule, only()).parameters.keys() == ours.keys()
    one = {"classifier.weight": model.get_parameter("classifier.weight")}
    assert AuthorsPruner(model, optimizer, schedule, Quirks.without("calendar"), parameters=one)


def test_biases_of_models_with_other_names_are_not_found() -> None:
    model = tiny("DistilBert", "ForSequenceClassification")
    with pytest.raises(ParameterError, match=r"no parameter of DistilBertForSeq.* BERT's names"):
        named_parameters(model)


# All of them together.


class Network(nn.Module):
    """48 + 32 weights and 8 + 4 biases under names of BERT."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(6, 8, dtype=torch.float64)})
        self.output = nn.ModuleDict({"dense": nn.Linear(8, 4, dtype=torch.float64)})
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, data: Tensor) -> Tensor:
        hidden: Tensor = self.intermediate["dense"](data).tanh()
        predicted: Tensor = self.output["dense"](hidden)
        return predicted


SCHEDULE = CubicSchedule(steps=24, final_sparsity=0.7, warmup=3, cooldown=6, interval=4)


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, pruner: Pruner, first: int, last: int
) -> Iterator[list[Tensor]]:
    """The parameters after each step."""
    for number in range(first, last):
        generator = torch.Generator().manual_seed(number)
        data = torch.randn(10, 6, generator=generator, dtype=torch.float64)
        target = torch.randn(10, 4, generator=generator, dtype=torch.float64)
        torch.autograd.backward(nn.functional.mse_loss(model(data), target))
        optimizer.step()
        pruner.step()
        optimizer.zero_grad()
        yield [parameter.detach().clone() for parameter in model.parameters()]


def run(quirks: Quirks | None, beta2: float = 0.99) -> list[list[Tensor]]:
    """A run of AdamW with these quirks, or with `Pruner`, from a model with zeros."""
    model = Network()
    with torch.no_grad():
        model.get_parameter("intermediate.dense.weight")[:2] = 0.0
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    pruner: Pruner
    if quirks is None:
        pruner = Pruner(
            model, optimizer, "pins", SCHEDULE, smoothing=Uncertainty(0.85, beta2, window=True)
        )
    else:
        pruner = AuthorsPruner(model, optimizer, SCHEDULE, quirks, beta2=beta2)
    return list(train(model, optimizer, pruner, 0, 24))


def equal(first: list[list[Tensor]], second: list[list[Tensor]]) -> bool:
    pairs = zip(first, second, strict=True)
    return all(torch.equal(a, b) for one, other in pairs for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("beta2", [0.99, 0.0])
def test_without_quirks_it_is_our_pruner(beta2: float) -> None:
    assert equal(run(only(), beta2), run(None, beta2))


@pytest.mark.parametrize("quirk", HERE)
def test_each_quirk_alone_makes_a_difference(quirk: str) -> None:
    assert not equal(run(only(quirk)), run(None))


@pytest.mark.parametrize("quirk", HERE)
def test_each_quirk_left_out_makes_a_difference(quirk: str) -> None:
    assert not equal(run(Quirks.without(quirk)), run(Quirks()))


def test_the_quirks_of_the_training_make_none_here() -> None:
    assert equal(run(Quirks.without(*ELSEWHERE)), run(Quirks()))


def released(
    weights: Sequence[float],
    gradients: Sequence[Sequence[float]],
    schedule: CubicSchedule,
    *,
    rate: float,
    decay: float,
    beta1: float,
    beta2: float,
) -> Iterator[list[float]]:
    """The released method on plain numbers: SGD with weight decay, and the mask after it."""
    theta = list(weights)
    window = average = error = [0.0] * len(theta)
    begin, end = schedule.warmup, schedule.steps - schedule.cooldown
    final = float(1 - exact_ratio(schedule.final_sparsity))
    for t, g in enumerate(gradients):
        now = [abs(-w * d + rate * d * d) for w, d in zip(theta, g, strict=True)]
        seen = t % schedule.interval
        if seen == 0:
            average = [beta1 * a + (1 - beta1) * i for a, i in zip(average, window, strict=True)]
            error = [
                beta2 * u + (1 - beta2) * abs(i - a)
                for u, i, a in zip(error, window, average, strict=True)
            ]
        window = [(i * seen + s) / (seen + 1) for i, s in zip(window, now, strict=True)]
        theta = [w - rate * (d + decay * w) for w, d in zip(theta, g, strict=True)]
        if t > end or (t > begin and seen == 0):
            kept = (
                final if t > end else final + (1 - final) * (1 - (t - begin) / (end - begin)) ** 3
            )
            rank = [a * u for a, u in zip(average, error, strict=True)]
            threshold = sorted(rank)[int(len(rank) * (1 - kept)) - 1]
            theta = [0.0 if s < threshold else w for s, w in zip(rank, theta, strict=True)]
        yield theta


def test_with_all_quirks_a_run_is_the_released_method() -> None:
    generator = torch.Generator().manual_seed(5)
    gradients = torch.randn(24, 40, generator=generator, dtype=torch.float64)
    start: list[float] = torch.randn(40, generator=generator, dtype=torch.float64).tolist()
    layer = Layer(*start)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.25, weight_decay=0.1)
    pruner = AuthorsPruner(layer, optimizer, SCHEDULE, beta1=0.85, beta2=0.99)
    expected = released(
        start, gradients.tolist(), SCHEDULE, rate=0.25, decay=0.1, beta1=0.85, beta2=0.99
    )
    zeros = []
    for gradient, wanted in zip(gradients, expected, strict=True):
        layer.weight.grad = gradient[None].clone()
        optimizer.step()
        pruner.step()
        assert layer.values == pytest.approx(wanted, rel=1e-12, abs=0)
        zeros.append(layer.values.count(0))
    # t = 4, 8, …, 16, and from 19 on: ⌊40·0.7⌋ − 1 = 27 zeros, of the 28 that were asked for
    assert [t for t, number in enumerate(zeros) if number] == [4, 8, 12, 16, 19, 20, 21, 22, 23]
    assert zeros[-1] == 27


def test_a_tiny_bert_is_dense_on_nine_of_ten_steps() -> None:
    model: Any = tiny("Bert", "ForSequenceClassification")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = CubicSchedule(steps=50, final_sparsity=0.7, warmup=2, cooldown=4, interval=10)
    pruner = AuthorsPruner(model, optimizer, schedule)
    weights = prunable_parameters(model).parameters
    share = []
    for _ in range(50):
        torch.autograd.backward(model(**tiny_batch()).loss)
        optimizer.step()
        pruner.step()
        optimizer.zero_grad()
        zeros = sum(int((p == 0).sum()) for p in weights.values())
        share.append(zeros / sum(p.numel() for p in weights.values()))
    # decisions at t = 10, 20, 30, 40 and in the cool-down, t > 46; one step refills all
    assert all(zeros == 0 for t, zeros in enumerate(share) if t <= 46 and t % 10)
    assert share[0] == 0 < share[10] < share[20] < share[30] < share[40] < share[47]
    assert share[47:] == [share[47]] * 3


@pytest.mark.parametrize("interrupted", [9, 11, 13, 20])
@pytest.mark.parametrize("quirks", [Quirks(), only()], ids=["all", "none"])
def test_training_goes_on_from_a_saved_state(quirks: Quirks, interrupted: int) -> None:
    model = Network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    pruner = AuthorsPruner(model, optimizer, SCHEDULE, quirks)
    for _ in train(model, optimizer, pruner, 0, interrupted):
        pass
    states = copy.deepcopy([model.state_dict(), optimizer.state_dict(), pruner.state_dict()])
    whole = list(train(model, optimizer, pruner, interrupted, 24))

    other = Network()
    other_optimizer = torch.optim.AdamW(other.parameters(), lr=0.05)
    other_pruner = AuthorsPruner(other, other_optimizer, SCHEDULE, quirks)
    other.load_state_dict(states[0])
    other_optimizer.load_state_dict(states[1])
    other_pruner.load_state_dict(states[2])
    assert equal(list(train(other, other_optimizer, other_pruner, interrupted, 24)), whole)


def test_the_callback_hears_what_was_decided() -> None:
    layer = Layer(1, 2, 3, 4)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.0)
    heard: list[Any] = []
    pruner = AuthorsPruner(
        layer,
        optimizer,
        OneShotSchedule(0.5),
        only("loose_threshold"),
        on_decision=lambda step, scores, decided: heard.append((step, dict(scores), decided)),
    )
    layer.gradient(-1, -1, -1, -1)
    optimizer.step()
    decision = pruner.step()
    assert decision is not None
    (step, importance, told), *none = heard
    assert (step, told, none) == (1, decision, [])
    assert importance["output.dense.weight"].tolist() == [[1, 2, 3, 4]]
    # ⌊4·½⌋ = 2, τ = 2, and three are not below it
    assert decision.proof.keep == keep_of(decision.tree) == 3
    assert pruner.sparsity == 0.25


def test_quirks_are_left_out_by_name() -> None:
    assert Quirks.without() == Quirks() == only(*NAMES)
    assert Quirks.without(*NAMES) == only()
    assert Quirks.without("absolute", "biases") == Quirks(absolute=False, biases=False)
    for name in NAMES:
        assert f"{name}: " in (Quirks.__doc__ or "")
    with pytest.raises(
        SettingError, match="there is no quirk 'abs': choose one of absolute, nominal_step, loose_"
    ):
        Quirks.without("biases", "abs")


@pytest.mark.parametrize("schedule", [LinearSchedule(20, 0.5), OneShotSchedule(0.5)])
def test_the_authors_calendar_is_cubic(schedule: Schedule) -> None:
    layer = Layer(1, 2)
    optimizer = torch.optim.SGD(layer.parameters())
    kind = type(schedule).__name__
    with pytest.raises(ScheduleError, match=f"a {kind}, and the authors' calendar is cubic: give"):
        AuthorsPruner(layer, optimizer, schedule)
    assert AuthorsPruner(layer, optimizer, schedule, Quirks.without("calendar"))


@pytest.mark.parametrize(("cooldown", "missing"), [(0, 2), (1, 1)])
def test_a_calendar_that_never_ends_says_by_how_much(cooldown: int, missing: int) -> None:
    with pytest.raises(
        ScheduleError,
        match=f"cooldown is {cooldown}: .* at least 2 steps, {missing} too few; or leave the quirk",
    ):
        AuthorsSchedule(steps=20, final_sparsity=0.5, cooldown=cooldown)


@pytest.mark.parametrize("name", ["beta1", "beta2"])
@pytest.mark.parametrize("beta", [-0.5, 2.0])
def test_a_beta_that_is_none_is_refused(name: str, beta: float) -> None:
    with pytest.raises(CriterionError, match=f"{name} is {beta}: it is the weight of the past"):
        LaggingAverages(**cast(dict[str, Any], {name: beta}))


def test_lagging_averages_follow_one_model() -> None:
    lagging = LaggingAverages()
    with pytest.raises(ObservationError, match="smoothing 'lagging' has no scores of 'w'"):
        lagging.importance("w")
    lagging.update("w", torch.ones(2, 3))
    lagging.importance("w").fill_(9.0)
    with pytest.raises(ObservationError, match=r"scores of 'w' have shape \(3,\), their average"):
        lagging.update("w", torch.ones(3))
    values = [t for key, t in lagging.state_dict().items() if ".count/" not in key]
    assert [tensor.shape for tensor in values] == [(2, 3)] * 3


def test_the_result_reported_is_the_best_of_all_near_the_target() -> None:
    # kept ratio 0.2 at the end; at step 9 of 10 it is 0.2 + 0.8·0.1³ = 0.2008, at 7 0.2216
    schedule = CubicSchedule(steps=10, final_sparsity=0.8, interval=1)
    evaluations = [
        {"step": 7, "score": 0.9},
        {"step": 8, "score": 0.7},  # 0.2 + 0.8·0.2³ = 0.2064: near
        {"step": 9, "score": 0.8},
        {"step": 10, "score": 0.6},
    ]
    best = reported_as_final(evaluations, schedule, higher_is_better=True)
    assert best == {"step": 9, "score": 0.8}
    worst = reported_as_final(evaluations, schedule, higher_is_better=False)
    assert worst == {"step": 10, "score": 0.6}
    assert reported_as_final(evaluations[:1], schedule, higher_is_better=True) is None
