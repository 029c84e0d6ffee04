"""Certificates that begin at files of weights and gradients, as `pins certify --from` makes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from pins.cli import command_line
from pins.errors import CertificateError
from pins.importance.criteria import CRITERIA
from pins.importance.trust_region.criterion import TrustRegion
from pins.utils.io import load_tensors, save_tensors
from verification import checker
from verification.certificates import fast_checker
from verification.certificates.formula import READS, Formula, same_bits
from verification.certificates.from_files import certify_files, certify_formula
from verification.checker import Outcome

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
SHAPES = {"b": (40, 51), "a": (3,), "empty": (0, 2)}


def values(
    role: str, shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator
) -> Tensor:
    """Of many orders of magnitude, so that some products are subnormal; zeros of both signs."""
    spread = {torch.float16: 24, torch.float64: 600}.get(dtype, 90)
    drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
    powers = torch.randint(-spread, 4, shape, generator=generator).double()
    found = (drawn * torch.exp2(powers)).to(dtype)
    found.view(-1)[:2] = torch.tensor([0.0, -0.0])[: found.numel()]
    return found.abs() if role == "curvature" else found


def inputs(folder: Path, name: str, dtype: torch.dtype) -> dict[str, Path]:
    """A file for each input of the formula."""
    generator = torch.Generator().manual_seed(len(name))
    for role in READS[name]:
        tensors = {n: values(role, shape, dtype, generator) for n, shape in SHAPES.items()}
        save_tensors(tensors, folder / f"{role}.safetensors", {})
    return {role: folder / f"{role}.safetensors" for role in READS[name]}


def verdict(certificate: Path) -> checker.Verdict:
    """On which both checkers agree."""
    plain, fast = checker.check(certificate), fast_checker.check(certificate)
    assert plain == fast
    return plain


def how(name: str) -> dict[str, Any]:
    return {"keep": 300, **({"multiplier": 0.5} if name == "trust-region" else {})}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", READS)
def test_the_operations_of_torch_give_the_bits_of_the_formula(
    tmp_path: Path, name: str, dtype: torch.dtype
) -> None:
    certify_formula(Formula(name, inputs(tmp_path, name, dtype)), tmp_path / "c.json", **how(name))
    found = verdict(tmp_path / "c.json")
    assert found.outcome is Outcome.PROVED, found.message
    assert f" are the formula {name} of " in found.message
    scores, _ = load_tensors(tmp_path / "c.scores.safetensors")
    assert list(scores) == list(SHAPES)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert {each.dtype for each in scores.values()} == {wide}
    least = scores["b"].abs()
    subnormal = (least > 0) & (least < torch.finfo(wide).tiny)
    assert bool(subnormal.any()) or dtype == torch.float16 or name == "magnitude"


def test_each_criterion_has_its_formula_in_the_checker() -> None:
    assert READS.keys() == CRITERIA.keys()
    assert {name: each.inputs for name, each in checker._FORMULAS.items()} == READS


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_fused_operation_has_other_bits_and_is_refuted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    """½h·w² + ½δ·w² by `add(alpha=)`, and the same in two roundings."""
    files = inputs(tmp_path, "trust-region", dtype)
    h, w = (load_tensors(files[role])[0]["b"] for role in ("curvature", "weights"))
    cost, square = h * 0.5 * w * w, w * w
    fused = torch.add(cost, square, alpha=0.05)
    differ = fused != cost + square * 0.05
    assert 0.0005 < differ.double().mean() < 0.5
    right = TrustRegion.terms

    def wrong(self: TrustRegion, observation: Any) -> Any:
        terms, after = right(self, observation), observation.after
        cost = observation.curvature * 0.5 * after * after
        return terms._replace(cost=torch.add(cost, after * after, alpha=self.offset / 2))

    monkeypatch.setattr(TrustRegion, "terms", wrong)
    certify_formula(Formula("trust-region", files, 0.1), tmp_path / "c.json", **how("trust-region"))
    found = verdict(tmp_path / "c.json")
    assert found.outcome is Outcome.REFUTED
    assert " has the cost " in found.message
    assert ", the formula gives " in found.message


def test_the_offset_is_the_one_of_a_decision_or_the_given_one(tmp_path: Path) -> None:
    files = inputs(tmp_path, "trust-region", torch.float32)
    h, _ = load_tensors(files["curvature"])
    mean = sum(float(each.double().sum()) for each in h.values()) / sum(
        each.numel() for each in h.values()
    )
    for given, expected in ((None, 0.1 * mean), (0.25, 0.25), (0.0, 0.0)):
        certificate = tmp_path / f"{given}.json"
        certify_formula(Formula("trust-region", files, given), certificate, **how("trust-region"))
        claim = json.loads(certificate.read_text())["claim"]["formula"]
        assert float.fromhex(claim["numbers"]["offset"]) == pytest.approx(expected, rel=1e-12)
        assert verdict(certificate).outcome is Outcome.PROVED


def test_a_file_may_hold_more_tensors_than_another(tmp_path: Path) -> None:
    """As a model's own file does; the fewest are the scope."""
    files = inputs(tmp_path, "pins", torch.float32)
    tensors, _ = load_tensors(files["weights"])
    save_tensors({"norm": torch.ones(4), **tensors}, files["weights"], {})
    document = certify_formula(Formula("pins", files), tmp_path / "c.json", keep=300)
    assert [each["name"] for each in document["claim"]["scope"]] == list(SHAPES)
    assert verdict(tmp_path / "c.json").outcome is Outcome.PROVED


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("fisher", {}, "'fisher' is no fixed formula of files: give one of magnitude, sens"),
        ("pins", {"before": Path("b")}, "from the files gradient and weights, given are gradient,"),
        ("pins", {"gradient": Path("none.safetensors")}, "is not beside or below"),
    ],
)
def test_files_that_do_not_fit_a_formula_are_refused(
    tmp_path: Path, name: str, changed: dict[str, Path], message: str
) -> None:
    files = inputs(tmp_path, "pins", torch.float32) | changed
    with pytest.raises(CertificateError, match=message):
        certify_formula(Formula(name, files), tmp_path / "c.json", keep=3)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"a": torch.ones(3), "c": torch.ones(2)}, "has no 'c', the other files have"),
        (
            {"a": torch.ones(2)},
            r"gradient torch.float32 \(2,\), weights torch.float32 \(3,\): a fo",
        ),
        ({"a": torch.ones(3, dtype=torch.float64)}, "of float64 alone or of float32 and 16-bit"),
        ({"a": torch.ones(3, dtype=torch.int32)}, "of float64 alone or of float32 and 16-bit"),
    ],
)
def test_tensors_that_do_not_fit_each_other_are_refused(
    tmp_path: Path, other: dict[str, Tensor], message: str
) -> None:
    files = inputs(tmp_path, "pins", torch.float32)
    save_tensors(other, files["gradient"], {})
    with pytest.raises(CertificateError, match=message):
        certify_formula(Formula("pins", files), tmp_path / "c.json", keep=1)
    assert not (tmp_path / "c.scores.safetensors").exists()


def test_given_scores_are_those_of_the_formula_bit_for_bit(tmp_path: Path) -> None:
    files = inputs(tmp_path, "pins", torch.float32)
    computed = Formula("pins", files).computed()
    scores = {name: each.clone() for name, each in computed.scores.items()}
    file = tmp_path / "s.safetensors"
    save_tensors(scores, file, {})
    certify_files(file, tmp_path / "c.json", keep=3, formula=computed)
    assert verdict(tmp_path / "c.json").outcome is Outcome.PROVED
    zero = int((scores["b"].view(-1) == 0).nonzero()[0])
    scores["b"].view(-1)[zero] *= -1.0  # the other zero
    assert not same_bits(scores, computed.scores)
    save_tensors(scores, file, {})
    with pytest.raises(CertificateError, match="does not hold what pins gives, bit for bit, of"):
        certify_files(file, tmp_path / "d.json", keep=3, formula=computed)


def test_nothing_is_overwritten_and_nothing_left_by_an_error(tmp_path: Path) -> None:
    files = inputs(tmp_path, "magnitude", torch.float32)
    with pytest.raises(Exception, match="9999"):
        certify_formula(Formula("magnitude", files), tmp_path / "c.json", keep=9999)
    assert not (tmp_path / "c.scores.safetensors").exists()
    (tmp_path / "c.scores.safetensors").write_text("mine")
    with pytest.raises(CertificateError, match=r"c\.scores\.safetensors exists: remove it"):
        certify_formula(Formula("magnitude", files), tmp_path / "c.json", keep=3)
    assert (tmp_path / "c.scores.safetensors").read_text() == "mine"


def test_the_command_certifies_from_files(tmp_path: Path) -> None:
    files = inputs(tmp_path, "trust-region", torch.bfloat16)
    given = [word for what, file in files.items() for word in ("--from", f"{what}={file}")]
    out = tmp_path / "c.json"
    command = ["certify", "--keep", "300", "--multiplier", "3", "--out", str(out)]
    more = ["--criterion", "trust-region", "--offset", "0.5"]
    done = CliRunner().invoke(command_line(), [*command, *given, *more])
    assert done.exit_code == 0, done.output
    assert verdict(out).message.endswith("how momentum, curvature and weights were made")
    assert "offset = 0.5" in verdict(out).message


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["s.safetensors", "--from", "weights=w.safetensors", "--criterion", "magnitude"],
        ["--from", "weights=w.safetensors"],
        ["--from", "weights", "--criterion", "magnitude"],
        ["--from", "weights=a", "--from", "weights=b", "--criterion", "magnitude"],
        ["--from", "weights=w.safetensors", "--criterion", "magnitude", "--cost", "c.safetensors"],
        ["s.safetensors", "--offset", "1.0"],
    ],
)
def test_the_command_takes_scores_or_their_files(options: list[str], tmp_path: Path) -> None:
    command = ["certify", "--keep", "3", "--out", str(tmp_path / "c.json"), *options]
    done = CliRunner().invoke(command_line(), command)
    assert done.exit_code != 0
    assert "give one of the two" in str(done.exception)
