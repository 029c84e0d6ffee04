from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pins.errors import CardinalityError, ImportanceError, MaskError, ProgramError
from solvers.closed_form import ClosedForm
from solvers.formulation import CardinalityFormulation, Tensors

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@st.composite
def importances(draw: st.DrawFn) -> Tensors:
    """Tensors in each structure, of each dtype, empty ones and scalars included."""
    shapes = st.lists(st.lists(st.integers(0, 3), max_size=3), min_size=1, max_size=3)
    tensors = [torch.randn(1, dtype=draw(st.sampled_from(DTYPES)))]
    tensors += [torch.randn(shape, dtype=draw(st.sampled_from(DTYPES))) for shape in draw(shapes)]
    kind = draw(st.sampled_from(["tensor", "list", "tuple", "mapping"]))
    if kind == "tensor":
        return tensors[0]
    if kind == "mapping":
        return {f"layer.{9 - i}": tensor for i, tensor in enumerate(tensors)}
    return tuple(tensors) if kind == "tuple" else tensors


@given(importances(), st.data())
def test_invert_undoes_apply(importance: Tensors, data: st.DataObject) -> None:
    formulation = CardinalityFormulation(importance, 0)
    n = formulation.program.size
    x = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    masks = formulation.invert(x)
    assert type(masks) is type(importance)
    assert np.array_equal(formulation.apply(masks), x)
    again = formulation.invert(formulation.apply(masks))
    pairs: list[tuple[Any, Any]]
    if isinstance(masks, torch.Tensor):
        pairs = [(masks, again)]
    elif isinstance(masks, dict):
        assert isinstance(importance, dict)
        assert isinstance(again, dict)
        assert list(masks) == list(again) == list(importance)
        pairs = list(zip(masks.values(), again.values(), strict=True))
    else:
        pairs = list(zip(masks, again, strict=True))
    for mask, same in pairs:
        assert mask.dtype == torch.bool
        assert torch.equal(mask, same)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_float_dtype_converts_exactly(dtype: torch.dtype) -> None:
    scores = torch.randn(100, dtype=torch.float64).to(dtype)
    program = CardinalityFormulation(scores, 3).program
    assert (-program.objective).tolist() == scores.tolist()
    assert program.is_cardinality
    assert program.rhs.tolist() == [3.0]


def test_the_flat_order_is_the_given_order_row_major() -> None:
    importance = {"b": torch.tensor([[1.0, 2.0], [3.0, 4.0]]).T, "a": torch.tensor([5.0])}
    program = CardinalityFormulation(importance, 1).program
    assert program.objective.tolist() == [-1, -3, -2, -4, -5]


def test_the_optimal_point_keeps_the_largest_scores() -> None:
    formulation = CardinalityFormulation([torch.tensor([3.0, -4.0]), torch.tensor([1.0])], 2)
    solution = ClosedForm().solve(formulation.program).solution
    assert solution is not None
    masks = formulation.invert(solution.x)
    # Largest signed scores; the largest absolute values would be 3 and −4.
    assert isinstance(masks, list)
    assert [mask.tolist() for mask in masks] == [[True, False], [True]]


@pytest.mark.parametrize("keep", [-1, 4])
def test_a_count_that_no_mask_has_is_refused(keep: int) -> None:
    with pytest.raises(CardinalityError, match=f"keep={keep} came for 3 entries; pass 0 … 3"):
        CardinalityFormulation(torch.ones(3), keep)


@pytest.mark.parametrize("keep", [1.0, True, None])
def test_a_count_that_is_no_integer_is_refused(keep: Any) -> None:
    with pytest.raises(CardinalityError, match="pass an integer"):
        CardinalityFormulation(torch.ones(3), keep)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_not_finite_is_named(bad: float) -> None:
    with pytest.raises(ImportanceError, match=r"importance w is .* at flat index 2"):
        CardinalityFormulation({"w": torch.tensor([[0.0, 1.0], [bad, 2.0]])}, 1)


def test_scores_that_cannot_be_ranked_are_refused() -> None:
    with pytest.raises(ImportanceError, match=r"dtype torch\.int64"):
        CardinalityFormulation([torch.arange(3)], 1)
    nothing: list[Tensors] = [[], {}, torch.ones(0)]
    for importance in nothing:
        with pytest.raises(ImportanceError, match="has no entry"):
            CardinalityFormulation(importance, 0)


def test_masks_that_do_not_fit_are_refused() -> None:
    formulation = CardinalityFormulation({"a": torch.ones(2)}, 1)
    with pytest.raises(MaskError, match=r"masks for \['b'\] came; pass masks for \['a'\]"):
        formulation.apply({"b": torch.ones(2, dtype=torch.bool)})
    with pytest.raises(MaskError, match=r"mask a has shape \(3,\)"):
        formulation.apply({"a": torch.ones(3, dtype=torch.bool)})
    with pytest.raises(MaskError, match=r"dtype torch\.float32"):
        formulation.apply({"a": torch.ones(2)})
    with pytest.raises(ProgramError, match=r"x of shape \(3,\)"):
        formulation.invert(np.ones(3, dtype=np.bool_))
