"""Laws of every method that is registered."""

from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pins.errors import CardinalityError, SettingError
from pins.oneshot.layer import Layer, Pruned
from pins.oneshot.methods.gradient_method import GradientMethod
from pins.oneshot.methods.method import ScoreMethod
from pins.oneshot.methods.registry import METHODS, method_named
from pins.oneshot.settings import CHOICES
from pins.selection.allocation import Allocation
from pins.selection.constraints import keep_count
from pins.selection.tree import View
from tests.pins.oneshot.layers import correlated, integer_layers

SPARSITIES = st.fractions(0, 1, max_denominator=9)
LAYERWISE = [n for n, m in METHODS.items() if not isinstance(m, GradientMethod)]
EACH = pytest.mark.parametrize("name", LAYERWISE)
TABLE = (Path(__file__).parents[4] / "docs" / "oneshot.md").read_text(encoding="utf-8")
BY_ROW = ("obs",)  # do not rank the weights of a whole matrix


def exactly(pattern: str, *, skip: bool = False) -> Allocation:
    return Allocation(pattern=pattern, exactly=True, skip_indivisible=skip)


def require_pruned(name: str, layer: Layer, pruned: Pruned) -> None:
    """What is pruned is 0; methods that rank scores leave the rest as it is."""
    assert pruned.mask.dtype == torch.bool
    assert pruned.weight.dtype == layer.weight.dtype
    assert pruned.weight.isfinite().all()
    assert not pruned.weight[~pruned.mask].any()
    ranks = isinstance(METHODS[name], ScoreMethod)
    assert ranks == (pruned.scores is not None)
    if ranks:
        assert torch.equal(pruned.weight[pruned.mask], layer.weight[pruned.mask])


def test_choices_are_the_methods() -> None:
    assert tuple(METHODS) == CHOICES["method"]
    with pytest.raises(SettingError, match="there is no method 'obc'"):
        method_named("obc")


@EACH
@given(layer=integer_layers(), sparsity=SPARSITIES)
def test_each_row_keeps_its_number(name: str, layer: Layer, sparsity: Fraction) -> None:
    before = layer.weight.clone(), layer.gram.clone()
    pruned = METHODS[name].prune(layer, Allocation(scope="row"), sparsity)
    require_pruned(name, layer, pruned)
    keep = keep_count(sparsity, layer.weight.shape[1])
    assert pruned.mask.sum(1).tolist() == [keep] * len(layer.weight)
    assert torch.equal(layer.weight, before[0])
    assert torch.equal(layer.gram, before[1])


@pytest.mark.parametrize("name", [name for name in LAYERWISE if name not in BY_ROW])
@given(layer=integer_layers(), sparsity=SPARSITIES)
def test_a_matrix_keeps_its_number(name: str, layer: Layer, sparsity: Fraction) -> None:
    pruned = METHODS[name].prune(layer, Allocation(scope="tensor"), sparsity)
    require_pruned(name, layer, pruned)
    assert pruned.mask.count_nonzero() == keep_count(sparsity, layer.weight.numel())


@EACH
@given(layer=integer_layers(by=4), n=st.integers(1, 4))
def test_each_group_keeps_n_of_m(name: str, layer: Layer, n: int) -> None:
    pruned = METHODS[name].prune(layer, exactly(f"{n}:4"), 1 - Fraction(n, 4))
    require_pruned(name, layer, pruned)
    assert (pruned.mask.view(-1, 4).sum(1) == n).all()


@EACH
@pytest.mark.parametrize("inputs", [130, 256])
def test_a_row_of_several_blocks_of_columns_keeps_its_number(name: str, inputs: int) -> None:
    layer, sparsity = correlated(0, outputs=3, inputs=inputs, vectors=16), Fraction(1, 3)
    pruned = METHODS[name].prune(layer, Allocation(scope="row"), sparsity)
    require_pruned(name, layer, pruned)
    assert pruned.mask.sum(1).tolist() == [keep_count(sparsity, inputs)] * 3
    if name not in BY_ROW:
        pruned = METHODS[name].prune(layer, Allocation(scope="tensor"), sparsity)
        assert pruned.mask.count_nonzero() == keep_count(sparsity, 3 * inputs)
    layer = correlated(0, outputs=3, inputs=inputs // 5 * 5, vectors=16)
    pruned = METHODS[name].prune(layer, exactly("2:5"), Fraction(3, 5))
    assert (pruned.mask.view(-1, 5).sum(1) == 2).all()


@EACH
@pytest.mark.parametrize("allocation", [Allocation(scope="row"), Allocation(scope="tensor")])
def test_weights_of_an_input_that_is_always_0_go_first(name: str, allocation: Allocation) -> None:
    if allocation.scope == "tensor" and name in BY_ROW:
        return
    layer = correlated(0, outputs=6, inputs=16)
    dead = [0, 5, 15]
    layer.weight[:, dead] = 100.0
    layer.gram[dead] = layer.gram[:, dead] = 0.0
    kept = METHODS[name].prune(layer, allocation, Fraction(1, 2)).mask[:, dead]
    assert kept.all() if name == "magnitude" else not kept.any()  # which knows no inputs
    if name != "magnitude":  # as many as there is room for
        kept = METHODS[name].prune(layer, allocation, Fraction(1, 16)).mask[:, dead]
        assert int(kept.sum()) == 6 * 2


@EACH
def test_a_width_that_m_does_not_divide_is_refused_or_kept(name: str) -> None:
    layer = correlated(0, outputs=3, inputs=10)
    with pytest.raises(CardinalityError, match="rows of 10 weights, which 4 does not divide"):
        METHODS[name].prune(layer, exactly("2:4"), Fraction(1, 2))
    pruned = METHODS[name].prune(layer, exactly("2:4", skip=True), Fraction(1, 2))
    assert pruned.mask.all()
    assert torch.equal(pruned.weight, layer.weight)


@EACH
@pytest.mark.parametrize(
    ("allocation", "unless"),
    [
        (Allocation(pattern="transposable-2:4", exactly=True), ""),
        (Allocation(scope="row", pattern="2:4"), "magnitude wanda ria alps obs"),
        (Allocation(scope="tensor"), "magnitude wanda ria alps sparsegpt"),
        (Allocation(scope="global"), "magnitude wanda ria alps"),
    ],
    ids=["transposable", "at most", "tensor", "global"],
)
def test_what_a_method_cannot_keep_to_is_refused(
    name: str, allocation: Allocation, unless: str
) -> None:
    layer, sparsity = correlated(0, outputs=4, inputs=8), Fraction(1, 2)
    if name in unless.split():
        METHODS[name].prune(layer, allocation, sparsity)
        return
    with pytest.raises(CardinalityError, match=r"give (N:M along|--scope row)"):
        METHODS[name].prune(layer, allocation, sparsity)


COLUMNS = {
    "row": Allocation(scope="row"),
    "tensor": Allocation(scope="tensor"),
    "global": Allocation(scope="global"),
    "N:M": exactly("2:4"),
    "at most N:M": Allocation(scope="row", pattern="2:4"),
}


@pytest.mark.parametrize("name", METHODS)
def test_the_table_in_the_docs_says_which_masks_a_method_finds(name: str) -> None:
    rows = [[cell.strip() for cell in row.strip(" |").split("|")] for row in TABLE.splitlines()]
    header = next(row for row in rows if row[1:] == list(COLUMNS))
    stated = [row[0] for row in rows if len(row) == len(header) and row[1] in ("yes", "no")]
    assert stated == [f"`{each}`" for each in METHODS]
    cells = next(row for row in rows if row[0] == f"`{name}`" and row[1] in ("yes", "no"))
    views = {each: View.of((4, 8)) for each in "ab"}
    for allocation, cell in zip(COLUMNS.values(), cells[1:], strict=True):
        refused = pytest.raises(CardinalityError, match=f"^{name} [^\\n]*: give [^\\n]*$")
        with refused if cell == "no" else nullcontext():
            METHODS[name].require(allocation, Fraction(1, 2), views)


@EACH
@given(exponent=st.integers(-12, 12))
def test_the_scale_of_the_inputs_does_not_matter(name: str, exponent: int) -> None:
    layer, allocation = correlated(1, outputs=4, inputs=12), Allocation(scope="row")
    gram = layer.gram.clone()
    gram[5, :] = gram[:, 5] = 0.0
    found = [
        METHODS[name].prune(
            Layer("w", layer.weight, gram * 4.0**power, layer.vectors), allocation, Fraction(1, 2)
        )
        for power in (0, exponent)
    ]
    assert torch.equal(found[0].mask, found[1].mask)
    assert torch.allclose(found[0].weight, found[1].weight)
