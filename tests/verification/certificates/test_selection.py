"""Every certificate that is written is proved, and states the truth; every other mask has none."""

import math
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from pins import masks as masks_module
from pins.errors import (
    CardinalityError,
    CertificateError,
    ImportanceError,
    MaskError,
    PinsError,
)
from pins.selection.constraints import (
    AtMostNofM,
    Bounds,
    Cardinality,
    Frozen,
    LayerBounds,
    NofM,
    PerTensor,
)
from pins.selection.select import select, tree_of
from pins.selection.tree import Node, TensorNode, View
from pins.utils.io import write_json
from tests.pins.selection.constrained import solvable
from tests.tree_oracle import Enumerated, enumerate_tree, judge
from tests.verification.certificate_cases import scratch_folder
from tests.verification.certificates.written import (
    mask_of,
    names,
    outcome,
    proved,
    rational,
    replace_mask,
    write,
)
from verification.certificates.document import write_masks
from verification.certificates.selection import save_scores, summary
from verification.checker import Outcome
from verification.strategies import DTYPES, Tree, scores, trees

SCORES = {"a": torch.tensor([4.0, 3.0, 2.0, 1.0]), "b": torch.tensor([0.5, 0.25, 0.125])}
TREES = trees(max_total=9, allowed=True).filter(lambda tree: solvable(tree[0]))


def enumerated(tree: Tree) -> Enumerated:
    """All allowed masks; the flat order is that of the tree, as in the format."""
    importance, root = tree
    return enumerate_tree({node.name: importance[node.name] for node in root.tensors}, root)


def draw_mask(data: st.DataObject, found: Enumerated) -> int:
    """Any allowed mask, often an optimal one."""
    return data.draw(st.sampled_from(found.optima) | st.sampled_from([*found.values]))


# ---- What is written is proved -------------------------------------------------------------------


@given(TREES, st.data())
def test_a_certificate_states_the_truth_of_its_mask_and_of_no_other(
    tree: Tree, data: st.DataObject
) -> None:
    """The negative control: put under another mask, it is proved only if it is as true of that."""
    found = enumerated(tree)
    mask = draw_mask(data, found)
    document = write(tree[0], found.program.masks(mask), tree[1])
    claim, truth = document["claim"], judge(found, mask)
    assert proved()
    assert rational(claim["gap"]) == truth.regret
    assert claim["unique"] == (truth.unique if truth.optimal else None)
    assert claim["tie_rule"] == ("lower-index" if truth.tie_rule else "none")
    kept = data.draw(st.permutations(f"{mask:0{len(found.program.scores)}b}"))
    other = int("".join(kept), 2)
    replace_mask(document, found.program.masks(other))
    fact = judge(found, other)
    assert proved() == (
        fact.regret == truth.regret
        and fact.unique == truth.unique
        and fact.tie_rule >= truth.tie_rule
    )


@given(trees(max_total=9), st.data())
def test_a_mask_that_is_not_allowed_has_no_certificate(tree: Tree, data: st.DataObject) -> None:
    found = enumerated(tree)
    mask = data.draw(st.integers(0, 2 ** len(found.program.scores) - 1))
    assume(mask not in found.values)
    with pytest.raises(CertificateError, match=r"^the mask is not allowed: .*; certify it under"):
        write(tree[0], found.program.masks(mask), tree[1])
    assert names(scratch_folder() / "written") == ["mask.safetensors", "scores.safetensors"]


@given(TREES, st.sampled_from([1.0, 0.5, 2.0**-20, 3.0, 0.1]) | st.floats(1e-6, 1e6), st.data())
def test_within_a_radius_the_gap_is_the_bound_and_no_mask_is_better_by_more(
    tree: Tree, multiplier: float, data: st.DataObject
) -> None:
    """(max r·m′ − r·m + ρ − c·(1−m)) / μ with r = c + μs, in rational arithmetic."""
    found = enumerated(tree)
    mask, size = draw_mask(data, found), len(found.program.scores)
    costs: dict[str, Tensor] = {}
    for name, s in tree[0].items():
        c = data.draw(scores(min_size=s.numel(), max_size=s.numel(), dtypes=[s.dtype]))
        costs[name] = c.abs().reshape(s.shape)
    prices = enumerate_tree({name: costs[name] for name in found.program.importance}, tree[1])
    whole = sum(prices.program.scores, Fraction(0))
    saved = prices.values  # c·m
    own = whole - saved[mask]
    slack = data.draw(st.sampled_from([Fraction(0), Fraction(1, 3), Fraction(10)]))
    radius = None if slack == 0 and data.draw(st.booleans()) else own + slack
    document = write(
        tree[0],
        found.program.masks(mask),
        tree[1],
        costs=costs,
        multiplier=multiplier,
        radius=radius,
    )
    assert proved()
    claim, μ = document["claim"], Fraction(multiplier)
    gap = rational(claim["gap"])
    assert rational(claim["radius"]) == own + slack
    ranks = {each: saved[each] + μ * value for each, value in found.values.items()}
    assert gap == (max(ranks.values()) - ranks[mask] + slack) / μ
    assert (document["evidence"]["best"] is None) == (ranks[mask] == max(ranks.values()))
    within = [found.values[each] for each in found.values if whole - saved[each] <= own + slack]
    assert max(within) - found.values[mask] <= gap
    # the negative control: another mask under it
    other = int("".join(data.draw(st.permutations(f"{mask:0{size}b}"))), 2)
    replace_mask(document, found.program.masks(other))
    assert proved() == (
        other in ranks
        and whole - saved[other] <= own + slack
        and (
            found.values[other] == found.values[mask]
            if document["evidence"]["best"]
            else ranks[other] == ranks[mask] and saved[other] == saved[mask]
        )
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_rounding_misplaces_is_the_gap(dtype: torch.dtype) -> None:
    """Of a decision that ranks c + μs rounded to the dtype."""
    generator = torch.Generator().manual_seed(0)
    s = {n: torch.randn(40, 24, generator=generator).to(dtype) for n in ("w.10", "w.2")}
    c = {n: torch.rand(40, 24, generator=generator).to(dtype) for n in s}
    masks = select({n: (c[n] + 0.3 * s[n]).to(dtype) for n in s}, NofM(2, 4))
    document = write(s, masks, NofM(2, 4), costs=c, multiplier=0.3)
    gap = rational(document["claim"]["gap"])
    assert proved()
    assert gap < 100 * torch.finfo(dtype).eps
    assert (gap > 0) == (dtype is torch.bfloat16)


# ---- By hand -------------------------------------------------------------------------------------


def test_the_flat_order_is_the_order_of_the_tree_not_that_of_names() -> None:
    tied = {"w.10": torch.ones(2), "w.2": torch.ones(2)}
    document = write(tied, mask_of(tied, (0, 1)))
    assert [tensor["name"] for tensor in document["claim"]["scope"]] == ["w.10", "w.2"]
    assert document["evidence"]["counts"] == [2, 0]
    assert document["claim"]["tie_rule"] == "lower-index"
    assert document["claim"]["unique"] is False
    leaves = tree_of(Cardinality(2), tied).children[::-1]
    document = write(tied, mask_of(tied, (0, 1)), Node("the model", leaves, 2, 2))
    assert [tensor["name"] for tensor in document["claim"]["scope"]] == ["w.2", "w.10"]
    assert document["evidence"]["counts"] == [0, 2]
    assert proved()


def test_the_exact_regret_of_a_worse_mask() -> None:
    values = {"a": torch.tensor([0.1, 0.2, 0.3])}
    document = write(values, mask_of(values, (0, 1)))
    exact = Fraction(values["a"][2].item()) - Fraction(values["a"][0].item())
    assert rational(document["claim"]["gap"]) == exact
    assert proved()


COSTS = {"a": torch.tensor([0.0, 1.0, 0.5, 0.25]), "b": torch.tensor([0.5, 0.25, 0.125])}
ZEROS = {"a": torch.tensor([True, False, False, False])}


@pytest.mark.parametrize(
    ("constraint", "kept", "radius", "said"),
    [
        (Cardinality(3), (0, 1, 2), None, "is the only optimum"),
        (Cardinality(3), (0, 1, 5), None, "falls short of the optimum by about 1.75"),
        (
            Cardinality(3) & LayerBounds(minimum={"b": 2}),
            (0, 4, 5),
            None,
            "is the only optimum among masks with bounds on tensors (1)",
        ),
        (
            PerTensor({"a": 1, "b": 2}),
            (0, 4, 6),
            None,
            "falls short of the optimum among masks with bounds on tensors (2) by about 0.125",
        ),
        (
            Cardinality(3) & Frozen(zeros=ZEROS),
            (1, 2, 3),
            None,
            "is the only optimum among masks with frozen zeros",
        ),
        (
            Cardinality(3) & Frozen(weights={"b": torch.tensor([False, False, True])}),
            (0, 1, 6),
            None,
            "is the only optimum among masks with frozen fixed",
        ),
        (Cardinality(3), (0, 1, 2), 1, "is within about 0.25 of the optimum at a cost of at most"),
    ],
)
def test_a_certificate_says_what_its_mask_competes_with(
    constraint: Bounds, kept: tuple[int, ...], radius: int | None, said: str
) -> None:
    given: Any = {"costs": COSTS, "radius": Fraction(9, 8) + Fraction(1, 4)} if radius else {}
    document = write(SCORES, mask_of(SCORES, kept), constraint, **given)
    assert summary(document).startswith(f"keeps 3 of 7 weights and {said}")
    assert proved()


def test_frozen_weights_may_be_given_flat() -> None:
    matrix = {"w": torch.tensor([[4.0, 3.0], [2.0, 1.0]])}
    leaf = TensorNode("w", View.of((2, 2)), zeros=torch.tensor([True, False, False, False]))
    tree = Node("the model", (leaf,), 2, 2)
    assert write(matrix, select(matrix, tree), tree)["evidence"]["counts"] == [2]
    assert proved()


def test_runs_are_counted_in_the_sentence() -> None:
    ties = {"w": torch.zeros(2, 4)}
    for constraint, said in (
        (NofM(2, 4), "2 of each of the runs of 4 (2), ties by index"),
        (AtMostNofM(2, 4) & Cardinality(3), "0 to 2 of each of the runs of 4 (2), ties by index"),
    ):
        document = write(ties, select(ties, constraint), constraint)
        assert summary(document).endswith(f"is optimal among masks with {said}")
        assert proved()
    assert summary(write(ties, mask_of(ties, (1,)))).endswith("is optimal, with other ties")


# ---- What is refused -----------------------------------------------------------------------------


def refused(kind: type[PinsError], message: str, *arguments: object, **more: object) -> None:
    with pytest.raises(kind, match=message):
        write(*arguments, **more)  # type: ignore[arg-type]
    assert "certificate.json" not in names(scratch_folder() / "written")


def test_a_mask_is_certified_under_its_own_constraint_only() -> None:
    masks = select(SCORES, 3)
    refused(
        CertificateError,
        "the model keeps 3 weights, its bounds are 4 and 4",
        SCORES,
        masks,
        Cardinality(4),
    )
    bounds = Cardinality(3) & LayerBounds(minimum={"b": 1})
    refused(CertificateError, "b keeps 0 weights, its bounds are 1 and 3", SCORES, masks, bounds)
    frozen = Cardinality(3) & Frozen(zeros=ZEROS)
    refused(CertificateError, "'a' keeps a weight that is frozen otherwise", SCORES, masks, frozen)
    unknown = Cardinality(3) & LayerBounds(minimum={"c": 1})
    refused(CardinalityError, "there is no tensor 'c'", SCORES, masks, unknown)
    refused(MaskError, "'b' has no mask", SCORES, {"a": masks["a"]})


def test_a_tree_is_certified_as_deep_as_the_format_goes() -> None:
    masks = select(SCORES, 3)
    node = Node("16", tree_of(Cardinality(3), SCORES).children)
    for i in reversed(range(16)):
        node = Node(str(i), (node,), 3 if i == 0 else 0, 3)
    write(SCORES, masks, node)
    assert proved()
    deeper = Node("the model", (node,), 3, 3)
    refused(CertificateError, "'16' is inside 17 nodes, the format has 16", SCORES, masks, deeper)


def test_a_mask_is_certified_within_its_radius_only() -> None:
    masks = select(SCORES, 3)  # removes 1/4 + 1/2 + 1/4 + 1/8
    within: dict[str, object] = {"costs": COSTS}
    for radius, message in (
        (Fraction(1), r"removes a cost of 1\.125, 0\.125 more than the radius 1: allow more"),
        (Fraction(-1), "the radius is -1: it is at least 0"),
        (Fraction(3, 2) + Fraction(1, 10**1000), "a fraction of more than 1000 digits: round it"),
    ):
        refused(CertificateError, message, SCORES, masks, radius=radius, **within)
    for multiplier in (0.0, -1.0, math.inf, math.nan):
        message = f"the multiplier is {multiplier}: it is above 0"
        refused(CertificateError, message, SCORES, masks, multiplier=multiplier, **within)
    refused(CertificateError, "'b' has no costs", SCORES, masks, costs={"a": COSTS["a"]})


@pytest.mark.parametrize(
    ("importance", "cost", "error", "message"),
    [
        ([1.0, 2.0], [1.0, -0.5], CertificateError, "'w' has the cost -0.5: a cost is at least 0"),
        ([1.0, 2.0], [1.0, math.nan], CertificateError, "'w' has the cost nan"),
        ([1.0, 2.0], [math.inf, math.inf], CertificateError, "'w' has the cost inf"),
        ([1.0], [math.inf], CertificateError, "'w' has the cost inf: a cost is at least 0, and fi"),
        ([math.nan, 2.0], [1.0, 1.0], ImportanceError, r"importance\['w'\] at index \(0\) is nan"),
        ([math.inf], [1.0], ImportanceError, r"importance\['w'\] at index \(0\) is inf"),
        ([math.inf], None, ImportanceError, r"importance\['w'\] at index \(0\) is inf"),
        ([1.0, math.nan], None, ImportanceError, r"importance\['w'\] at index \(1\) is nan"),
        ([1.0, 2.0], [1.0], CertificateError, r"in shape \(2,\) and costs of torch.float32 in"),
        ([1, 2], [1.0, 1.0], ImportanceError, "is torch.int64: importance is a tensor of float16"),
        ([1, 2], None, ImportanceError, "is torch.int64: importance is a tensor of float16"),
    ],
)
@pytest.mark.parametrize("keep", [0, 1])
def test_numbers_that_cannot_be_ranked_have_no_certificate(
    importance: list[float],
    cost: list[float] | None,
    error: type[PinsError],
    message: str,
    keep: int,
) -> None:
    named = {"w": torch.tensor(importance)}
    costs = None if cost is None else {"w": torch.tensor(cost)}
    refused(error, message, named, mask_of(named, range(keep)), costs=costs)


def test_without_weights_there_is_nothing_to_certify() -> None:
    none = {"w": torch.zeros(0)}
    for costs in (None, none):
        refused(ImportanceError, "importance is empty", none, mask_of(none, ()), costs=costs)


# ---- Files ---------------------------------------------------------------------------------------


def test_masks_of_a_certificate_are_removed_unless_they_were_there(tmp_path: Path) -> None:
    file, masks = tmp_path / "c.best.safetensors", mask_of(SCORES, (0,))

    def fails(these: dict[str, Tensor]) -> None:
        with ExitStack() as written:
            write_masks(these, file, written)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fails(masks)
    assert not file.exists()
    masks_module.save(masks, file)
    before = file.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        fails(masks)
    with pytest.raises(CertificateError, match=r"c\.best\.safetensors exists: remove it, or write"):
        fails(mask_of(SCORES, (1,)))
    assert file.read_bytes() == before


@pytest.mark.parametrize("part", ["scores", "mask", "keep", "digest", "gap", "multiplier", "cost"])
def test_what_is_tampered_with_is_refuted(part: str) -> None:
    folder = scratch_folder() / "written"
    document = write(SCORES, select(SCORES, 3), costs=COSTS, multiplier=0.5, radius=Fraction(2))
    assert outcome() is Outcome.PROVED
    claim, evidence = document["claim"], document["evidence"]
    if part in ("scores", "cost"):
        save_scores(SCORES | {"b": SCORES["b"] * 2}, folder / f"{part}.safetensors")
    elif part == "mask":
        masks_module.save(mask_of(SCORES, (0, 1, 3)), folder / "mask.safetensors")
    elif part == "keep":
        claim["keep"] = 4
    elif part == "digest":
        evidence["mask"]["sha256"] = "0" * 64
    elif part == "gap":
        less = rational(claim["gap"]) - Fraction(1, 10**40)
        claim["gap"] = {"numerator": str(less.numerator), "denominator": str(less.denominator)}
    else:
        evidence["multiplier"] = math.nextafter(0.5, 1).hex()
    write_json(document, folder / "certificate.json")
    assert outcome() is Outcome.REFUTED
