"""The loss models: importance is the optimum of the prediction, and the prediction comes true."""

import itertools
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pins.errors import MaskError
from pins.importance.criteria import CRITERIA
from pins.importance.criterion import Observation
from pins.importance.taylor_models import DiagonalSecondOrderModel, FirstOrderModel
from pins.selection.select import select

SIZES = {"a": 3, "b": 4}

# multiples of 1/8 up to 5: all products and sums below are exact in float64
dyadic = st.integers(-40, 40).map(lambda i: i / 8)


@dataclass(frozen=True)
class Setting:
    gradient: dict[str, Tensor]
    before: dict[str, Tensor]
    after: dict[str, Tensor]
    curvature: dict[str, Tensor]

    @property
    def first(self) -> FirstOrderModel:
        return FirstOrderModel(self.gradient, self.before, self.after)

    @property
    def second(self) -> DiagonalSecondOrderModel:
        return DiagonalSecondOrderModel(self.gradient, self.before, self.after, self.curvature)


@st.composite
def settings_of_a_step(draw: st.DrawFn) -> Setting:
    def tensors(numbers: st.SearchStrategy[float]) -> dict[str, Tensor]:
        return {
            name: torch.tensor(
                draw(st.lists(numbers, min_size=size, max_size=size)), dtype=torch.float64
            )
            for name, size in SIZES.items()
        }

    return Setting(tensors(dyadic), tensors(dyadic), tensors(dyadic), tensors(dyadic.map(abs)))


def all_masks() -> list[dict[str, Tensor]]:
    total = sum(SIZES.values())
    return [
        {"a": torch.tensor(bits[: SIZES["a"]]), "b": torch.tensor(bits[SIZES["a"] :])}
        for bits in itertools.product((False, True), repeat=total)
    ]


ALL_MASKS = all_masks()


def least_changes(model: FirstOrderModel) -> dict[int, float]:
    """The least predicted change of all masks with k ones, by k."""
    least: dict[int, float] = {}
    for mask in ALL_MASKS:
        keep = sum(int(m.sum()) for m in mask.values())
        change = model.predicted_change(mask)
        least[keep] = min(change, least.get(keep, change))
    return least


@given(settings_of_a_step())
def test_the_k_largest_importances_predict_the_least_change_of_all_masks(setting: Setting) -> None:
    for model in (setting.first, setting.second):
        scores = model.importance()
        for keep, least in least_changes(model).items():
            assert model.predicted_change(select(scores, keep)) == least


@pytest.mark.parametrize("rival", ["abs-pins", "magnitude", "movement"])
def test_a_rival_importance_does_not(rival: str) -> None:
    setting = Setting(
        gradient={"a": torch.tensor([1.0, -2.0, 3.0]), "b": torch.tensor([-1.0, 2.0, 0.5, -4.0])},
        before={"a": torch.tensor([1.0, 1.0, -1.0]), "b": torch.tensor([2.0, 3.0, 1.0, -1.0])},
        after={"a": torch.tensor([0.5, 3.0, -2.0]), "b": torch.tensor([3.0, 0.5, 4.0, 1.0])},
        curvature={},
    )
    scores = {
        name: CRITERIA[rival].importance(
            Observation(setting.after[name], setting.gradient[name], setting.before[name])
        )
        for name in SIZES
    }
    least = least_changes(setting.first)
    changes = {keep: setting.first.predicted_change(select(scores, keep)) for keep in least}
    assert changes != least


@given(settings_of_a_step())
def test_first_order_importance_is_that_of_pins(setting: Setting) -> None:
    for name, scores in setting.first.importance().items():
        observation = Observation(
            after=setting.after[name], gradient=setting.gradient[name], before=setting.before[name]
        )
        assert torch.equal(scores, CRITERIA["pins"].importance(observation))


def test_second_order_importance_without_gradient_and_step_is_obd() -> None:
    weight, curvature = torch.tensor([1.0, -2.0, 3.0]), torch.tensor([4.0, 0.5, 0.0])
    model = DiagonalSecondOrderModel(
        {"w": torch.zeros(3)}, {"w": weight}, {"w": weight}, {"w": curvature}
    )
    obd = CRITERIA["obd"].importance(Observation(after=weight, curvature=curvature))
    assert torch.equal(model.importance()["w"], obd)


@given(settings_of_a_step(), st.sampled_from(ALL_MASKS))
def test_the_change_of_a_linear_loss_is_what_first_order_predicts(
    setting: Setting, mask: dict[str, Tensor]
) -> None:
    def loss(weights: dict[str, Tensor]) -> float:
        return sum(float((setting.gradient[name] * w).sum()) for name, w in weights.items())

    masked = {name: after * mask[name] for name, after in setting.after.items()}
    measured = loss(masked) - loss(setting.before)
    assert setting.first.predicted_change(mask) == measured


@given(settings_of_a_step(), st.sampled_from(ALL_MASKS))
def test_the_change_of_a_quadratic_loss_is_what_second_order_predicts(
    setting: Setting, mask: dict[str, Tensor]
) -> None:
    def loss(weights: dict[str, Tensor]) -> Tensor:
        terms = [
            (setting.curvature[name] * w.square() / 2 - w).sum() for name, w in weights.items()
        ]
        return torch.stack(terms).sum()

    leaves = {name: w.clone().requires_grad_() for name, w in setting.before.items()}
    gradients = torch.autograd.grad(loss(leaves), list(leaves.values()))
    model = DiagonalSecondOrderModel(
        dict(zip(leaves, gradients, strict=True)), setting.before, setting.after, setting.curvature
    )
    masked = {name: after * mask[name] for name, after in setting.after.items()}
    assert model.predicted_change(mask) == (loss(masked) - loss(setting.before)).item()


def test_curvature_that_is_not_diagonal_is_beyond_both_models() -> None:
    hessian = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    weight = torch.tensor([1.0, 1.0], dtype=torch.float64)
    gradient, nothing = {"w": hessian @ weight}, {"w": torch.tensor([False, False])}
    model = DiagonalSecondOrderModel(
        gradient, {"w": weight}, {"w": weight}, {"w": hessian.diagonal()}
    )
    measured = -float(weight @ hessian @ weight) / 2
    assert model.predicted_change(nothing) != measured


def test_pruned_weights_that_are_not_finite_do_not_reach_the_prediction() -> None:
    model = FirstOrderModel(
        {"w": torch.tensor([1.0, 2.0])},
        {"w": torch.tensor([1.0, 1.0])},
        {"w": torch.tensor([float("inf"), 3.0])},
    )
    assert model.predicted_change({"w": torch.tensor([False, True])}) == -1.0 + 2.0 * 2.0


def test_small_differences_are_summed_in_float64() -> None:
    gradient = torch.tensor([1.0, 1.0, 1.0])
    before = torch.tensor([-(2.0**24), -1.0, 2.0**24])
    model = FirstOrderModel({"w": gradient}, {"w": before}, {"w": before})
    nothing = {"w": torch.zeros(3, dtype=torch.bool)}
    assert model.predicted_change(nothing) == 1.0
    assert float((-before[:2]).sum() - before[2]) != 1.0  # in float32


def test_16_bit_importance_does_not_underflow() -> None:
    small = {"w": torch.tensor([1e-4, 1.2e-4], dtype=torch.float16)}
    model = FirstOrderModel({"w": -small["w"]}, small, small)
    least, kept = least_pair(model)
    assert kept == least


def least_pair(model: FirstOrderModel) -> tuple[float, float]:
    """The least change of the two masks of two weights that keep one, and that of importance."""
    masks = [{"w": torch.tensor([True, False])}, {"w": torch.tensor([False, True])}]
    least = min(model.predicted_change(mask) for mask in masks)
    return least, model.predicted_change(select(model.importance(), 1))


def test_masks_of_other_tensors_are_refused() -> None:
    one = {"w": torch.ones(2)}
    model = FirstOrderModel(one, one, one)
    with pytest.raises(MaskError, match="'w' has no mask"):
        model.predicted_change({})
    with pytest.raises(MaskError, match=r"shape \(3,\), the tensor has shape \(2,\)"):
        model.predicted_change({"w": torch.ones(3, dtype=torch.bool)})
