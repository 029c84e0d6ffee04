import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pins.errors import MaskError, ModelError, ObservationError
from pins.models.pretrained import DEMO_MODEL, locate
from tests.verification.small_network import network_and_batch
from verification.claims import Claim, Setting
from verification.claims.ledger import Outcome, run
from verification.claims.taylor import CLAIMS, CRITERIA, decisions, expansions
from verification.experiments.smooth_loss import SmoothLoss, loss_function, observe_loss
from verification.experiments.taylor_remainders import (
    EPSILONS,
    ROUNDING,
    Line,
    Loss,
    TaylorTest,
    displacement,
    dot,
    gaussian,
    hessian_product,
    sample,
)

FIRST, SECOND = CLAIMS
AT = {"w": torch.tensor([0.5, -1.0], dtype=torch.float64)}
DIRECTION = {"w": torch.tensor([1.0, 2.0], dtype=torch.float64)}

signed = st.tuples(st.sampled_from((-1.0, 1.0)), st.floats(0.25, 4)).map(lambda s: s[0] * s[1])


def slopes(test: TaylorTest) -> list[float]:
    known = [slope for slope in test.slopes if slope is not None]
    assert len(known) == len(test.slopes), test
    return known


def polynomial(terms: tuple[float, ...]) -> Line:
    """φ(ε) = Σ termsⱼ εʲ/j!, as a loss along a line."""

    def loss(weights: Mapping[str, Tensor]) -> Tensor:
        epsilon = weights["w"]
        return torch.stack([t * epsilon**j / math.factorial(j) for j, t in enumerate(terms)]).sum()

    zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    return sample(loss, {"w": zero}, {"w": one})


def saddle(weights: Mapping[str, Tensor]) -> Tensor:
    """xy + y, whose Hessian is [[0, 1], [1, 0]]."""
    x, y = weights["w"]
    value: Tensor = x * y + y
    return value


@given(st.tuples(signed, signed, signed, signed))
def test_right_derivatives_leave_remainders_of_slope_one_two_three(
    terms: tuple[float, float, float, float],
) -> None:
    test = polynomial(terms).test(terms[1:3])
    assert slopes(test) == pytest.approx([1, 2, 3], abs=0.05)


@given(
    st.tuples(signed, signed, signed, signed),
    st.integers(1, 2),
    st.floats(0.02, 1) | st.floats(-2, -0.02),
)
def test_a_wrong_derivative_keeps_every_later_remainder_at_its_own_slope(
    terms: tuple[float, float, float, float], wrong: int, error: float
) -> None:
    derivatives = [*terms[1:3]]
    derivatives[wrong - 1] *= 1 + error
    test = polynomial(terms).test(derivatives)
    assert slopes(test)[:wrong] == pytest.approx(range(1, wrong + 1), abs=0.05)
    for slope in test.slopes[wrong:]:
        assert slope == pytest.approx(wrong, abs=0.3)


def test_the_remainders_equal_the_formula() -> None:
    line = polynomial((3.0, -1.0, 2.0, 6.0))
    test = line.test((-1.0, 2.0))
    assert line.start == 3
    assert test.epsilons == EPSILONS
    for order, least in enumerate((1, 2, 3)):
        expected = [
            abs(sum(c * e**j for j, c in enumerate((0.0, -1.0, 1.0, 1.0)) if j >= least))
            for e in EPSILONS
        ]
        assert test.remainders[order] == pytest.approx(expected, abs=1e-14)


def test_a_remainder_that_vanishes_has_no_slope() -> None:
    test = polynomial((1.0, 2.0, 3.0)).test((2.0, 3.0))
    assert test.slopes[2] is None
    assert slopes(replace(test, slopes=test.slopes[:2])) == pytest.approx([1, 2], abs=0.01)
    assert polynomial((0.0,)).test(()).slopes == (None,)


@given(st.floats(-1, 1), st.floats(-8, 8))
def test_terms_that_cancel_do_not_look_like_a_wrong_derivative(third: float, fourth: float) -> None:
    # R₂ = |third ε³ + fourth ε⁴|: the terms cancel somewhere, and one may vanish
    (*_, slope) = polynomial((1.0, 1.0, 1.0, third, fourth)).test((1.0, 1.0)).slopes
    assert slope is None or slope > 2.9


def test_a_remainder_whose_terms_cancel_has_no_slope_yet() -> None:
    # φ‴ε³/6 = φ⁗ε⁴/24 at ε = 2⁻⁹, amid those whose remainders are the last above rounding
    terms = (1.0, 1.0, 1.0, 2.0**-7, -4.0)
    assert polynomial(terms).test(terms[1:3]).slopes[2] is None
    assert slopes(polynomial((*terms[:4], 0.0)).test(terms[1:3]))[2] == pytest.approx(3, abs=0.05)


@given(st.lists(st.integers(-1, 1), min_size=len(EPSILONS), max_size=len(EPSILONS)))
def test_rounding_of_the_loss_does_not_reach_the_slopes(units: list[int]) -> None:
    exact = polynomial((2.0, 1.0, 1.0, 1.0))
    noise = [unit * math.ulp(2.0) for unit in units]
    noisy = replace(exact, values=tuple(v + n for v, n in zip(exact.values, noise, strict=True)))
    assert slopes(noisy.test((1.0, 1.0))) == pytest.approx([1, 2, 3], abs=0.1)


def test_the_smallest_epsilons_alone_would_mislead() -> None:
    exact = polynomial((2.0, 1.0, 1.0, 1.0))
    noise = [(-1) ** number * math.ulp(2.0) for number in range(len(EPSILONS))]
    noisy = replace(exact, values=tuple(v + n for v, n in zip(exact.values, noise, strict=True)))
    test = noisy.test((1.0, 1.0))
    assert test.rounding == pytest.approx(ROUNDING * 2, rel=0.1)
    last = test.remainders[2][-4:]
    assert max(last) < test.rounding
    # they stay as they are, one unit in the last place, while ε falls to an eighth
    assert abs(math.log2(last[0] / last[-1]) / 3) < 1


def test_a_hessian_product_equals_the_product_with_the_hessian(small_loss: SmoothLoss) -> None:
    at = small_loss.observed.before
    names, sizes = list(at), [w.numel() for w in at.values()]

    def flat_loss(flat: Tensor) -> Tensor:
        parts = torch.split(flat, sizes)
        return small_loss.loss({n: p.view_as(at[n]) for n, p in zip(names, parts, strict=True)})

    flat_at = torch.cat([w.flatten() for w in at.values()])
    hessian = torch.func.jacrev(torch.func.jacrev(flat_loss))(flat_at)
    direction = gaussian(at, torch.Generator().manual_seed(1))
    product = hessian_product(small_loss.loss, at, direction)
    expected = hessian @ torch.cat([d.flatten() for d in direction.values()])
    torch.testing.assert_close(torch.cat([p.flatten() for p in product.values()]), expected)
    assert list(product) == names


@given(st.integers(0, 2**16))
def test_hessian_products_are_symmetric_and_the_seeds_are_not(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    a, b = (gaussian(AT, generator) for _ in range(2))

    def loss(weights: Mapping[str, Tensor]) -> Tensor:
        x, y = weights["w"]
        value: Tensor = x.exp() * y.sin() + (x - y) ** 4
        return value

    left = dot(a, hessian_product(loss, AT, b)).item()
    assert left == pytest.approx(dot(hessian_product(loss, AT, a), b).item(), rel=1e-9, abs=1e-12)
    assert not torch.equal(a["w"], b["w"])


def test_a_linear_loss_and_an_unread_tensor_have_no_curvature() -> None:
    at = {**AT, "unread": torch.ones(3, dtype=torch.float64)}
    direction = {**DIRECTION, "unread": torch.ones(3, dtype=torch.float64)}
    product = hessian_product(saddle, at, direction)
    assert {name: p.tolist() for name, p in product.items()} == {"w": [2, 1], "unread": [0, 0, 0]}
    linear = hessian_product(lambda weights: weights["w"].sum(), at, direction)
    assert {name: p.tolist() for name, p in linear.items()} == {"w": [0, 0], "unread": [0, 0, 0]}


def test_the_given_weights_do_not_change() -> None:
    before = AT["w"].clone()
    sample(saddle, AT, DIRECTION)
    hessian_product(saddle, AT, DIRECTION)
    assert torch.equal(AT["w"], before)
    assert not AT["w"].requires_grad


@given(st.integers(0, 2**16))
def test_a_random_direction_is_as_long_as_the_weights(seed: int) -> None:
    at = {**AT, "v": torch.full((2, 3), 3.0, dtype=torch.float64)}
    drawn = gaussian(at, torch.Generator().manual_seed(seed))
    assert dot(drawn, drawn).item() == pytest.approx(dot(at, at).item())
    assert {name: d.shape for name, d in drawn.items()} == {n: w.shape for n, w in at.items()}


def test_a_displacement_leads_to_the_pruned_weights() -> None:
    after = {"w": torch.tensor([0.25, -2.0], dtype=torch.float64)}
    delta = displacement(AT, after, {"w": torch.tensor([True, False])})
    assert (AT["w"] + delta["w"]).tolist() == [0.25, 0.0]
    with pytest.raises(MaskError, match="the mask of 'w'"):
        displacement(AT, after, {"w": torch.tensor([True])})


def float32(weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return {name: w.float() for name, w in weights.items()}


@pytest.mark.parametrize("take", [sample, hessian_product])
def test_weights_and_losses_without_float64_precision_are_errors(
    take: Callable[..., object],
) -> None:
    with pytest.raises(ObservationError, match=r"weights of 'w': dtype is torch\.float32, give"):
        take(saddle, float32(AT), DIRECTION)
    with pytest.raises(ObservationError, match=r"direction of 'w': dtype is torch\.float32"):
        take(saddle, AT, float32(DIRECTION))
    with pytest.raises(ObservationError, match=r"loss has dtype torch\.float32.*with double\(\)"):
        take(lambda weights: saddle(float32(weights)), AT, DIRECTION)
    with pytest.raises(ObservationError, match="'v' is in only one of weights and direction"):
        take(saddle, AT, {**DIRECTION, "v": AT["w"]})
    with pytest.raises(ObservationError, match=r"'w' has shape \(1,\), the weights have \(2,\)"):
        take(saddle, AT, {"w": AT["w"][:1]})
    with pytest.raises(ObservationError, match=r"the loss at ε = 0\.0 is nan"):
        take(lambda weights: saddle(weights) * math.nan, AT, DIRECTION)


def remainders(smooth: SmoothLoss, loss: Loss | None = None) -> TaylorTest:
    """Along a random direction, with g and Hδ of autograd."""
    at, gradient = smooth.observed.before, smooth.observed.gradient
    direction = gaussian(at, torch.Generator().manual_seed(0))
    second = dot(direction, hessian_product(smooth.loss, at, direction)).item()
    line = sample(loss or smooth.loss, at, direction)
    return line.test((dot(gradient, direction).item(), second))


def test_a_model_that_asks_for_float32_is_smooth_in_float64(small_loss: SmoothLoss) -> None:
    assert slopes(remainders(small_loss)) == pytest.approx([1, 2, 3], abs=0.05)


def test_the_same_model_is_not_smooth_in_float32(small_loss: SmoothLoss) -> None:
    network, batch = network_and_batch()
    network.eval()

    def narrowed(weights: Mapping[str, Tensor]) -> Tensor:
        loss: Tensor = torch.func.functional_call(network, dict(weights), (), batch).loss
        return loss

    # and its rounding is far above that of float64, so that it looks like a wrong gradient
    assert remainders(small_loss, narrowed).slopes[1] != pytest.approx(2, abs=0.5)


def test_the_loss_is_without_dropout_and_the_mode_comes_back() -> None:
    network, batch = network_and_batch()
    assert network.training
    loss, weights = loss_function(network, batch), dict(network.named_parameters())
    assert loss(weights).item() == loss(weights).item()
    assert network.training
    assert network(**batch).loss.item() != network(**batch).loss.item()


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_the_claim_holds_on_a_small_network(claim: Claim, small_loss: SmoothLoss) -> None:
    for seed in range(3):
        (entry,) = run([claim], Setting(seed=seed, loss=small_loss))
        assert entry.outcome is Outcome.HOLDS, (entry.check.evidence, entry.control.evidence)


@pytest.mark.parametrize(("claim", "slope"), [(FIRST, 1), (SECOND, 2)])
def test_the_control_fails_in_every_direction(
    claim: Claim, slope: int, small_loss: SmoothLoss
) -> None:
    found = claim.control(Setting(loss=small_loss))
    assert list(found.numbers) == ["random 1", *CRITERIA]
    for test in found.numbers.values():
        assert test["slopes"][:-1] == pytest.approx(range(1, slope + 1), abs=0.1)
        assert test["slopes"][-1] == pytest.approx(slope, abs=0.2)


def tampered(smooth: SmoothLoss, name: str, factor: float) -> SmoothLoss:
    gradient = {**smooth.observed.gradient, name: factor * smooth.observed.gradient[name]}
    return replace(smooth, observed=replace(smooth.observed, gradient=gradient))


@pytest.mark.parametrize("factor", [-1.0, 0.0, 0.99])
def test_a_gradient_that_is_wrong_in_one_tensor_is_found(
    factor: float, small_loss: SmoothLoss
) -> None:
    wrong = tampered(small_loss, "mixed.weight", factor)
    assert not FIRST.check(Setting(loss=wrong)).holds
    assert not SECOND.check(Setting(loss=wrong)).holds


def test_a_gradient_of_other_rows_is_found(small_loss: SmoothLoss) -> None:
    network, _ = network_and_batch()
    other = network_and_batch(seed=1)[1]
    parameters = {n: p for n, p in network.named_parameters() if n in small_loss.observed.before}
    stale = torch.autograd.grad(loss_function(network, other)(parameters), [*parameters.values()])
    observed = replace(small_loss.observed, gradient=dict(zip(parameters, stale, strict=True)))
    found = FIRST.check(Setting(loss=replace(small_loss, observed=observed)))
    assert not found.holds
    assert "R1 has slope 1.0" in found.evidence


def test_a_claim_that_could_not_be_tested_does_not_hold(small_loss: SmoothLoss) -> None:
    at, gradient = small_loss.observed.before, small_loss.observed.gradient

    def linear(weights: Mapping[str, Tensor]) -> Tensor:
        return 1 + dot(gradient, weights)

    assert set(gradient) == set(at)
    found = FIRST.check(Setting(loss=replace(small_loss, loss=linear)))
    assert not found.holds
    assert "R1 has slope 2 in no direction" in found.evidence


def test_both_claims_and_their_controls_share_one_expansion(small_loss: SmoothLoss) -> None:
    calls = 0

    def counted(weights: Mapping[str, Tensor]) -> Tensor:
        nonlocal calls
        calls += 1
        return small_loss.loss(weights)

    setting = Setting(loss=replace(small_loss, loss=counted))
    assert all(entry.outcome is Outcome.HOLDS for entry in run(CLAIMS, setting))
    directions = 1 + len(CRITERIA)
    assert calls == directions * (1 + len(EPSILONS) + 1)  # L(θ), each ε, and one Hessian product
    assert setting.shared(expansions) is setting.shared(expansions)
    assert setting.shared(expansions) is not Setting(loss=small_loss).shared(expansions)


def test_the_full_profile_has_more_directions(small_loss: SmoothLoss) -> None:
    names = [name for name, *_ in decisions(Setting("full"), small_loss.observed)]
    assert names == [*(f"random {number}" for number in range(1, 6)), *CRITERIA]


def test_the_claims_hold_on_a_transformers_model(tiny_model: Path) -> None:
    setting = Setting(seed=3, model=str(tiny_model))
    for entry in run(CLAIMS, setting):
        assert entry.outcome is Outcome.HOLDS, (entry.check.evidence, entry.control.evidence)


def test_the_observed_gradient_is_the_gradient_of_the_function(tiny_model: Path) -> None:
    smooth = observe_loss(str(tiny_model), rows=3)
    weights = {name: w.clone().requires_grad_() for name, w in smooth.observed.before.items()}
    gradient = torch.autograd.grad(smooth.loss(weights), [*weights.values()])
    for (name, observed), exact in zip(smooth.observed.gradient.items(), gradient, strict=True):
        assert observed.dtype is torch.float64
        torch.testing.assert_close(observed, exact, rtol=1e-9, atol=1e-12)
        assert smooth.observed.curvature is not None
        assert smooth.observed.curvature[name].max() > 0


def test_a_missing_model_says_what_to_do() -> None:
    with pytest.raises(ModelError, match="'no/such' is not a folder here, and the hub did not"):
        observe_loss("no/such")


@pytest.mark.model
def test_the_claims_hold_on_the_demo_model() -> None:
    pytest.importorskip("transformers")
    try:
        locate(DEMO_MODEL)
    except ModelError as error:
        pytest.skip(str(error))
    for entry in run(CLAIMS, Setting()):
        assert entry.outcome is Outcome.HOLDS, (entry.check.evidence, entry.control.evidence)
