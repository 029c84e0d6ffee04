"""Certificates of files: which masks compete, and that nothing is lost or left behind."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from pins import masks as masks_module
from pins.errors import CardinalityError, CertificateError, FileError, ImportanceError, MaskError
from pins.importance.trust_region.multiplier import within
from pins.importance.trust_region.program import Terms, TrustRegionProgram
from pins.pruning.final_decision import FinalDecision
from pins.selection.allocation import Allocation
from pins.selection.constraints import (
    Bounds,
    Cardinality,
    Frozen,
    LayerBounds,
    NofM,
    PerTensor,
    Rows,
)
from pins.selection.select import select, tree_of
from tests.commands import Command
from tests.pins.selection.constrained import ones
from tests.verification.certificates.written import mask_of, names, proved, rational, read
from verification.certificates.from_files import certify_files
from verification.certificates.run import certify_run
from verification.certificates.selection import save_scores

SCORES = {"a": torch.tensor([[0.5, -1.0, 3.0, 0.5]]), "b": torch.tensor([0.0, 0.75, -2.0, -1.0])}
COSTS = {"a": torch.tensor([[0.75, 0.0, 0.5, 1.0]]), "b": torch.tensor([0.25, 0.125, 3.0, 0.5])}
TERMS = {name: Terms(SCORES[name], COSTS[name]) for name in SCORES}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Scores, costs, and where to write."""
    save_scores(SCORES, tmp_path / "s.safetensors")
    save_scores(COSTS, tmp_path / "c.safetensors")
    return tmp_path / "s.safetensors", tmp_path / "c.safetensors", tmp_path / "cert.json"


ROW = torch.tensor([[False, False, False, True]])


@pytest.mark.parametrize("costed", [False, True])
@pytest.mark.parametrize(
    "constraint",
    [
        Cardinality(3) & LayerBounds(minimum={"b": 2}),
        PerTensor({"a": 1, "b": 2}),
        NofM(2, 4),
        Rows(0.75) & Cardinality(2),
        Cardinality(3) & Frozen({"b": ROW[0]}, {"a": ROW}),
    ],
    ids=lambda constraint: type(constraint).__name__,
)
def test_files_are_certified_under_a_constraint(
    files: tuple[Path, Path, Path], constraint: Bounds, costed: bool
) -> None:
    """Without a mask the optimum; another mask has another certificate beside it."""
    scores, cost, out = files
    region: Any = {"cost": cost, "multiplier": 0.5} if costed else {}
    made = certify_files(scores, out, keep=constraint, **region)
    own = masks_module.load(out.with_name("cert.mask.safetensors"))
    ranks = {name: term.scores(0.5 if costed else 1e9) for name, term in TERMS.items()}
    assert ones(own) == ones(select(ranks if costed else SCORES, constraint))
    assert rational(made["claim"]["gap"]) == 0
    assert proved(out)
    worst = select({name: -s for name, s in SCORES.items()}, constraint)
    masks_module.save(worst, out.with_name("m.safetensors"))
    mask, other = out.with_name("m.safetensors"), out.with_name("other.json")
    again = certify_files(scores, other, keep=constraint, mask=mask, **region)
    assert rational(again["claim"]["gap"]) > 0
    assert again["claim"]["tree"] == made["claim"]["tree"]
    assert proved(other)


def test_an_allocation_and_a_number_are_a_constraint(files: tuple[Path, Path, Path]) -> None:
    """By tensor, a mask that is given competes with those that have its numbers."""
    scores, _, out = files
    masks_module.save(mask_of(SCORES, (0, 4, 5)), mask := out.with_name("m.safetensors"))
    bounds = []
    for i, (allocation, given) in enumerate(
        [
            (Allocation("tensor"), None),
            (Allocation("tensor"), mask),
            (Allocation(layer_minimum=0.2), None),
            (Allocation(layer_maximum=0.5), mask),
            (Allocation("row"), None),
        ]
    ):
        path = out.with_name(f"{i}.json")
        claim = certify_files(scores, path, keep=3, allocation=allocation, mask=given)["claim"]
        bounds.append([(each["minimum"], each["maximum"]) for each in claim["tree"]])
        assert proved(path)
    # 3/8 of four are 3/2, rounded up; ⌈0.2·4⌉ and ⌊0.5·4⌋
    assert bounds[:4] == [[(2, 2)] * 2, [(1, 1), (2, 2)], [(1, 4)] * 2, [(0, 2)] * 2]
    assert [each["runs"][0]["maximum"] for each in claim["tree"]] == [2, 2]
    assert claim["keep"] == 4
    with pytest.raises(CardinalityError, match=r"keep is 9: .*an int from 0 to 8"):
        certify_files(scores, out, keep=9, allocation=Allocation("tensor"))


def test_matrices_that_are_stored_transposed_have_their_rows(tmp_path: Path) -> None:
    values = {"w": torch.tensor([[4.0, 1.0], [3.0, 2.0]])}
    save_scores(values, tmp_path / "s.safetensors")
    kept = []
    for transposed in (False, True):
        path = tmp_path / f"{transposed}.json"
        allocation = Allocation("row")
        scores = tmp_path / "s.safetensors"
        certify_files(scores, path, keep=2, allocation=allocation, transposed=transposed)
        assert proved(path)
        kept.append(masks_module.load(tmp_path / f"{transposed}.mask.safetensors")["w"].tolist())
    assert kept == [[[True, False], [True, False]], [[True, False], [False, True]]]


def test_masks_of_other_toolkits_are_certified_as_bool_tensors(
    files: tuple[Path, Path, Path],
) -> None:
    scores, _, out = files
    save_file(mask_of(SCORES, (2,)), out.with_name("m.safetensors"))
    certify_files(scores, out, keep=1, mask=out.with_name("m.safetensors"))
    assert proved(out)


def test_a_run_writes_its_certificate_anew(files: tuple[Path, Path, Path]) -> None:
    """A run that was stopped after it, and goes on with another decision."""
    scores, cost, out = files
    masks = out.with_name("m.safetensors")
    frozen = Frozen({"b": ROW[0]}, {"a": ROW})
    for kept, multiplier in (((0, 3, 4), None), ((1, 2, 3), 0.5)):
        masks_module.save(mask_of(SCORES, kept), masks)
        tree = tree_of(Cardinality(3) & frozen, SCORES)
        costs = None if multiplier is None else cost
        final = FinalDecision(scores, costs, multiplier, masks, out, tree, "pins")
        assert "among masks with frozen zeros, frozen fixed" in certify_run(final)
        assert proved(out)
        assert read(out)["claim"]["criterion"] == "pins"
        frozen = Frozen({"b": ROW[0].roll(1)}, {"a": ROW})
    masks_module.save(select(SCORES, 3), masks)
    final = FinalDecision(scores, None, None, masks, out, tree_of(Cardinality(3), SCORES), "pins")
    assert certify_run(final).endswith("ties by index")
    assert names(out.parent) == ["c.safetensors", "cert.json", "m.safetensors", "s.safetensors"]


# ---- What is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["", ".mask", ".best", ".zeros", ".fixed"])
def test_nothing_is_overwritten(files: tuple[Path, Path, Path], role: str) -> None:
    """But masks that a killed process left, the same ones, may stay."""
    scores, _, out = files
    frozen = Cardinality(3) & Frozen({"b": ROW[0]}, {"a": ROW})
    masks_module.save(mask_of(SCORES, (0, 1, 3)), mask := out.with_name("m.safetensors"))
    file = out.with_name(f"cert{role}.{'safetensors' if role else 'json'}")
    file.write_text("precious")
    before = names(out.parent)
    given = None if role == ".mask" else mask
    with pytest.raises(CertificateError, match=rf"cert{role}\.\w+ exists: remove it, or write to"):
        certify_files(scores, out, keep=frozen, mask=given)
    assert file.read_text() == "precious"
    assert names(out.parent) == before
    file.unlink()
    certify_files(scores, out, keep=frozen, mask=given)
    written, read_before = names(out.parent), file.read_bytes()
    out.unlink()
    certify_files(scores, out, keep=frozen, mask=given)
    assert (names(out.parent), file.read_bytes()) == (written, read_before)
    assert proved(out)


def test_files_that_no_certificate_can_name_are_refused(files: tuple[Path, Path, Path]) -> None:
    scores, _, out = files
    with pytest.raises(CertificateError, match="is not beside or below"):
        certify_files(scores, out.parent / "sub" / "c.json", keep=2)
    assert not (out.parent / "sub").exists()
    for folder in (out.parent, Path(), Path("/")):
        with pytest.raises(CertificateError, match="is a folder: give a file for the certificate"):
            certify_files(scores, folder, keep=2)
    odd = out.with_name("a:b.safetensors")
    save_scores(SCORES, odd)
    with pytest.raises(CertificateError, match=r"a:b\.safetensors has a colon or a backslash"):
        certify_files(odd, out, keep=2)
    assert not out.exists()


def test_masks_and_scores_that_do_not_fit_have_no_certificate(
    files: tuple[Path, Path, Path],
) -> None:
    scores, _, out = files
    mask = out.with_name("m.safetensors")
    masks_module.save(select(SCORES, 4), mask)
    with pytest.raises(CertificateError, match="keeps 4 of 8, --keep says 3"):
        certify_files(scores, out, keep=3, mask=mask)
    with pytest.raises(CertificateError, match="the mask is not allowed: the model keeps 4"):
        certify_files(scores, out, keep=Cardinality(3), mask=mask)
    masks_module.save({"b": torch.ones(4, dtype=torch.bool)}, mask)
    with pytest.raises(MaskError, match="'a' has no mask"):
        certify_files(scores, out, keep=4, allocation=Allocation("tensor"), mask=mask)
    save_scores({"a": torch.tensor([1.0, float("nan")])}, mask)
    with pytest.raises(ImportanceError, match=r"importance\['a'\] at index \(1\) is nan"):
        certify_files(mask, out, keep=1)
    mask.write_bytes(mask.read_bytes()[:-1])
    with pytest.raises(FileError, match="is not a whole safetensors file"):
        certify_files(mask, out, keep=1)
    assert names(out.parent) == ["c.safetensors", "m.safetensors", "s.safetensors"]


# ---- The command ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--layer-minimum", "0.25"], "is optimal among masks with bounds on tensors (2), ties by"),
        (["--layer-maximum", "0.5"], "is optimal among masks with bounds on tensors (2), ties by"),
        (["--scope", "tensor"], "is optimal among masks with bounds on tensors (2), ties by index"),
        (["--scope", "row"], "2 of each of the runs of 4 (2), ties by index"),
        (["--scope", "global"], "keeps 3 of 8 weights and is optimal, ties by index\n"),
        (["--cost", "c", "--multiplier", "0.5"], "is optimal at a cost of at most about 1.625\n"),
        (["--cost", "c", "--radius", "1.7"], "of the optimum at a cost of at most about 1.7\n"),
    ],
)
def test_the_command_certifies_what_competes(
    pins: Command, files: tuple[Path, Path, Path], options: list[str], said: str
) -> None:
    scores, cost, out = files
    arguments = [cost if word == "c" else word for word in options]
    code, printed, err = pins("certify", scores, "--keep", "3", "--out", out, *arguments)
    assert (code, err) == (0, "")
    assert said in printed
    assert pins("check", out)[0] == 0
    assert pins("certify", scores, "--keep", "3", "--out", out, "--scope", "layer")[0] == 2


def test_the_command_finds_the_multiplier_of_a_radius(files: tuple[Path, Path, Path]) -> None:
    scores, cost, out = files
    document = certify_files(scores, out, keep=3, cost=cost, radius=1.7)
    assert document["claim"]["radius"] == {"numerator": "17", "denominator": "10"}
    found = within(TrustRegionProgram(TERMS, Cardinality(3)), 1.7)
    masks = masks_module.load(out.with_name("cert.mask.safetensors"))
    assert ones(masks) == ones(found.masks)
    mask = out.with_name("cert.mask.safetensors")
    more: Any = {"cost": cost, "multiplier": 0.5, "mask": mask}
    gaps = [
        rational(
            certify_files(scores, out.with_name(f"{r}.json"), keep=3, radius=r, **more)["claim"][
                "gap"
            ]
        )
        for r in (4.75, 9.5)
    ]
    assert gaps[1] - gaps[0] == 2 * (Fraction("9.5") - Fraction("4.75"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--radius", "1"], "a radius and a multiplier are of a trust region: give its costs"),
        (["--multiplier", "1"], "a multiplier are of a trust region: give its costs"),
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
        (["--cost", "one", "--multiplier", "1"], "'b' has no costs: give both for the same tenso"),
        (["--cost", "odd", "--multiplier", "1"], "'a' has scores of torch.float32 in shape (1, 4)"),
        (["--cost", "bad", "--radius", "1"], "'b' has the cost -2.0: a cost is at least 0"),
        (["--cost", "c", "--multiplier", "1", "--mask", "two"], "two.safetensors keeps 2 of 8"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_leaves_nothing_behind(
    pins: Command, files: tuple[Path, Path, Path], options: list[str], message: str
) -> None:
    scores, _, out = files
    costs: dict[str, dict[str, Tensor]] = {
        "one": {"a": COSTS["a"]},
        "odd": COSTS | {"a": COSTS["a"].double()},
        "bad": SCORES | {"a": SCORES["a"].abs()},
        "zero": {name: torch.zeros_like(c) for name, c in COSTS.items()},
    }
    for name, tensors in costs.items():
        save_scores(tensors, out.with_name(f"{name}.safetensors"))
    for name, keep in (("m", 3), ("two", 2)):
        masks_module.save(select(SCORES, keep), out.with_name(f"{name}.safetensors"))
    before = names(out.parent)
    arguments = [
        out.with_name(f"{word}.safetensors") if option in ("--cost", "--mask") else word
        for option, word in zip(["", *options], options, strict=False)
    ]
    code, said, err = pins("certify", scores, "--keep", "3", "--out", out, *arguments)
    assert (code, said) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert names(out.parent) == before


def test_files_without_tensors_have_nothing_to_certify(pins: Command, tmp_path: Path) -> None:
    none = tmp_path / "none.safetensors"
    save_scores({}, none)
    for options in (["--cost", none, "--radius", 1], ["--cost", none, "--multiplier", 1], []):
        words = ("certify", none, "--keep", "0", "--out", tmp_path / "out.json", *options)
        code, _, err = pins(*words)
        assert (code, err) == (2, "pins: importance is empty: there is no weight to rank\n")
    assert names(tmp_path) == ["none.safetensors"]
