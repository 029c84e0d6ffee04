"""Each criterion is its formula, reads what it declares, and is no other criterion."""

from collections.abc import Callable
from fractions import Fraction
from itertools import combinations

import pytest
import torch
from hypothesis import given
from torch import Tensor

from pins.errors import CriterionError, ObservationError
from pins.importance.criteria import CRITERIA, find_criterion
from pins.importance.criterion import Criterion, Observation, Reads
from pins.selection.constraints import Cardinality
from pins.selection.select import select
from tests.pins.importance.fitting import fit
from verification.strategies import scores

# Both signs of g and of θ, and a step that changes the order of the magnitudes; all dyadic, so
# that every product below is exact.
BEFORE = torch.tensor([3.0, 1.0, -3.5, -1.5, 0.5, 2.0])
GRADIENT = torch.tensor([2.0, -1.0, 0.5, -4.0, 8.0, -0.25])
AFTER = torch.tensor([2.5, 1.25, -3.75, -0.5, -1.5, 2.125])
CURVATURE = torch.tensor([1.0, 8.0, 0.5, 2.0, 4.0, 0.0])

FORMULAS: dict[str, Callable[..., float]] = {  # of θ, g, θ+u, h
    "pins": lambda _before, g, after, _h: -g * after,
    "abs-pins": lambda _before, g, after, _h: abs(-g * after),
    "magnitude": lambda _before, _g, after, _h: abs(after),
    "sensitivity": lambda before, g, _after, _h: abs(g * before),
    "movement": lambda before, g, _after, _h: -g * before,
    "obd": lambda _before, _g, after, h: h * after**2 / 2,
    "trust-region": lambda _before, _g, after, h: h * after**2 / 2,  # before it is fitted
}

each_criterion = pytest.mark.parametrize("criterion", CRITERIA.values(), ids=CRITERIA)


class Recorded(Observation):
    """An observation that remembers what was read of it."""

    def __init__(self, **known: Tensor) -> None:
        super().__init__(**known)
        self.read: set[Reads] = set()

    @property
    def gradient(self) -> Tensor:
        self.read.add(Reads.GRADIENT)
        return super().gradient

    @property
    def before(self) -> Tensor:
        self.read.add(Reads.BEFORE)
        return super().before

    @property
    def curvature(self) -> Tensor:
        self.read.add(Reads.CURVATURE)
        return super().curvature

    @property
    def momentum(self) -> Tensor:
        self.read.add(Reads.MOMENTUM)
        return super().momentum


def known(dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return {
        "after": AFTER.to(dtype),
        "gradient": GRADIENT.to(dtype),
        "before": BEFORE.to(dtype),
        "curvature": CURVATURE.to(dtype),
    }


def test_every_criterion_has_a_formula_here() -> None:
    assert CRITERIA.keys() == FORMULAS.keys()


@each_criterion
def test_importance_is_the_formula(criterion: Criterion) -> None:
    rows = zip(BEFORE.tolist(), GRADIENT.tolist(), AFTER.tolist(), CURVATURE.tolist(), strict=True)
    expected = [FORMULAS[criterion.name](*row) for row in rows]
    assert criterion.importance(Observation(**known())).tolist() == expected


def test_the_numbers_tell_each_criterion_from_the_others() -> None:
    def mask(criterion: Criterion, keep: int) -> list[bool]:
        observation = Observation(**known())
        fitted = fit(criterion, {"w": observation}, Cardinality(keep), 1.0)
        chosen: list[bool] = select(fitted.importance(observation), keep).tolist()
        return chosen

    masks = {name: [mask(c, keep) for keep in range(1, 6)] for name, c in CRITERIA.items()}
    for first, second in combinations(masks, 2):
        assert masks[first] != masks[second], (first, second)


@each_criterion
def test_what_is_read_is_what_is_declared(criterion: Criterion) -> None:
    observation = Recorded(**known())
    criterion.importance(observation)
    # the loss is no tensor's own: who makes the decision has it
    assert observation.read == criterion.reads - {Reads.LOSS}


@each_criterion
def test_a_missing_reading_is_named(criterion: Criterion) -> None:
    for missing in criterion.reads - {Reads.BEFORE, Reads.LOSS}:
        # without an average of the gradient, the gradient serves
        lost = Reads.GRADIENT if missing is Reads.MOMENTUM else missing
        rest = {name: value for name, value in known().items() if name != lost.name.lower()}
        with pytest.raises(ObservationError, match=f"reads {missing.value}, and there is none"):
            criterion.importance(Observation(**rest))


@each_criterion
def test_without_weights_before_no_step_was_taken(criterion: Criterion) -> None:
    rest = {name: value for name, value in known().items() if name != "before"}
    still = criterion.importance(Observation(**rest))
    assert torch.equal(still, criterion.importance(Observation(**rest, before=AFTER)))


@each_criterion
def test_an_average_of_the_gradient_is_read_by_those_that_declare_it(criterion: Criterion) -> None:
    fitted = fit(criterion, {"w": Observation(**known())}, Cardinality(3), 1.0)
    with_average = Observation(**known(), momentum=-GRADIENT)
    same = torch.equal(fitted.importance(with_average), fitted.importance(Observation(**known())))
    assert same == (Reads.MOMENTUM not in criterion.reads)


def test_without_a_step_movement_is_pins_and_sensitivity_is_abs_pins() -> None:
    still = Observation(after=AFTER, gradient=GRADIENT)
    for with_step, without in (("pins", "movement"), ("abs-pins", "sensitivity")):
        first, second = (CRITERIA[name].importance(still) for name in (with_step, without))
        assert torch.equal(first, second)


@each_criterion
def test_the_sign_table_of_the_module(criterion: Criterion) -> None:
    rising = Observation(
        after=torch.tensor([2.0, -2.0]),
        gradient=torch.tensor([3.0, -3.0]),
        curvature=torch.tensor([1.0, 1.0]),
    )
    falling = Observation(
        after=torch.tensor([2.0, -2.0]),
        gradient=torch.tensor([-3.0, 3.0]),
        curvature=torch.tensor([1.0, 1.0]),
    )
    signed = criterion.name in ("pins", "movement")
    assert bool((criterion.importance(rising) < 0).all()) == signed
    assert bool((criterion.importance(falling) > 0).all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@each_criterion
def test_16_bit_weights_are_scored_in_float32(criterion: Criterion, dtype: torch.dtype) -> None:
    importance = criterion.importance(Observation(**known(dtype)))
    assert importance.dtype == torch.float32
    assert torch.equal(importance, criterion.importance(Observation(**known())))


@each_criterion
def test_float64_stays_float64(criterion: Criterion) -> None:
    assert criterion.importance(Observation(**known(torch.float64))).dtype == torch.float64


@given(scores(dtypes=(torch.float16,), min_size=1, max_size=12))
def test_a_product_of_16_bit_floats_is_exact(weights: Tensor) -> None:
    # 11 + 11 bits fit into 24, and the least product of two subnormals, 2⁻⁴⁸, is far from
    # float32's underflow; the widest bfloat16 products are not, so they are left out here
    gradient = weights.flip(0)
    importance = CRITERIA["pins"].importance(Observation(after=weights, gradient=gradient))
    exact = [
        -Fraction(g) * Fraction(w) for g, w in zip(gradient.tolist(), weights.tolist(), strict=True)
    ]
    assert [Fraction(score) for score in importance.tolist()] == exact


def test_products_that_float16_would_lose_are_kept() -> None:
    small = torch.tensor([1e-4, 2e-4], dtype=torch.float16)
    assert (small * small).tolist() != CRITERIA["abs-pins"].importance(
        Observation(after=small, gradient=small)
    ).tolist()
    assert (small * small)[0] == 0
    importance = CRITERIA["abs-pins"].importance(Observation(after=small, gradient=small))
    assert importance[1] > importance[0] > 0


def test_importance_carries_no_graph() -> None:
    weight = torch.nn.Parameter(AFTER.clone())
    for criterion in CRITERIA.values():
        rest = {name: value for name, value in known().items() if name != "after"}
        assert not criterion.importance(Observation(after=weight, **rest)).requires_grad


def trained(
    optimizer: Callable[[list[Tensor]], torch.optim.Optimizer], steps: int = 3
) -> tuple[Tensor, Tensor, Tensor]:
    """(θ, g, θ+u) of the last of several real steps on a curved loss, in float64."""
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(32, 8, generator=generator, dtype=torch.float64)
    weight = torch.randn(8, generator=generator, dtype=torch.float64, requires_grad=True)
    chosen = optimizer([weight])
    for _ in range(steps):
        chosen.zero_grad()
        torch.autograd.backward((data @ weight).tanh().square().mean())
        before = weight.detach().clone()
        chosen.step()
    assert weight.grad is not None
    return before, weight.grad.clone(), weight.detach().clone()


def test_pins_under_sgd_is_the_formula_of_the_paper() -> None:
    rate = 0.5
    before, gradient, after = trained(lambda weights: torch.optim.SGD(weights, lr=rate))
    importance = CRITERIA["pins"].importance(Observation(after=after, gradient=gradient))
    paper = -gradient * before + rate * gradient.square()
    # each side rounds at most four times, by half an ulp of no more than |gθ| + ηg²
    bound = 4 * torch.finfo(torch.float64).eps
    size = (gradient * before).abs() + rate * gradient.square()
    assert bool(((importance - paper).abs() <= bound * size).all())
    # and the tolerance is far too small to take a rival for it
    assert bool(((-gradient * before - paper).abs() > bound * size).all())


def test_pins_under_adamw_is_minus_gradient_times_weights_after() -> None:
    rate = 0.05
    before, gradient, after = trained(
        lambda weights: torch.optim.AdamW(weights, lr=rate, weight_decay=0.1)
    )
    importance = CRITERIA["pins"].importance(
        Observation(after=after, gradient=gradient, before=before)
    )
    assert torch.equal(importance, -gradient * after)
    # the formula of SGD is another one here
    assert not torch.allclose(importance, -gradient * before + rate * gradient.square(), rtol=1e-3)


def test_abs_pins_keeps_what_pins_prunes_first() -> None:
    observation = Observation(**known())
    signed, absolute = (CRITERIA[name].importance(observation) for name in ("pins", "abs-pins"))
    worst = int(signed.argmin())
    assert not select(signed, 5)[worst]
    assert select(absolute, 2)[worst]


def test_magnitude_ranks_as_the_square_does_where_the_square_still_fits() -> None:
    tiny = torch.tensor([1e-30, 2e-30])
    assert tiny.square().tolist() == [0.0, 0.0]
    assert select(CRITERIA["magnitude"].importance(Observation(after=tiny)), 1).tolist() == [
        False,
        True,
    ]


def test_a_criterion_is_found_by_its_name() -> None:
    for name, criterion in CRITERIA.items():
        assert find_criterion(name) is criterion
        assert criterion.program


def test_an_unknown_criterion_is_answered_with_the_known_ones() -> None:
    with pytest.raises(CriterionError, match=r"no criterion 'obs': choose one of pins, .*, obd"):
        find_criterion("obs")
