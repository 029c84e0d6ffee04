"""Certificates of blocks and of squares state the truth, found by trying all masks."""

import itertools
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from pins.errors import CardinalityError, CertificateError, MaskError
from pins.selection.blocks import Blocks
from pins.selection.constraints import AtMostNofM, Cardinality, Frozen, LayerBounds, NofM
from pins.selection.select import decide, select
from pins.selection.transposable.constraint import TransposableNofM, TransposableProof
from pins.selection.tree import Node, TensorNode, View
from pins.utils.io import load_tensors, save_tensors, sha256, write_json
from tests.verification.certificate_cases import scratch_folder
from tests.verification.certificates.written import (
    names,
    outcome,
    proved,
    rational,
    replace_mask,
    write,
)
from verification.certificates.from_files import certify_files
from verification.certificates.selection import save_scores, summary
from verification.checker import Outcome
from verification.laminar import Program

FEW = [0.0, -0.0, 1.0, -1.0, 2.0**-60, 1.0 + 2.0**-52, 0.1, 5e-324, 1e300, 2.0**1023]
FLAT: dict[str, tuple[int, ...]] = {"v": (1, 4), "w": (4, 2)}
CASES: dict[str, tuple[dict[str, tuple[int, ...]], Blocks]] = {
    "two tensors": (FLAT, Blocks((1, 2), Cardinality(3))),
    "bounds": (FLAT, Blocks((1, 2), Cardinality(3) & LayerBounds({"v": 1}, {"w": 2}))),
    "runs": ({"w": (2, 16)}, Blocks((1, 4), NofM(1, 2))),
    "at most": ({"w": (4, 4)}, Blocks((2, 1), AtMostNofM(1, 2) & Cardinality(3))),
    "experts and a vector": ({"e": (2, 2, 4), "v": (4,)}, Blocks((1, 4), Cardinality(2))),
}
PATTERNS = ((1, 2), (2, 3), (2, 4))


def drawn(data: st.DataObject, shape: tuple[int, ...]) -> Tensor:
    """Few different scores, hard to add up."""
    size = torch.Size(shape).numel()
    few = data.draw(st.lists(st.sampled_from(FEW), min_size=1, max_size=3))
    values = data.draw(st.lists(st.sampled_from(few), min_size=size, max_size=size))
    dtype = data.draw(st.sampled_from([torch.float64, torch.float32, torch.bfloat16]))
    assume(max(map(abs, few)) < 2.0**100 or dtype == torch.float64)
    return torch.tensor(values, dtype=dtype).reshape(shape)


def masks_of(program: Program, like: dict[str, Tensor], kept: set[int]) -> dict[str, Tensor]:
    parts = torch.split(program.mask(kept), [s.numel() for s in like.values()])
    return {n: part.view(like[n].shape) for n, part in zip(like, parts, strict=True)}


# ---- Blocks --------------------------------------------------------------------------------------


def blocks_case(
    data: st.DataObject, name: str, transposed: bool
) -> tuple[dict[str, Tensor], Node, Program, dict[tuple[int, ...], Fraction]]:
    """Scores, the tree, and the sum of every allowed mask by what it keeps."""
    shapes, constraint = CASES[name]
    scores, views = {}, {}
    for tensor, shape in shapes.items():
        swap = transposed and len(shape) > 1
        stored = (*shape[:-2], shape[-1], shape[-2]) if swap else shape
        scores[tensor], views[tensor] = drawn(data, stored), View.of(stored, transposed=swap)
    tree = constraint.tree(views)
    program = Program.of(tree, scores)
    values = {
        bits: total(program, bits)
        for bits in itertools.product((1, 0), repeat=len(program.scores))
        if program.allows(program.mask(kept(bits)))
    }
    return scores, tree, program, values


def total(program: Program, bits: tuple[int, ...]) -> Fraction:
    return sum((Fraction(s) for s in itertools.compress(program.scores, bits)), Fraction(0))


def kept(bits: tuple[int, ...]) -> set[int]:
    return {i for i, bit in enumerate(bits) if bit}


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=8)
@given(data=st.data(), transposed=st.booleans())
def test_a_certificate_of_blocks_states_the_truth_of_its_mask_and_of_no_other(
    name: str, data: st.DataObject, transposed: bool
) -> None:
    scores, tree, program, values = blocks_case(data, name, transposed)
    best = max(values.values())
    optima = [bits for bits, value in values.items() if value == best]
    bits = data.draw(st.sampled_from(optima) | st.sampled_from([*values]))

    def judged(bits: tuple[int, ...]) -> tuple[Fraction, bool, bool]:
        gap = best - values[bits]
        return gap, not gap and len(optima) == 1, bits == max(optima)

    document = write(scores, masks_of(program, scores, kept(bits)), tree)
    claim, (gap, alone, first) = document["claim"], judged(bits)
    assert proved()
    assert (claim["total"], claim["keep"]) == (len(bits), sum(bits))
    assert sum(document["evidence"]["counts"]) == sum(bits)
    assert rational(claim["gap"]) == gap
    assert claim["unique"] == (None if gap else alone)
    assert claim["tie_rule"] == ("lower-index" if first else "none")
    # the negative control: another mask under it
    other = tuple(data.draw(st.permutations(bits)))
    replace_mask(document, masks_of(program, scores, kept(other)))
    fact = judged(other) if other in values else (None, None, False)
    assert proved() == (fact[:2] == (gap, alone) and fact[2] >= first)


@settings(max_examples=20)
@given(data=st.data(), transposed=st.booleans(), multiplier=st.sampled_from([0.5, 1.0, 0.1, 3e7]))
def test_within_a_radius_blocks_are_ranked_by_exact_sums(
    data: st.DataObject, transposed: bool, multiplier: float
) -> None:
    scores, tree, program, values = blocks_case(data, "bounds", transposed)
    costs = {
        n: torch.tensor(data.draw(st.permutations(s.abs().flatten().tolist())), dtype=s.dtype).view(
            s.shape
        )
        for n, s in scores.items()
    }
    prices = Program.of(tree, costs)
    bits = data.draw(st.sampled_from([*values]))
    document = write(
        scores,
        masks_of(program, scores, kept(bits)),
        tree,
        costs=costs,
        multiplier=multiplier,
    )
    saved = {each: total(prices, each) for each in values}
    ranks = {each: saved[each] + Fraction(multiplier) * value for each, value in values.items()}
    gap = (max(ranks.values()) - ranks[bits]) / Fraction(multiplier)
    assert proved()
    assert rational(document["claim"]["gap"]) == gap
    within = [value for each, value in values.items() if saved[each] >= saved[bits]]
    assert max(within) - values[bits] <= gap


def test_the_sentence_counts_blocks() -> None:
    scores = {"w": torch.arange(16.0).view(2, 8)}
    document = write(scores, select(scores, tree := Blocks((1, 2), NofM(1, 2))), tree)
    assert summary(document) == (
        "keeps 4 of 8 blocks of 1 × 2 and is the only optimum among masks with 1 of each of the "
        "runs of 2 (4)"
    )


def test_what_the_format_does_not_say_of_blocks_is_refused_in_one_line() -> None:
    scores = {n: torch.arange(4.0).view(2, 2) for n in ("a", "b")}
    shapes = {"a": (1, 2), "b": (2, 1)}
    leaves = [TensorNode(n, View(1, 2 // r, 2 // c, block=(r, c))) for n, (r, c) in shapes.items()]
    halves = {n: torch.ones(2, 2, dtype=torch.bool) for n in scores}
    with pytest.raises(CertificateError, match="tensors have blocks of different shapes"):
        write(scores, halves, Node("the model", tuple(leaves), 4, 4))
    blocks = [torch.zeros(2, dtype=torch.bool), torch.zeros(2, 2, dtype=torch.bool)]
    for zeros in blocks:
        with pytest.raises(CardinalityError, match=r"the tensors \['a'\] or their sizes"):
            write(scores, halves, Blocks((1, 2), Cardinality(4) & Frozen({"a": zeros})))
    halves["a"] = torch.eye(2).bool()
    with pytest.raises(MaskError, match="'a' keeps a part of block 0"):
        write(scores, halves, Blocks((1, 2), Cardinality(3)))
    assert names(scratch_folder() / "written") == ["mask.safetensors", "scores.safetensors"]


# ---- Squares -------------------------------------------------------------------------------------


def square_masks(n: int, m: int) -> list[Tensor]:
    """All masks of one square."""
    rows = [[j in each for j in range(m)] for each in itertools.combinations(range(m), n)]
    every = (torch.tensor(each) for each in itertools.product(rows, repeat=m))
    return [mask for mask in every if (mask.sum(0) == n).all()]


def worth(scores: Tensor, mask: Tensor) -> Fraction:
    return sum(map(Fraction, scores[mask].tolist()), Fraction(0))


@pytest.mark.parametrize(("n", "m"), PATTERNS)
@settings(max_examples=8)
@given(data=st.data())
def test_a_certificate_of_squares_states_the_regret_of_its_mask_and_of_no_other(
    n: int, m: int, data: st.DataObject
) -> None:
    """Up to the rounding of scores in `transposable`; where there is none, exactly."""
    scores, every = drawn(data, (m, 2 * m)), square_masks(n, m)
    assume(scores.abs().max() <= 1e300)
    best = sum(
        (max(worth(own, mask) for mask in every) for own in torch.split(scores, m, 1)), Fraction(0)
    )
    pattern = TransposableNofM(n, m)
    optimum = decide({"w": scores}, pattern)
    assert isinstance(optimum.proof, TransposableProof)
    other = torch.cat([data.draw(st.sampled_from(every)) for _ in range(2)], 1)
    mask = data.draw(st.sampled_from([optimum.masks["w"], other]))
    document = write({"w": scores}, {"w": mask}, pattern)
    claim, evidence = document["claim"], document["evidence"]
    gap, surplus = rational(claim["gap"]), optimum.proof.bound - best
    assert proved()
    assert (claim["tie_rule"], claim["unique"], evidence["best"]) == ("none", None, None)
    assert 0 <= gap - (best - worth(scores, mask)) <= surplus
    # the negative control: another mask under it
    replace_mask(document, {"w": other})
    if not surplus:
        assert proved() == (worth(scores, other) == worth(scores, mask))


RIGHT = {
    "w": torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(0)),
    "whole": torch.ones(3),
}
TWO_OF_FOUR = TransposableNofM(2, 4, skip_indivisible=True)


def optimum_of(scores: dict[str, Tensor], pattern: TransposableNofM) -> dict[str, Tensor]:
    return dict(decide(scores, pattern).masks)


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: torch.cat([lines[:, 4:8], lines[:, :4], lines[:, 8:]], 1),
        lambda lines: lines.flip(0),
        lambda lines: lines + torch.tensor([0] * 8 + [1]),
        lambda lines: lines + torch.tensor([1 << 40] + [0] * 8),
    ],
    ids=["rows for columns", "of other squares", "another unit", "a larger potential"],
)
def test_other_potentials_do_not_prove_the_gap(change: Callable[[Tensor], Tensor]) -> None:
    document = write(RIGHT, optimum_of(RIGHT, TWO_OF_FOUR), TWO_OF_FOUR)
    assert rational(document["claim"]["gap"]) == 0
    assert proved()
    file = scratch_folder() / "written" / "certificate.potentials.safetensors"
    found, _ = load_tensors(file)
    assert [*found] == ["w"]  # what is kept whole has none
    save_tensors({"w": change(found["w"])}, file, {})
    document["evidence"]["potentials"]["sha256"] = sha256(file)
    write_json(document, file.with_name("certificate.json"))
    assert outcome() is Outcome.REFUTED


def test_the_sentence_says_the_squares_and_how_near_the_mask_is() -> None:
    masks = optimum_of(RIGHT, TWO_OF_FOUR)
    among = "among masks with 2 of each row and column of 4 × 4 squares (4), bounds on tensors (1)"
    assert summary(write(RIGHT, masks, TWO_OF_FOUR)) == (
        f"keeps 35 of 67 weights and is optimal {among}"
    )
    masks["w"] = masks["w"].flip(0)
    said = summary(write(RIGHT, masks, TWO_OF_FOUR))
    assert re.fullmatch(rf".* is within about [1-9][\d.]+ of the optimum {re.escape(among)}", said)


def test_where_all_are_kept_there_are_no_potentials() -> None:
    for pattern in (TransposableNofM(4, 4, skip_indivisible=True), TransposableNofM(2, 5, True)):
        document = write(RIGHT, optimum_of(RIGHT, pattern), pattern)
        assert document["evidence"]["potentials"] is None
        assert document["claim"]["unique"] is True
        assert proved()


@pytest.mark.parametrize(("n", "m"), [(2, 4), (4, 8)])
def test_scores_at_the_ends_of_float64_are_proved_or_refused(n: int, m: int) -> None:
    generator = torch.Generator().manual_seed(1)
    tiny = (9 * torch.randn(m, m, generator=generator, dtype=torch.float64)).round() * 5e-324
    pattern = TransposableNofM(n, m)
    for scores in (tiny, 0 * tiny):
        document = write({"w": scores}, optimum_of({"w": scores}, pattern), pattern)
        assert rational(document["claim"]["gap"]) == 0
        assert proved()
    huge = {"w": tiny.sign() * 1.7e308}
    message = r"'w' has scores of 1.7e\+308, and their thresholds would overflow"
    with pytest.raises(CertificateError, match=message):
        write(huge, optimum_of(huge, pattern), pattern)


def test_what_squares_do_not_allow_is_refused_and_leaves_nothing() -> None:
    masks = optimum_of(RIGHT, TWO_OF_FOUR)
    shifted = {**masks, "w": masks["w"].clone()}
    shifted["w"][0, :2] = torch.tensor([[True, True, False, False]])
    for wrong, message in (
        (shifted, r"'w' has 4 × 4 squares whose rows or columns keep not exactly 2; certify it"),
        ({**masks, "w": ~masks["w"] | masks["w"]}, "2:4 group 0 of 'w' keeps 4 weights"),
        ({**masks, "whole": torch.tensor([True, True, False])}, "whole keeps 2 weights"),
    ):
        with pytest.raises(CertificateError, match=f"the mask is not allowed: {message}"):
            write(RIGHT, wrong, TWO_OF_FOUR)
    costs = {name: s.abs() for name, s in RIGHT.items()}
    with pytest.raises(CertificateError, match="transposable 2:4 is no tree of bounds, as a trust"):
        write(RIGHT, masks, TWO_OF_FOUR, costs=costs)
    left = ["cost.safetensors", "mask.safetensors", "scores.safetensors"]
    assert names(scratch_folder() / "written") == left


def test_potentials_are_written_as_the_other_files_of_a_certificate(tmp_path: Path) -> None:
    scores, out = tmp_path / "s.safetensors", tmp_path / "c.json"
    file = tmp_path / "c.potentials.safetensors"
    save_scores(RIGHT, scores)
    file.write_text("precious")
    before = names(tmp_path)
    asked: Any = {"keep": TWO_OF_FOUR}
    with pytest.raises(CertificateError, match=r"c\.potentials\.safetensors exists: remove it, or"):
        certify_files(scores, out, **asked)
    assert names(tmp_path) == before
    assert file.read_text() == "precious"
    file.unlink()
    certify_files(scores, out, **asked)
    written = file.read_bytes()
    for each in (out, out.with_name("c.mask.safetensors")):
        each.unlink()
    certify_files(scores, out, **asked)  # those of a process that was killed may stay
    assert file.read_bytes() == written
    assert proved(out)
