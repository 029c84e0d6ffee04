"""The closed form of a tree and its proof are what trying every mask says, on several ranks too."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

import pins
from pins.distributed.process_group import SINGLE_PROCESS, Group
from pins.errors import CardinalityError, ImportanceError, OptimalityError
from pins.selection import closed_form
from pins.selection.constraints import Cardinality, Frozen, LayerBounds, NofM, PerTensor, Rows
from pins.selection.optimality import Optimality, optimality
from pins.selection.runs import largest_of_runs
from pins.selection.select import Decision, tree_of
from pins.selection.tree import Node, Runs, TensorNode, View
from pins.utils.lazy_tensors import Computed
from tests.pins.selection.constrained import solvable
from tests.tree_oracle import Program, enumerate_tree, judge, regret
from verification.strategies import DTYPES, Tree, trees
from verification.testing.threaded_group import shards, together

FACTS = ("keep", "total", "kept_min", "pruned_max", "unique", "dual_multiplier", "binding")


@given(trees())
def test_a_decision_is_the_first_optimum_and_proved_or_there_is_none(tree: Tree) -> None:
    importance, root = tree
    assume(solvable(importance))
    found = enumerate_tree(*tree)
    if not found.values:
        with pytest.raises(CardinalityError, match=r"mask meets both$|as zero and as kept$"):
            pins.decide(importance, root)
        return
    decision = pins.decide(importance, root)
    assert found.program.number(decision.masks) == found.first
    assert found.program.number(pins.select(importance, root)) == found.first
    assert decision.proof.holds
    assert decision.proof.unique == (len(found.optima) == 1)
    read = optimality(importance, decision.masks, tree=root)
    for name in FACTS[: None if decision.proof.total else 5]:
        assert getattr(decision.proof, name) == getattr(read, name), name


@given(trees(), st.data())
def test_a_mask_is_called_optimal_and_unique_iff_it_is(tree: Tree, data: st.DataObject) -> None:
    importance, root = tree
    found = enumerate_tree(*tree)
    size = len(found.program.scores)
    drawn = st.integers(0, 2**size - 1)
    if found.values:
        drawn = st.one_of(st.sampled_from(found.optima), st.sampled_from([*found.values]), drawn)
    mask = data.draw(drawn)
    truth, proof = judge(found, mask), optimality(importance, found.program.masks(mask), tree=root)
    assert proof.holds == truth.optimal
    assert proof.unique == truth.unique
    assert (proof.broken is None) == truth.allowed
    assert (proof.keep, proof.total) == (mask.bit_count(), size)


def without_inside(node: Node | TensorNode) -> Any:
    """The tree without runs and frozen weights, whose thresholds are not held."""
    if isinstance(node, Node):
        return replace(node, children=tuple(map(without_inside, node.children)))
    return replace(node, runs=(), zeros=None, fixed=None)


@given(trees(allowed=True), st.data())
def test_the_thresholds_prove_the_mask_and_bound_every_other(
    tree: Tree, data: st.DataObject
) -> None:
    importance, root = tree[0], without_inside(tree[1])
    assume(solvable(importance))
    decision, program = pins.decide(importance, root), Program(importance, root)
    proof = optimality(importance, decision.masks, tree=root)
    thresholds = tuple(map(Fraction, proof.thresholds.values()))
    assert regret(program, program.number(decision.masks), thresholds) == 0
    found = enumerate_tree(importance, root)
    other = data.draw(st.sampled_from([*found.values]))
    assert regret(program, other, thresholds) == judge(found, other).regret


# ---- Ranks ---------------------------------------------------------------------------------------


def parts(tree: Tree, cuts: list[float]) -> Iterator[Tree]:
    """The scores of each rank, and its tree: with its own part of what is frozen."""
    importance, root = tree
    nodes = {node.name: node for node in root.tensors}
    frozen = [
        shards({n: m for n, node in nodes.items() if (m := getattr(node, kind)) is not None}, cuts)
        for kind in ("zeros", "fixed")
    ]
    for scores, zeros, fixed in zip(shards(importance, cuts), *frozen, strict=True):

        def own(
            node: Any, zeros: dict[str, Tensor] = zeros, fixed: dict[str, Tensor] = fixed
        ) -> Any:
            if isinstance(node, Node):
                return replace(node, children=tuple(map(own, node.children)))
            return replace(node, zeros=zeros.get(node.name), fixed=fixed.get(node.name))

        yield scores, own(root)


CUTS = st.lists(st.floats(0, 1), max_size=3)


@given(trees(allowed=True), CUTS)
def test_every_number_of_ranks_comes_to_the_same_masks_and_proofs(
    tree: Tree, cuts: list[float]
) -> None:
    """Rows, groups and frozen weights lie on several ranks, and views are transposed."""
    assume(solvable(tree[0]))
    expected, of_ranks = pins.decide(*tree), [*parts(tree, cuts)]

    def decided(rank: Group) -> tuple[Decision, Optimality]:
        scores, root = of_ranks[rank.rank]
        decision = pins.decide(scores, root, rank)
        return decision, optimality(scores, decision.masks, rank, tree=root)

    read = optimality(tree[0], expected.masks, tree=tree[1])
    for (decision, proof), masks in zip(
        together(len(of_ranks), decided), shards(expected.masks, cuts), strict=True
    ):
        assert decision.proof == expected.proof
        assert proof == read
        for name, mask in decision.masks.items():
            assert torch.equal(mask, masks[name])


def test_a_rank_that_asks_nobody_keeps_others() -> None:
    """The negative control: a cut through a row of which both halves would keep their own best."""
    scores = {"w": torch.tensor([[4.0, 3.0, 1.0, 2.0]])}
    tree = NofM(2, 4).tree({"w": View(1, 1, 4)})
    halves = shards(scores, [0.5])
    masks = {"w": torch.tensor([[False, True, True, False]])}
    read = together(
        2, lambda rank: optimality(halves[rank.rank], shards(masks, [0.5])[rank.rank], rank)
    )
    assert read == [optimality(scores, masks)] * 2  # without a tree too
    whole = pins.decide(scores, tree).masks["w"].reshape(-1)
    asking = together(2, lambda rank: pins.decide(halves[rank.rank], tree, rank).masks["w"])
    assert torch.equal(torch.cat(asking), whole)
    alone = [pins.decide(half, NofM(1, 2), SINGLE_PROCESS).masks["w"] for half in halves]
    assert not torch.equal(torch.cat(alone), whole)


def test_ranks_need_the_views_of_whole_tensors() -> None:
    views = {"w": View(1, 2, 4)}
    halves = shards({"w": torch.arange(8.0)}, [0.4])

    def decided(rank: Group, views: dict[str, View] | None) -> list[bool]:
        found: list[bool] = pins.select(halves[rank.rank], Rows(0.5), rank, views=views)[
            "w"
        ].tolist()
        return found

    kept = [bit for own in together(2, lambda rank: decided(rank, views)) for bit in own]
    assert kept == [False, False, True, True] * 2
    with pytest.raises(CardinalityError, match="parts of larger ones: give views="):
        together(2, lambda rank: decided(rank, None))


def test_no_rank_waits_for_one_whose_scores_cannot_be_ranked() -> None:
    halves = shards({"w": torch.tensor([1.0, 2.0, 3.0, math.nan])}, [0.5])
    said: dict[int, str] = {}

    def decided(rank: Group) -> None:
        with pytest.raises(ImportanceError) as refused:
            pins.decide(halves[rank.rank], NofM(2, 4), rank, views={"w": View(1, 1, 4)})
        said[rank.rank] = str(refused.value)

    together(2, decided)
    assert "cannot be ranked on 1 of 2 ranks, of which this is none" in said[0]
    assert "importance['w'] at index (1) is nan" in said[1]


# ---- Scores --------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "constraint",
    [
        NofM(1, 2),
        Rows(0.5),
        Cardinality(3) & LayerBounds({"b": 1}),
        PerTensor({"a": 2, "b": 1}),
        Frozen(zeros={"b": torch.tensor([[True, False]])}) & Cardinality(3),
    ],
    ids=str,
)
def test_a_score_that_cannot_be_ranked_is_named(constraint: Any, bad: float) -> None:
    importance = {"a": torch.ones(2, 2), "b": torch.tensor([[0.0, bad]])}
    with pytest.raises(ImportanceError, match=rf"^importance\['b'\] at index \(0, 1\) is {bad}"):
        pins.decide(importance, constraint)
    with pytest.raises(ImportanceError, match=r"^importance\['b'\] is torch\.int64"):
        pins.decide({**importance, "b": torch.zeros(1, 2, dtype=torch.int64)}, constraint)


@pytest.mark.parametrize(
    "constraint", [Cardinality(0), NofM(2, 4), LayerBounds(0.5), PerTensor({})]
)
def test_where_nothing_can_be_ranked_it_is_said(constraint: Any) -> None:
    call: Callable[..., object]
    for call in (pins.decide, pins.select):
        with pytest.raises(ImportanceError, match=r"^importance is empty: there is no weight to r"):
            call({}, constraint)
    if not isinstance(constraint, PerTensor):
        with pytest.raises(ImportanceError, match=r"^importance is empty"):
            pins.decide({"w": torch.zeros(2, 0)}, constraint)
        with pytest.raises(ImportanceError, match=r"^importance\['w'\] is list"):
            pins.decide({"w": [1.0]}, constraint)  # type: ignore[dict-item]


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_largest_floats_are_decided_like_others(dtype: torch.dtype) -> None:
    """Forced weights lie above them, in a wider type; above the largest of float64 lies none."""
    most = torch.finfo(dtype).max
    importance = {
        "a": torch.tensor([[most, -most, most, most]], dtype=dtype),
        "b": torch.tensor([0.0, most], dtype=dtype),
    }
    node = TensorNode("a", View(1, 1, 4), runs=(Runs(2, 0, 1),))
    tree = Node("model", (node, TensorNode("b", View(1, 1, 2), minimum=2)), 3, 3)
    if dtype == torch.float64:
        with pytest.raises(ImportanceError, match=r"1\.797.*, the largest of float64: bounds in"):
            pins.decide(importance, tree)
        importance = {name: scores / 2 for name, scores in importance.items()}
    masks = pins.decide(importance, tree).masks
    assert masks["a"].tolist() == [[True, False, False, False]]
    assert masks["b"].tolist() == [True, True]
    # the sum of a row is no float, and all its scores are
    assert pins.select({"a": importance["a"]}, NofM(1, 2))["a"].tolist() == [
        [True, False, True, False]
    ]


def test_scores_of_all_float_types_are_compared_by_value() -> None:
    third = 1 / 3  # float16 0.33325, bfloat16 0.33398, float32 0.33333334, float64 0.333…
    importance = {str(dtype): torch.tensor([[third, 0.0]], dtype=dtype) for dtype in DTYPES}
    nodes = [TensorNode(name, View(1, 1, 2), runs=(Runs(2, 0, 1),)) for name in importance]
    order = [torch.bfloat16, torch.float32, torch.float64, torch.float16]
    for keep in range(5):
        masks = pins.decide(importance, Node("model", tuple(nodes), keep, keep)).masks
        assert {name for name, mask in masks.items() if mask.any()} == {*map(str, order[:keep])}
        assert not any(mask[0, 1] for mask in masks.values())


def test_minus_zero_is_zero_and_the_first_is_kept() -> None:
    importance = {"w": torch.tensor([[-0.0, 0.0, 0.0, -0.0]])}
    for scores in (importance, {"w": -importance["w"]}):
        decision = pins.decide(scores, NofM(1, 2))
        assert decision.masks["w"].tolist() == [[True, False, True, False]]
        assert not decision.proof.unique


def test_of_equal_scores_those_are_kept_that_come_first_in_the_view() -> None:
    """Column by column where the tensor is stored (inputs, outputs), and runs make it matter."""
    importance, views = {"w": torch.zeros(2, 3)}, {"w": View.of((2, 3), transposed=True)}
    assert pins.select(importance, Cardinality(2), views=views)["w"].tolist() == [
        [True, True, False],
        [False, False, False],
    ]
    in_rows = Cardinality(2) & LayerBounds(0) & Frozen()
    assert not any(node.view.transposed for node in tree_of(in_rows, importance).tensors)
    tree = Node("model", (TensorNode("w", views["w"], runs=(Runs(2, 0, 2),)),), 2, 2)
    assert pins.select(importance, tree)["w"].tolist() == [
        [True, False, False],
        [True, False, False],
    ]
    assert pins.select(importance, Rows(0.5), views=views)["w"].tolist() == [
        [True, True, True],
        [False, False, False],
    ]


@pytest.mark.parametrize(
    "constraint", [NofM(2, 4), Cardinality(10) & LayerBounds(0.25, 0.75) & Rows(0.375)]
)
def test_computed_scores_with_a_graph_are_decided_like_others(constraint: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    importance = {name: torch.randn(2, 4, generator=generator) for name in "ab"}
    if not isinstance(constraint, NofM):
        importance = {name: torch.randn(1, 8, generator=generator) for name in "ab"}

    def compute(name: str) -> Tensor:
        zeros = torch.zeros_like(importance[name])
        return torch.complex(zeros, -importance[name].clone().requires_grad_()).conj().imag

    shapes = {name: scores.shape for name, scores in importance.items()}
    assert compute("a").is_neg()
    computed = Computed(shapes, compute)
    held, found = pins.decide(importance, constraint), pins.decide(computed, constraint)
    assert found.proof == held.proof
    assert optimality(computed, found.masks, tree=found.tree).holds
    for name, mask in held.masks.items():
        assert torch.equal(found.masks[name], mask)


# ---- Faults that were, and that would be ---------------------------------------------------------


def test_exchanges_in_runs_are_compared_where_keys_are_far_apart() -> None:
    """Their difference has more than 63 bits."""
    scores = {"w": torch.tensor([[3.0, -3.0, 5.0, 4.0]], dtype=torch.float64)}
    tree = NofM(1, 2).tree({"w": View(1, 1, 4)})
    worse = optimality(scores, {"w": torch.tensor([[False, True, True, False]])}, tree=tree)
    assert worse.fault == "1:2 group 0 of 'w' keeps -3.0 and prunes 3.0"
    tied = {"w": torch.tensor([[3.0, -3.0, 4.0, 4.0]], dtype=torch.float64)}
    best = optimality(tied, {"w": torch.tensor([[True, False, True, False]])}, tree=tree)
    assert best.holds
    assert not best.unique


def test_of_two_kinds_of_runs_with_one_name_both_are_looked_at() -> None:
    scores = {"w": torch.tensor([[3.0, 2.0, 5.0, 4.0]])}
    node = TensorNode("w", View(1, 1, 4), runs=(Runs(4, 2, 2), Runs(2, 1, 1)))
    mask = {"w": torch.tensor([[False, True, True, False]])}
    found = optimality(scores, mask, tree=Node("model", (node,), 2, 2))
    assert found.fault == "run 0 of 'w' keeps 2.0 and prunes 3.0"
    assert [name for name, _ in found.runs] == ["run 0 of 'w'"] * 2


@pytest.mark.parametrize(
    ("masks", "fault"),
    [
        ([True, True, False, False], "run 0 of 'w' keeps 2 weights, its bounds are 1 and 1"),
        ([False, True, True, False], "'w' keeps a weight that is frozen otherwise"),
        ([True, False, True, False], "'w' prunes a weight that is frozen otherwise"),
    ],
)
def test_a_bound_inside_a_tensor_that_a_mask_breaks_is_named(masks: list[bool], fault: str) -> None:
    node = TensorNode(
        "w",
        View(1, 1, 4),
        runs=(Runs(2, 1, 1),),
        zeros=torch.tensor([False, masks[1] and masks[2], False, False]),
        fixed=torch.tensor([False, False, False, masks[0] and masks[2]]),
    )
    found = optimality(
        {"w": torch.zeros(4)}, {"w": torch.tensor(masks)}, tree=Node("model", (node,), 2, 2)
    )
    assert found.fault == fault
    assert not found.unique


def reversed_runs(largest: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Ties to the higher index."""
    return lambda scores, length, keep: largest(
        scores.flip(0), length, keep.flip(0) if isinstance(keep, Tensor) else keep
    ).flip(0)


def test_ties_to_the_higher_index_would_be_another_optimum(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    importance = {"w": torch.zeros(1, 4)}
    tree = tree_of(NofM(1, 2), importance)
    monkeypatch.setattr(closed_form, "largest_of_runs", reversed_runs(largest_of_runs))
    other = pins.decide(importance, tree).masks
    found = enumerate_tree(importance, tree)
    assert judge(found, found.program.number(other)).optimal
    assert found.program.number(other) != found.first


def test_a_selection_in_runs_that_is_wrong_is_not_passed_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    importance = {"w": torch.tensor([[4.0, 3.0, 2.0, 1.0]])}
    monkeypatch.setattr(
        closed_form, "largest_of_runs", lambda scores, *_: largest_of_runs(-scores, *_)
    )
    with pytest.raises(OptimalityError, match=r"2:4 group 0 of 'w' keeps 1\.0 and prunes 4\.0"):
        pins.decide(importance, NofM(2, 4))


def test_bounds_that_are_left_out_are_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    importance = {"a": torch.tensor([4.0, 3.0]), "b": torch.tensor([2.0, 1.0])}
    monkeypatch.setattr(closed_form.ClosedForm, "_binds", lambda *_: False)
    message = "b has bounds, and what it keeps was not read"
    with pytest.raises(OptimalityError, match=message):
        pins.decide(importance, Cardinality(2) & LayerBounds({"b": 1}))
    inner = Node(
        "block", (TensorNode("a", View(1, 1, 2), maximum=1), TensorNode("b", View(1, 1, 2)))
    )
    with pytest.raises(OptimalityError, match=message.replace("b", "a", 1)):
        pins.decide(importance, Node("model", (inner,), 2, 2))
