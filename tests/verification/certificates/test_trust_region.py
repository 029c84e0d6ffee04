"""Certificates of decisions within a trust region: the checker proves each one that is made."""

import json
import math
from collections.abc import Mapping
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from pins import masks as masks_module
from pins.errors import CardinalityError, CertificateError, ImportanceError, MaskError
from pins.importance.trust_region.multiplier import within
from pins.importance.trust_region.program import Terms, TrustRegionProgram
from pins.selection.allocation import Allocation
from pins.selection.constraints import Cardinality, Constraint, MinimumPerTensor, PerTensor
from pins.selection.select import select
from tests.commands import Command
from tests.pins.selection.constrained import flat, ones
from verification import checker
from verification.certificates.selection import save_scores, summary
from verification.certificates.trust_region import certify_region_files, certify_trust_region
from verification.checker import Outcome
from verification.strategies import DTYPES, masks_for, score_mappings, scores

FIXTURE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
SCORES = {"a": torch.tensor([0.5, -1.0, 3.0, 0.5]), "b": torch.tensor([0.0, 0.75, -2.0, -1.0])}
COSTS = {"a": torch.tensor([0.75, 0.0, 0.5, 1.0]), "b": torch.tensor([0.25, 0.125, 3.0, 0.5])}
TERMS = {name: Terms(SCORES[name], COSTS[name]) for name in SCORES}


def write(
    folder: Path,
    terms: dict[str, Terms],
    masks: Mapping[str, Tensor],
    multiplier: float,
    radius: Fraction | None = None,
    constraint: Constraint | None = None,
) -> dict[str, Any]:
    save_scores({n: term.importance for n, term in terms.items()}, folder / "s.safetensors")
    save_scores({n: term.cost for n, term in terms.items()}, folder / "c.safetensors")
    masks_module.save(masks, folder / "m.safetensors")
    return certify_trust_region(
        terms,
        masks,
        multiplier,
        certificate=folder / "cert.json",
        scores_file=folder / "s.safetensors",
        cost_file=folder / "c.safetensors",
        mask_file=folder / "m.safetensors",
        radius=radius,
        constraint=constraint,
    )


def rational(parts: dict[str, str]) -> Fraction:
    return Fraction(int(parts["numerator"]), int(parts["denominator"]))


def shortfall(
    terms: dict[str, Terms],
    masks: dict[str, Tensor],
    radius: Fraction,
    constraint: Constraint | None = None,
) -> Fraction:
    """What the best mask allowed gains over these, by trying all."""
    s = flat({name: term.importance.double() for name, term in terms.items()})
    c = flat({name: term.cost.double() for name, term in terms.items()})
    owner = [name for name, term in terms.items() for _ in range(term.cost.numel())]
    least = {} if constraint is None else constraint.minimums
    own = ones({name: masks[name] for name in terms})
    best = []
    for kept in combinations(range(len(s)), len(own)):
        counts = {name: [owner[i] for i in kept].count(name) for name in terms}
        enough = all(counts[name] >= number for name, number in least.items())
        if enough and sum(c) - sum(c[i] for i in kept) <= radius:
            best.append(sum((s[i] for i in kept), Fraction(0)))
    return max(best) - sum((s[i] for i in own), Fraction(0))


@st.composite
def all_terms(draw: st.DrawFn, *, largest: float = math.inf) -> dict[str, Terms]:
    """Up to nine weights of any dtype, subnormal and huge ones included."""
    importance = draw(score_mappings(max_tensors=3, max_size=3, zero_size=True))
    terms = {}
    for name, s in importance.items():
        c = draw(scores(min_size=s.numel(), max_size=s.numel(), dtypes=[s.dtype]))
        terms[name] = Terms(s, c.abs().reshape(s.shape))
        assume(max([0.0, *(float(part.double().abs().sum()) for part in terms[name])]) <= largest)
    return terms


MULTIPLIERS = st.sampled_from([1.0, 0.5, 2.0**-20, 3.0, 0.1]) | st.floats(1e-6, 1e6)


# ---- What is made is proved ----------------------------------------------------------------------


@given(terms=all_terms(largest=1e300), multiplier=MULTIPLIERS, data=st.data())
@FIXTURE
def test_every_mask_has_a_certificate_that_the_checker_proves(
    terms: dict[str, Terms], multiplier: float, data: st.DataObject, tmp_path: Path
) -> None:
    """Of any mask, within any radius: and no mask within the radius is better by more."""
    masks = data.draw(masks_for({name: term.cost for name, term in terms.items()}))
    document = write(tmp_path, terms, masks, multiplier)
    own = rational(document["claim"]["radius"])
    radius = own + data.draw(st.sampled_from([Fraction(0), Fraction(1, 3), Fraction(10)]))
    if radius > own:
        document = write(tmp_path, terms, masks, multiplier, radius)
    verdict = checker.check(tmp_path / "cert.json")
    assert verdict.outcome is Outcome.PROVED, verdict.message
    assert shortfall(terms, masks, radius) <= rational(document["claim"]["gap"])


@given(terms=all_terms(largest=1e300), multiplier=MULTIPLIERS, data=st.data())
@FIXTURE
def test_an_optimum_of_exact_scores_has_no_gap_at_its_own_radius(
    terms: dict[str, Terms], multiplier: float, data: st.DataObject, tmp_path: Path
) -> None:
    r = [
        Fraction(c) + Fraction(multiplier) * Fraction(s)
        for term in terms.values()
        for s, c in zip(*(part.double().reshape(-1).tolist() for part in term), strict=True)
    ]
    assume(all(Fraction(float(value)) == value for value in r))  # then λ is one of them
    keep = data.draw(st.integers(0, len(r)))
    best = set(sorted(range(len(r)), key=lambda i: -r[i])[:keep])
    bits = torch.tensor([i in best for i in range(len(r))], dtype=torch.bool)
    parts = torch.split(bits, [term.cost.numel() for term in terms.values()])
    masks = {
        name: part.reshape(term.cost.shape)
        for (name, term), part in zip(terms.items(), parts, strict=True)
    }
    document = write(tmp_path, terms, masks, multiplier)
    assert document["claim"]["gap"] == {"numerator": "0", "denominator": "1"}
    assert "is optimal at a cost of at most about" in summary(document)
    assert checker.check(tmp_path / "cert.json").outcome is Outcome.PROVED


@given(terms=all_terms(largest=1e300), multiplier=MULTIPLIERS, data=st.data())
@FIXTURE
def test_minimums_and_numbers_of_each_tensor_are_certified(
    terms: dict[str, Terms], multiplier: float, data: st.DataObject, tmp_path: Path
) -> None:
    """Of any mask they allow, though other minimums may bind at the optimum."""
    masks = data.draw(masks_for({name: term.cost for name, term in terms.items()}))
    counts = {name: int(mask.sum()) for name, mask in masks.items()}
    constraint: Constraint = PerTensor(counts)
    if data.draw(st.booleans()):
        least = {name: data.draw(st.integers(0, kept)) for name, kept in counts.items()}
        constraint = MinimumPerTensor(sum(counts.values()), least)
    document = write(tmp_path, terms, masks, multiplier, constraint=constraint)
    verdict = checker.check(tmp_path / "cert.json")
    assert verdict.outcome is Outcome.PROVED, verdict.message
    claim = document["claim"]
    gap = rational(claim["gap"])
    assert shortfall(terms, masks, rational(claim["radius"]), constraint) <= gap


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_rounding_misplaces_is_the_gap(tmp_path: Path, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    terms = {}
    for name in ("w.10", "w.2"):
        weights, gradient, curvature = (torch.randn(40, 99, generator=generator) for _ in "wgh")
        s, c = -gradient * weights, curvature.exp() * weights**2 / 2
        terms[name] = Terms(s.to(dtype), c.to(dtype))
    masks = select({name: each.scores(0.3).to(dtype) for name, each in terms.items()}, 3000)
    document = write(tmp_path, terms, masks, 0.3)
    gap = rational(document["claim"]["gap"])
    assert gap < 10 * torch.finfo(dtype).eps
    assert (gap > 0) == (dtype is torch.bfloat16)
    assert checker.check(tmp_path / "cert.json").outcome is Outcome.PROVED
    assert [tensor["name"] for tensor in document["claim"]["scope"]] == ["w.10", "w.2"]


def test_a_certificate_says_how_near_to_what_its_mask_is(tmp_path: Path) -> None:
    masks = TrustRegionProgram(TERMS, Cardinality(3)).solve(0.5).masks
    document = write(tmp_path, TERMS, masks, 0.5)
    assert (
        summary(document) == "keeps 3 of 8 weights and is optimal at a cost of at most about 1.625"
    )
    document = write(tmp_path, TERMS, masks, 0.5, Fraction(2))
    assert summary(document) == (
        "keeps 3 of 8 weights and is within about 0.75 of the optimum at a cost of at most about 2"
    )
    assert document["claim"]["constraint"] == {"kind": "minimum-per-tensor", "minimum": [0, 0]}
    least = MinimumPerTensor(3, {"b": 2})
    masks = TrustRegionProgram(TERMS, least).solve(0.5).masks
    document = write(tmp_path, TERMS, masks, 0.5, constraint=least)
    assert summary(document) == (
        "keeps 3 of 8 weights and is optimal at a cost of at most about 2.5 among masks with the "
        "minimum of each tensor, which binds in 1 of 2 tensors"
    )
    each = PerTensor({"a": 1, "b": 2})
    document = write(tmp_path, TERMS, masks, 0.5, constraint=each)
    assert summary(document).endswith(
        "is optimal at a cost of at most about 2.5 among masks that keep as many of each tensor"
    )


# ---- What is not made ----------------------------------------------------------------------------


@pytest.mark.parametrize("multiplier", [0.0, -1.0, math.inf, math.nan])
def test_a_multiplier_is_above_0(tmp_path: Path, multiplier: float) -> None:
    with pytest.raises(CertificateError, match=f"the multiplier is {multiplier}: it is above 0"):
        write(tmp_path, TERMS, select(SCORES, 3), multiplier)
    assert not (tmp_path / "cert.json").exists()


def test_a_mask_is_certified_within_its_radius_and_constraint_only(tmp_path: Path) -> None:
    masks = TrustRegionProgram(TERMS, Cardinality(3)).solve(0.5).masks
    with pytest.raises(
        CertificateError, match=r"removes a cost of 1\.625, 0\.125 more than the radius 1\.5: allow"
    ):
        write(tmp_path, TERMS, masks, 0.5, Fraction(3, 2))
    with pytest.raises(CertificateError, match="the radius is -1: it is at least 0"):
        write(tmp_path, TERMS, masks, 0.5, Fraction(-1))
    with pytest.raises(CertificateError, match="a fraction of more than 1000 digits: round it"):
        write(tmp_path, TERMS, masks, 0.5, Fraction(3, 2) + Fraction(1, 10**1000))
    with pytest.raises(CertificateError, match="keeps 3 of 8 weights, its constraint asks for 4"):
        write(tmp_path, TERMS, masks, 0.5, constraint=Cardinality(4))
    with pytest.raises(CertificateError, match="'b' keeps 1 weights, its constraint asks for 2"):
        write(tmp_path, TERMS, masks, 0.5, constraint=MinimumPerTensor(3, {"b": 2}))
    with pytest.raises(CardinalityError, match="there is no tensor 'c'"):
        write(tmp_path, TERMS, masks, 0.5, constraint=MinimumPerTensor(3, {"c": 1}))
    with pytest.raises(MaskError, match="'b' has no mask"):
        write(tmp_path, TERMS, {"a": masks["a"]}, 0.5)
    assert not (tmp_path / "cert.json").exists()


@pytest.mark.parametrize(
    ("importance", "cost", "error", "message"),
    [
        ([1.0, 2.0], [1.0, -0.5], CertificateError, "'w' has the cost -0.5: a cost is at least 0"),
        ([1.0, 2.0], [1.0, math.nan], CertificateError, "'w' has the cost nan"),
        ([1.0, 2.0], [1.0, math.inf], ImportanceError, r"importance\['w'\] at index \(1\) is inf"),
        ([math.nan, 2.0], [1.0, 1.0], ImportanceError, r"importance\['w'\] at index \(0\) is nan"),
        ([1.0, 2.0], [1.0], CertificateError, r"in shape \(2,\) and costs of torch.float32 in"),
        ([1, 2], [1.0, 1.0], CertificateError, "'w' has scores of torch.int64: give float16"),
        ([], [], ImportanceError, "importance is empty"),
    ],
)
def test_terms_that_cannot_be_ranked_give_no_certificate(
    tmp_path: Path,
    importance: list[float],
    cost: list[float],
    error: type[Exception],
    message: str,
) -> None:
    terms = {"w": Terms(torch.tensor(importance), torch.tensor(cost))}
    masks = {"w": torch.zeros(len(importance), dtype=torch.bool)}
    with pytest.raises(error, match=message):
        write(tmp_path, terms, masks, 1.0)
    assert not (tmp_path / "cert.json").exists()


# ---- Files, and the command ----------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Scores, costs, and where to write."""
    save_scores(SCORES, tmp_path / "s.safetensors")
    save_scores(COSTS, tmp_path / "c.safetensors")
    return tmp_path / "s.safetensors", tmp_path / "c.safetensors", tmp_path / "cert.json"


def test_certify_makes_the_optimum_of_a_multiplier(
    pins: Command, files: tuple[Path, Path, Path]
) -> None:
    scores, cost, out = files
    command = ("certify", scores, "--keep", "3", "--cost", cost, "--multiplier", "0.5")
    code, said, err = pins(*command, "--out", out)
    assert (code, err) == (0, "")
    assert (
        said
        == f"{out}: the mask keeps 3 of 8 weights and is optimal at a cost of at most about 1.625\n"
    )
    assert ones(masks_module.load(out.with_name("cert.mask.safetensors"))) == (2, 3, 6)
    code, said, err = pins("check", out)
    assert (code, err) == (0, "")
    assert "no mask with as many that removes no more has a larger score sum (μ = 0.5" in said
    code, _, err = pins(*command, "--out", out)
    assert code == 2
    assert "cert.json exists: remove it" in err


def test_certify_finds_the_multiplier_of_a_radius(
    pins: Command, files: tuple[Path, Path, Path]
) -> None:
    scores, cost, out = files
    code, said, _ = pins(
        "certify", scores, "--keep", "3", "--cost", cost, "--radius", "1.7", "--out", out
    )
    assert code == 0
    assert "of the optimum at a cost of at most about 1.7\n" in said
    claim = json.loads(out.read_text())["claim"]
    assert claim["radius"] == {"numerator": "17", "denominator": "10"}
    found = within(TrustRegionProgram(TERMS, Cardinality(3)), 1.7)
    masks = masks_module.load(out.with_name("cert.mask.safetensors"))
    assert ones(masks) == ones(found.masks)
    assert pins("check", out)[0] == 0


def test_certify_takes_a_mask_a_scope_and_a_minimum(
    pins: Command, files: tuple[Path, Path, Path]
) -> None:
    scores, cost, out = files
    mask = out.with_name("m.safetensors")
    masks_module.save(select(SCORES, 3), mask)
    command = ("certify", scores, "--keep", "3", "--cost", cost, "--multiplier", "0.5")
    options: tuple[tuple[str | Path, ...], ...] = (
        ("--mask", mask),
        ("--mask", mask, "--radius", "9.5", "--criterion", "made up"),
        ("--mask", mask, "--scope", "tensor"),
        ("--scope", "tensor"),
        ("--minimum-kept", "0.25"),
    )
    claims = []
    for i, option in enumerate(options):
        code, _, err = pins(*command, *option, "--out", out.with_name(f"{i}.json"))
        assert (code, err) == (0, "")
        assert pins("check", out.with_name(f"{i}.json"))[0] == 0
        claims.append(json.loads(out.with_name(f"{i}.json").read_text())["claim"])
    assert rational(claims[0]["radius"]) == Fraction(19, 4)
    assert rational(claims[1]["gap"]) - rational(claims[0]["gap"]) == 2 * (9.5 - 4.75)
    assert claims[1]["criterion"] == "made up"
    assert claims[2]["constraint"] == {"kind": "per-tensor", "keep": [2, 1]}
    assert claims[3]["constraint"] == {"kind": "per-tensor", "keep": [2, 2]}  # 3/2 and 3/2, up
    assert claims[4]["constraint"] == {"kind": "minimum-per-tensor", "minimum": [1, 1]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--radius", "1"], "--radius and --multiplier are of a trust region: give its --cost"),
        (["--multiplier", "1"], "are of a trust region: give its --cost"),
        (["--cost", "c"], "a certificate without a radius needs the multiplier: give the μ"),
        (
            ["--cost", "c", "--mask", "m", "--radius", "9"],
            "a certificate of a mask that is given needs the multiplier",
        ),
        (["--cost", "c", "--multiplier", "0"], "the multiplier is 0.0: it is above 0, and finite"),
        (["--cost", "c", "--radius", "nan"], "the radius is nan: it is at least 0, and finite"),
        (["--cost", "c", "--radius", "-1"], "the radius is -1.0: it is at least 0, and finite"),
        (["--cost", "c", "--radius", "inf"], "the radius is inf: it is at least 0, and finite"),
        (["--cost", "c", "--radius", "0.5"], "the radius is 0.5: the cheapest 5 weights to prune"),
        (
            ["--cost", "zero", "--radius", "0"],
            "the radius 0.0 leaves the choice to the costs alone, multiplier 0: give another",
        ),
        (
            ["--cost", "c", "--multiplier", "9", "--radius", "1.5"],
            "more than the radius 1.5: allow more, or certify another mask",
        ),
        (["--cost", "x", "--multiplier", "1"], "x.safetensors is not a file"),
        (["--cost", "one", "--multiplier", "1"], "one.safetensors has no tensor 'b'"),
        (["--cost", "odd", "--multiplier", "1"], "'a' has scores of torch.float32 in shape (4,)"),
        (["--cost", "bad", "--radius", "1"], "'b' has the cost -2.0: a cost is at least 0"),
        (["--cost", "c", "--multiplier", "1", "--mask", "two"], "two.safetensors keeps 2 of 8"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_leaves_nothing_behind(
    pins: Command, files: tuple[Path, Path, Path], options: list[str], message: str
) -> None:
    scores, _, out = files
    for name, tensors in {
        "one": {"a": COSTS["a"]},
        "odd": COSTS | {"a": COSTS["a"].double()},
        "bad": SCORES | {"a": SCORES["a"].abs()},
        "zero": {name: torch.zeros(4) for name in COSTS},
    }.items():
        save_scores(tensors, out.with_name(f"{name}.safetensors"))
    masks_module.save(select(SCORES, 3), out.with_name("m.safetensors"))
    masks_module.save(select(SCORES, 2), out.with_name("two.safetensors"))
    before = sorted(out.parent.iterdir())
    arguments = [
        out.with_name(f"{word}.safetensors") if option in ("--cost", "--mask") else word
        for option, word in zip(["", *options], options, strict=False)
    ]
    code, said, err = pins("certify", scores, "--keep", "3", "--out", out, *arguments)
    assert (code, said) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert sorted(out.parent.iterdir()) == before


def test_files_without_tensors_have_nothing_to_certify(pins: Command, tmp_path: Path) -> None:
    none = tmp_path / "none.safetensors"
    save_scores({}, none)
    for option in ("--radius", "--multiplier"):
        code, _, err = pins(
            "certify", none, "--cost", none, "--keep", "0", option, "1", "--out", tmp_path / "out"
        )
        assert (code, err) == (2, "pins: importance is empty: there is no weight to rank\n")


def test_files_are_certified_under_a_constraint(files: tuple[Path, Path, Path]) -> None:
    scores, cost, out = files
    least = MinimumPerTensor(3, {"b": 2})
    document = certify_region_files(scores, cost, out, keep=least, multiplier=0.5)
    assert document["claim"]["constraint"] == {"kind": "minimum-per-tensor", "minimum": [0, 2]}
    assert checker.check(out).outcome is Outcome.PROVED
    with pytest.raises(CertificateError, match="keeps 3 of 8, --keep says 4"):
        certify_region_files(
            scores,
            cost,
            out.with_name("d.json"),
            keep=Cardinality(4),
            multiplier=0.5,
            mask=out.with_name("cert.mask.safetensors"),
            scope=Allocation(),
        )


@pytest.mark.parametrize("part", ["multiplier", "radius", "gap", "cost", "files", "mask"])
def test_what_is_tampered_with_is_refuted(tmp_path: Path, part: str) -> None:
    """The gap by the least that a rational of its denominator allows."""
    masks = TrustRegionProgram(TERMS, Cardinality(3)).solve(0.5).masks
    document = write(tmp_path, TERMS, masks, 0.5, Fraction(2))
    assert checker.check(tmp_path / "cert.json").outcome is Outcome.PROVED
    claim, evidence = document["claim"], document["evidence"]
    if part == "multiplier":
        evidence["multiplier"] = math.nextafter(0.5, 1).hex()
    elif part == "radius":
        claim["radius"] = {"numerator": "13", "denominator": "9"}
    elif part == "gap":
        numerator, denominator = (int(claim["gap"][key]) for key in ("numerator", "denominator"))
        less = Fraction(numerator * 10**40 - 1, denominator * 10**40)
        claim["gap"] = {"numerator": str(less.numerator), "denominator": str(less.denominator)}
    elif part == "cost":
        save_scores(COSTS | {"b": -COSTS["b"]}, tmp_path / "c.safetensors")
    elif part == "files":
        evidence["scores"], evidence["cost"] = evidence["cost"], evidence["scores"]
    else:
        masks_module.save(select(SCORES, 3), tmp_path / "m.safetensors")
    (tmp_path / "cert.json").write_text(json.dumps(document))
    assert checker.check(tmp_path / "cert.json").outcome is Outcome.REFUTED
