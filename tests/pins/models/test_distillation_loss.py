"""The mixed loss: each value and gradient against the formula written out in float64."""

import math
from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pins.errors import ModelError, SettingError
from pins.models import distillation_loss as module
from pins.models.distillation_loss import Mixture, mixed_loss
from pins.models.heads import Distributions, Values

IMPOSSIBLE = -math.inf
WEIGHTS = ("adaptive", 0.0, 0.3, 1.0)
DIVERGENCES: tuple[Literal["kl", "cross-entropy"], ...] = ("kl", "cross-entropy")


def softmax(logits: list[float], temperature: float = 1.0) -> list[float]:
    powers = [math.exp((z - max(logits)) / temperature) for z in logits]
    return [power / sum(powers) for power in powers]


def written_out(
    student: list[float], teacher: list[float], target: int, mixture: Mixture
) -> tuple[float, list[float]]:
    """ℓ and ∇ℓ of one row."""
    temperature = mixture.temperature
    possible = [i for i, z in enumerate(student) if z != IMPOSSIBLE]
    z, t = [student[i] for i in possible], [teacher[i] for i in possible]
    p, p_tempered, q = softmax(z), softmax(z, temperature), softmax(t, temperature)
    alpha = mixture.weight
    if alpha == "adaptive":
        entropy = -sum(each * math.log(each) for each in p if each)
        alpha = 1 - entropy / math.log(len(p)) if len(p) > 1 else 0.0
    divergence = sum(a * (math.log(a) - math.log(b)) for a, b in zip(q, p_tempered, strict=True))
    if mixture.divergence == "cross-entropy":
        divergence -= sum(a * math.log(a) for a in q)
    cross_entropy = -math.log(p[possible.index(target)])
    gradient = [0.0] * len(student)
    for at, i in enumerate(possible):
        gradient[i] = (1 - alpha) * (p[at] - (i == target))
        gradient[i] += alpha * temperature * (p_tempered[at] - q[at])
    return (1 - alpha) * cross_entropy + alpha * temperature**2 * divergence, gradient


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[list[float]], list[list[float]], list[int], Mixture]:
    """Student's and teacher's logits, targets: impossible outcomes among them, none a target."""
    rows, outcomes = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    targets = [draw(st.integers(0, outcomes - 1)) for _ in range(rows)]
    numbers = st.floats(-8, 8, width=32)
    student, teacher = [], []
    for target in targets:
        kept = [at == target or draw(st.booleans()) for at in range(outcomes)]
        student.append([draw(numbers) if keep else IMPOSSIBLE for keep in kept])
        teacher.append([draw(numbers) if keep else IMPOSSIBLE for keep in kept])
    mixture = Mixture(
        draw(st.sampled_from([0.5, 1.0, 2.0, 7.0])),
        draw(st.sampled_from(WEIGHTS)),
        draw(st.sampled_from(DIVERGENCES)),
    )
    return student, teacher, targets, mixture


def loss_and_gradient(
    student: Tensor, teacher: Tensor, targets: Tensor, mixture: Mixture | None = None, **given: Any
) -> tuple[Tensor, Tensor]:
    logits = student.detach().clone().requires_grad_()
    loss = mixed_loss(
        Distributions(logits, targets), Distributions(teacher, targets), mixture, **given
    )
    (gradient,) = torch.autograd.grad(loss, logits)
    return loss.detach(), gradient


def rows(count: int, outcomes: int, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (3 * torch.randn(count, outcomes, generator=generator) for _ in range(2))
    return student, teacher, torch.randint(0, outcomes, (count,), generator=generator)


@given(problems())
def test_value_and_gradient_are_those_written_out(
    problem: tuple[list[list[float]], list[list[float]], list[int], Mixture],
) -> None:
    student, teacher, targets, mixture = problem
    each = [written_out(*row, mixture) for row in zip(student, teacher, targets, strict=True)]
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 3e-5)):
        loss, gradient = loss_and_gradient(
            torch.tensor(student, dtype=dtype),
            torch.tensor(teacher, dtype=dtype),
            torch.tensor(targets),
            mixture,
        )
        assert loss.dtype == gradient.dtype == dtype
        assert loss.item() == pytest.approx(
            sum(value for value, _ in each) / len(each), rel=tolerance, abs=tolerance
        )
        expected = torch.tensor([row for _, row in each], dtype=dtype) / len(each)
        torch.testing.assert_close(gradient, expected, rtol=tolerance, atol=tolerance)


def plain(student: Tensor, teacher: Tensor, targets: Tensor, *, constant: bool) -> Tensor:
    """The formula in operations of torch; α a constant, or not."""
    p = student.softmax(-1)
    alpha: Tensor = 1 - torch.special.entr(p).sum(-1) / math.log(student.shape[1])
    alpha = alpha.detach() if constant else alpha
    cross_entropy = torch.nn.functional.cross_entropy(student, targets, reduction="none")
    divergence = torch.nn.functional.kl_div(
        (student / 2).log_softmax(-1), (teacher / 2).softmax(-1), reduction="none"
    ).sum(-1)
    return ((1 - alpha) * cross_entropy + 4 * alpha * divergence).mean()


def test_no_gradient_goes_through_alpha() -> None:
    student, teacher, targets = rows(5, 4)
    student, teacher = student.double().requires_grad_(), teacher.double()
    _, gradient = loss_and_gradient(student, teacher, targets)
    found = [
        torch.autograd.grad(plain(student, teacher, targets, constant=constant), student)[0]
        for constant in (True, False)
    ]
    torch.testing.assert_close(gradient, found[0], rtol=1e-12, atol=1e-14)
    assert not torch.allclose(gradient, found[1], rtol=1e-2)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_a_student_like_its_teacher_is_at_no_divergence_from_it(temperature: float) -> None:
    student, _, targets = rows(6, 5)
    student[0, (targets[0] + 1) % 5] = IMPOSSIBLE
    loss, gradient = loss_and_gradient(student, student, targets, Mixture(temperature, 1.0))
    assert loss.item() == 0
    assert not gradient.any()
    # what the authors' code calls so is the teacher's entropy
    entropy = torch.special.entr((student / temperature).softmax(-1)).sum(-1).mean()
    theirs, gradient = loss_and_gradient(
        student, student, targets, Mixture(temperature, 1.0, "cross-entropy")
    )
    torch.testing.assert_close(theirs, temperature**2 * entropy)
    assert theirs.item() > 0.5
    assert not gradient.any()


@given(problems())
def test_a_divergence_is_not_negative(
    problem: tuple[list[list[float]], list[list[float]], list[int], Mixture],
) -> None:
    student, teacher, targets, _ = problem
    loss, _ = loss_and_gradient(
        torch.tensor(student), torch.tensor(teacher), torch.tensor(targets), Mixture(weight=1.0)
    )
    assert loss.item() >= -1e-6


@given(st.lists(st.floats(-200, 200, width=32), min_size=1, max_size=9))
def test_alpha_is_a_ratio_whatever_the_rounding(logits: list[float]) -> None:
    """ℓ = (1 − α)·CE for a student that is its own teacher."""
    for row in (logits, [logits[0]] * len(logits)):
        student, target = torch.tensor([row]), torch.tensor([0])
        loss, _ = loss_and_gradient(student, student, target)
        cross_entropy, _ = loss_and_gradient(student, student, target, Mixture(weight=0.0))
        assert 0 <= loss <= cross_entropy


@given(problems(), st.integers(1, 3))
def test_impossible_outcomes_change_nothing(
    problem: tuple[list[list[float]], list[list[float]], list[int], Mixture], columns: int
) -> None:
    student, teacher, mixture = torch.tensor(problem[0]), torch.tensor(problem[1]), problem[3]
    targets = torch.tensor(problem[2])
    loss, gradient = loss_and_gradient(student, teacher, targets, mixture)
    padding = torch.full((len(student), columns), IMPOSSIBLE)
    wide, wide_gradient = loss_and_gradient(
        torch.cat([student, padding], 1), torch.cat([teacher, padding], 1), targets, mixture
    )
    torch.testing.assert_close(wide, loss, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(wide_gradient[:, :-columns], gradient, rtol=1e-5, atol=1e-5)
    assert bool((wide_gradient[:, -columns:] == 0).all())


def test_outcomes_that_are_only_unlikely_count() -> None:
    student, teacher, targets = rows(3, 4)
    loss, _ = loss_and_gradient(student, teacher, targets)
    unlikely = torch.full((3, 2), -1e4)
    wide, _ = loss_and_gradient(
        torch.cat([student, unlikely], 1), torch.cat([teacher, unlikely], 1), targets
    )
    assert not torch.isclose(loss, wide, rtol=1e-3)


def test_what_only_the_teacher_finds_impossible_weighs_nothing() -> None:
    student, targets = torch.tensor([[0.5, 0.0, -1.0]]), torch.tensor([0])
    teacher = torch.tensor([[1.0, IMPOSSIBLE, 0.0]])
    loss, gradient = loss_and_gradient(student, teacher, targets, Mixture(1.0, 1.0))
    p, q = softmax([0.5, 0.0, -1.0]), softmax([1.0, 0.0])
    expected = q[0] * math.log(q[0] / p[0]) + q[1] * math.log(q[1] / p[2])
    assert loss.item() == pytest.approx(expected)
    assert gradient[0].tolist() == pytest.approx([p[0] - q[0], p[1], p[2] - q[1]])


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_large_logits_give_no_nan(size: float) -> None:
    student, teacher, targets = rows(20, 6)
    loss, gradient = loss_and_gradient(size * student, -size * teacher, targets)
    assert bool(loss.isfinite())
    assert bool(gradient.isfinite().all())


def test_without_a_teacher_it_is_the_cross_entropy() -> None:
    student, _, targets = rows(5, 4)
    student.requires_grad_()
    found = mixed_loss(Distributions(student, targets), None)
    expected = torch.nn.functional.cross_entropy(student, targets)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, student), torch.autograd.grad(expected, student)
    )


def test_parts_divided_by_the_number_of_all_rows_add_up() -> None:
    student, teacher, targets = rows(7, 4)
    whole, whole_gradient = loss_and_gradient(student, teacher, targets)
    cuts = (slice(0, 2), slice(2, 7))
    for items in (7, torch.tensor(7)):
        parts = [
            loss_and_gradient(student[c], teacher[c], targets[c], num_items=items) for c in cuts
        ]
        torch.testing.assert_close(parts[0][0] + parts[1][0], whole)
        torch.testing.assert_close(torch.cat([g for _, g in parts]), whole_gradient)
    means = [loss_and_gradient(student[c], teacher[c], targets[c])[0] for c in cuts]
    assert not torch.isclose((means[0] + means[1]) / 2, whole, rtol=1e-3)


@pytest.mark.parametrize("items", [None, 0, 5])
def test_no_rows_lose_nothing(items: int | None) -> None:
    logits = torch.zeros(0, 3, requires_grad=True)
    none = Distributions(logits, torch.zeros(0, dtype=torch.long))
    loss = mixed_loss(none, none, num_items=items)
    assert loss.item() == 0
    torch.autograd.backward(loss)
    assert logits.grad is not None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bits_are_computed_with_in_float32(dtype: torch.dtype) -> None:
    student, teacher, targets = rows(8, 300)
    student, teacher = student.to(dtype), teacher.to(dtype)
    loss, gradient = loss_and_gradient(student, teacher, targets)
    expected, wide = loss_and_gradient(student.float(), teacher.float(), targets)
    assert loss.dtype == torch.float32
    assert gradient.dtype == dtype
    assert torch.equal(loss, expected)
    # two roundings at most
    torch.testing.assert_close(gradient.float(), wide, rtol=2 * torch.finfo(dtype).eps, atol=1e-7)
    rounded = plain(student.double(), teacher.double(), targets, constant=True)
    in_16_bits = plain(student, teacher, targets, constant=True)
    assert abs(loss - rounded) < abs(in_16_bits - rounded) / 100


def test_small_gradients_of_float16_survive_a_scaled_loss() -> None:
    student, teacher, targets = (t.half() if t.is_floating_point() else t for t in rows(64, 4096))
    logits = student.requires_grad_()
    loss = mixed_loss(Distributions(logits, targets), Distributions(teacher, targets))
    (scaled,) = torch.autograd.grad(2.0**16 * loss, logits, retain_graph=True)
    _, wide = loss_and_gradient(student.float(), teacher.float(), targets)
    torch.testing.assert_close(scaled.float() / 2.0**16, wide, rtol=2e-3, atol=1e-12)
    (unscaled,) = torch.autograd.grad(loss, logits)
    assert not torch.allclose(unscaled.float(), wide, rtol=0.1, atol=1e-12)


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher, targets = rows(11, 5)
    whole = loss_and_gradient(student, teacher, targets)
    for block in (1, 15, 54):
        monkeypatch.setattr(module, "BLOCK", block)
        torch.testing.assert_close(
            loss_and_gradient(student, teacher, targets), whole, rtol=1e-6, atol=1e-7
        )


class Allocations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts results of at least so many bytes in memory of their own."""

    def __init__(self, size: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.size, self.count = size, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs = {t.untyped_storage().data_ptr() for t in args if isinstance(t, Tensor)}
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() not in inputs:
                self.count += tensor.nbytes >= self.size
        return result


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_only_the_gradient_is_as_large_as_the_logits(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    student, teacher, targets = rows(64, 100)
    monkeypatch.setattr(module, "BLOCK", 400)
    student, teacher = student.to(dtype).requires_grad_(), teacher.to(dtype)
    with Allocations(student.nbytes) as found:
        loss = mixed_loss(Distributions(student, targets), Distributions(teacher, targets))
    assert found.count == 1
    with Allocations(student.nbytes) as found:
        torch.autograd.backward(loss)
    assert found.count == 1
    with Allocations(student.nbytes) as found, torch.no_grad():
        mixed_loss(Distributions(student, targets), Distributions(teacher, targets))
    assert found.count == 0
    with Allocations(student.nbytes) as found:
        torch.autograd.backward(plain(student, teacher, targets, constant=True))
    assert found.count > 10


def test_the_loss_can_be_differentiated_again_with_a_kept_graph_but_not_twice() -> None:
    student, teacher, targets = rows(3, 4)
    student.requires_grad_()
    loss = mixed_loss(Distributions(student, targets), Distributions(teacher, targets))
    first = torch.autograd.grad(loss, student, retain_graph=True)
    assert torch.equal(first[0], torch.autograd.grad(loss, student, retain_graph=True)[0])
    (gradient,) = torch.autograd.grad(loss, student, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        torch.autograd.grad(gradient.sum(), student)


def test_the_teacher_gets_no_gradient() -> None:
    student, teacher, targets = rows(3, 4)
    teacher.requires_grad_()
    loss = mixed_loss(
        Distributions(student.requires_grad_(), targets), Distributions(teacher, targets)
    )
    torch.autograd.backward(loss)
    assert teacher.grad is None
    assert student.grad is not None
    values = Values(torch.ones(2, requires_grad=True), torch.zeros(2))
    given = torch.ones(2, requires_grad=True)
    torch.autograd.backward(mixed_loss(values, Values(given, torch.zeros(2))))
    assert given.grad is None


@pytest.mark.parametrize(("weight", "share"), [("adaptive", 0.5), (0.25, 0.25), (1.0, 1.0)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_numbers_are_held_to_the_right_ones_and_the_teachers(
    weight: float | Literal["adaptive"], share: float, dtype: torch.dtype
) -> None:
    values = torch.tensor([1.5, -2.0, 0.25], dtype=dtype, requires_grad=True)
    teacher, right = torch.tensor([1.0, 1.0, 0.25], dtype=dtype), torch.tensor([4.8, -2.0, 0.0])
    loss = mixed_loss(Values(values, right), Values(teacher, right), Mixture(weight=weight))
    v, t, y = values.detach().double(), teacher.double(), right.double()
    expected = ((1 - share) * (v - y) ** 2 + share * (v - t) ** 2).mean()
    assert loss.dtype == torch.promote_types(dtype, torch.float32)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, values)
    expected_gradient = 2 * ((1 - share) * (v - y) + share * (v - t)) / 3
    torch.testing.assert_close(gradient, expected_gradient.to(dtype))
    alone = mixed_loss(Values(values, right), None, num_items=2)
    assert alone.item() == pytest.approx(((v - y) ** 2).sum().item() / 2, rel=1e-6)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_a_temperature_that_is_none_is_refused(temperature: float) -> None:
    with pytest.raises(SettingError, match=r"temperature is \S+: it is a number greater than 0"):
        Mixture(temperature)


@pytest.mark.parametrize("weight", [-0.1, 1.5, math.nan, "adapted", None])
def test_a_weight_that_is_none_is_refused(weight: Any) -> None:
    with pytest.raises(SettingError, match=r"weight is .*: it is 'adaptive', or a number from 0"):
        Mixture(weight=weight)


def test_a_divergence_that_is_none_is_refused() -> None:
    name: Any = "js"
    with pytest.raises(SettingError, match="divergence is 'js': choose one of kl, cross-entropy"):
        Mixture(divergence=name)


def test_predictions_of_something_else_are_refused() -> None:
    student, teacher, targets = rows(3, 4)
    message = (
        r"the teacher predicts Distributions \(3, 3\), the student Distributions \(3, 4\): give "
        "what both predict of the same batch"
    )
    with pytest.raises(ModelError, match=message):
        mixed_loss(Distributions(student, targets), Distributions(teacher[:, :3], targets))
    with pytest.raises(ModelError, match=r"the teacher predicts Values \(3, 4\)"):
        mixed_loss(Distributions(student, targets), Values(teacher, targets))
