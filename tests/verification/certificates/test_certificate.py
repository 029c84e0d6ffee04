import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from typer.testing import CliRunner
from verification.certificates.certificate import certify, certify_files, save_scores, summary

from pins import masks as masks_module
from pins.cli import command_line
from pins.errors import CardinalityError, CertificateError, FileError, ImportanceError, MaskError
from pins.selection.allocation import Allocation
from pins.selection.constraints import Cardinality, Constraint, MinimumPerTensor, PerTensor
from pins.selection.select import decide, select
from tests.pins.selection.constrained import Program, constrained, ones, optima
from verification import checker
from verification.checker import Outcome

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def write(
    folder: Path,
    scores: dict[str, torch.Tensor],
    masks: Mapping[str, torch.Tensor],
    constraint: Constraint | None = None,
) -> dict[str, Any]:
    save_scores(scores, folder / "scores.safetensors")
    masks_module.save(masks, folder / "mask.safetensors")
    return certify(
        scores,
        masks,
        certificate=folder / "cert.json",
        scores_file=folder / "scores.safetensors",
        mask_file=folder / "mask.safetensors",
        constraint=constraint,
    )


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_certificate_is_accepted_by_the_checker(data: st.DataObject, tmp_path: Path) -> None:
    values = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=9)
    dtype = data.draw(st.sampled_from(DTYPES))
    scores = {name: torch.tensor(data.draw(values), dtype=dtype) for name in ("w.10", "w.2", "a")}
    masks = {
        name: torch.tensor(data.draw(st.lists(st.booleans(), min_size=len(s), max_size=len(s))))
        for name, s in scores.items()
    }
    if data.draw(st.booleans()):
        total = sum(len(s) for s in scores.values())
        masks = select(scores, data.draw(st.integers(0, total)))
    document = write(tmp_path, scores, masks)
    verdict = checker.check(tmp_path / "cert.json")
    assert verdict.outcome is Outcome.PROVED, verdict.message
    optimal = sorted_oracle(scores, masks)
    assert (document["claim"]["statement"] == "optimal") == optimal


def sorted_oracle(scores: dict[str, torch.Tensor], masks: dict[str, torch.Tensor]) -> bool:
    flat = [Fraction(v) for s in scores.values() for v in s.double().tolist()]
    bits = [bit for mask in masks.values() for bit in mask.tolist()]
    value = sum((v for v, bit in zip(flat, bits, strict=True) if bit), Fraction(0))
    return value == sum(sorted(flat, reverse=True)[: sum(bits)], Fraction(0))


def test_the_flat_order_is_the_order_given_not_that_of_the_file(tmp_path: Path) -> None:
    scores = {"w.10": torch.ones(2), "w.2": torch.ones(2)}
    certificate = tmp_path / "cert.json"
    save_scores(scores, tmp_path / "s.safetensors")
    document = certify_files(tmp_path / "s.safetensors", certificate, keep=2)
    assert [tensor["name"] for tensor in document["claim"]["scope"]] == ["w.10", "w.2"]
    assert document["evidence"]["counts"] == [2, 0]
    assert document["claim"]["tie_rule"] == "lower-index"
    assert checker.check(certificate).outcome is Outcome.PROVED


def test_an_optimal_mask_with_other_ties_claims_no_tie_rule(tmp_path: Path) -> None:
    document = write(tmp_path, {"a": torch.ones(3)}, {"a": torch.tensor([False, True, True])})
    assert document["claim"]["tie_rule"] == "none"
    assert document["claim"]["unique"] is False
    assert checker.check(tmp_path / "cert.json").outcome is Outcome.PROVED


def test_a_worse_mask_is_certified_with_its_exact_regret(tmp_path: Path) -> None:
    scores = {"a": torch.tensor([0.1, 0.2, 0.3])}
    document = write(tmp_path, scores, {"a": torch.tensor([True, True, False])})
    exact = Fraction(scores["a"][2].item()) - Fraction(scores["a"][0].item())
    regret = document["claim"]["regret"]
    assert Fraction(int(regret["numerator"]), int(regret["denominator"])) == exact
    assert "falls short of the optimum by about 0.2" in summary(document)
    assert checker.check(tmp_path / "cert.json").outcome is Outcome.PROVED


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("mask", "mask.safetensors: sha256 is"),
        ("scores", "scores.safetensors: sha256 is"),
        ("keep", "kept 2 of 4, the claim says 3"),
        ("lambda", "below λ"),
        ("digest", "sha256"),
    ],
)
def test_what_is_tampered_with_is_refuted(tmp_path: Path, part: str, message: str) -> None:
    scores = {"a": torch.tensor([4.0, 3.0, 2.0, 1.0])}
    document = write(tmp_path, scores, select(scores, 2))
    if part == "mask":
        masks_module.save(
            {"a": torch.tensor([True, False, True, False])}, tmp_path / "mask.safetensors"
        )
    elif part == "scores":
        save_scores({"a": torch.tensor([4.0, 1.0, 2.0, 1.0])}, tmp_path / "scores.safetensors")
    elif part == "keep":
        document["claim"]["keep"] = 3
    elif part == "lambda":
        document["evidence"]["lambda"] = (3.5).hex()
    else:
        document["evidence"]["mask"]["sha256"] = "0" * 64
    (tmp_path / "cert.json").write_text(json.dumps(document))
    verdict = checker.check(tmp_path / "cert.json")
    assert verdict.outcome is Outcome.REFUTED
    assert message in verdict.message


def test_a_multiplier_elsewhere_in_the_dual_interval_is_still_true(tmp_path: Path) -> None:
    scores = {"a": torch.tensor([4.0, 3.0, 2.0, 1.0])}
    document = write(tmp_path, scores, select(scores, 2))
    document["evidence"]["lambda"] = (2.25).hex()
    (tmp_path / "cert.json").write_text(json.dumps(document))
    assert checker.check(tmp_path / "cert.json").outcome is Outcome.PROVED


def test_masks_of_other_toolkits_are_certified_as_bool_tensors(tmp_path: Path) -> None:
    save_scores({"a": torch.tensor([[4.0, 3.0]])}, tmp_path / "s.safetensors")
    save_file({"a": torch.tensor([[True, False]])}, tmp_path / "m.safetensors")
    certify_files(
        tmp_path / "s.safetensors", tmp_path / "c.json", keep=1, mask=tmp_path / "m.safetensors"
    )
    assert checker.check(tmp_path / "c.json").outcome is Outcome.PROVED


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    save_scores({"a": torch.ones(2)}, tmp_path / "s.safetensors")
    (tmp_path / "c.json").write_text("precious")
    with pytest.raises(CertificateError, match=r"c\.json exists: remove it"):
        certify_files(tmp_path / "s.safetensors", tmp_path / "c.json", keep=1)
    assert (tmp_path / "c.json").read_text() == "precious"
    (tmp_path / "d.mask.safetensors").write_text("precious")
    with pytest.raises(CertificateError, match=r"d\.mask\.safetensors exists"):
        certify_files(tmp_path / "s.safetensors", tmp_path / "d.json", keep=1)
    assert not (tmp_path / "d.json").exists()


def test_a_mask_of_another_size_or_elsewhere_gives_no_certificate(tmp_path: Path) -> None:
    save_scores({"a": torch.ones(4)}, tmp_path / "s.safetensors")
    masks_module.save(select({"a": torch.ones(4)}, 3), tmp_path / "m.safetensors")
    with pytest.raises(CertificateError, match="keeps 3 of 4, --keep says 2"):
        certify_files(
            tmp_path / "s.safetensors", tmp_path / "c.json", keep=2, mask=tmp_path / "m.safetensors"
        )
    with pytest.raises(CertificateError, match="is not beside or below"):
        certify_files(tmp_path / "s.safetensors", tmp_path / "sub" / "c.json", keep=2)
    assert not (tmp_path / "sub" / "c.json").exists()


def test_scores_that_cannot_be_ranked_or_read_give_no_certificate(tmp_path: Path) -> None:
    save_scores({"a": torch.tensor([1.0, float("nan")])}, tmp_path / "s.safetensors")
    with pytest.raises(ImportanceError, match=r"importance\['a'\] at index \(1\) is nan"):
        certify_files(tmp_path / "s.safetensors", tmp_path / "c.json", keep=1)
    whole = (tmp_path / "s.safetensors").read_bytes()
    (tmp_path / "s.safetensors").write_bytes(whole[:-1])
    with pytest.raises(FileError, match="is not a whole safetensors file"):
        certify_files(tmp_path / "s.safetensors", tmp_path / "c.json", keep=1)
    assert not (tmp_path / "c.json").exists()


# ---- More rows than one --------------------------------------------------------------------------

SCORES = {"a": torch.tensor([4.0, 3.0, 2.0, 1.0]), "b": torch.tensor([0.5, 0.25, 0.125])}


def masks_of(scores: dict[str, torch.Tensor], kept: tuple[int, ...]) -> dict[str, torch.Tensor]:
    bits = torch.zeros(sum(s.numel() for s in scores.values()), dtype=torch.bool)
    bits[list(kept)] = True
    parts = torch.split(bits, [s.numel() for s in scores.values()])
    return {n: part.reshape(scores[n].shape) for n, part in zip(scores, parts, strict=True)}


@given(program=constrained(), data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_constrained_certificate_is_accepted_by_the_checker(
    program: Program, data: st.DataObject, tmp_path: Path
) -> None:
    """Of any optimal mask, the one by index or another."""
    scores, constraint = program
    best = optima(scores, constraint)
    masks = masks_of(scores, data.draw(st.sampled_from(best)))
    document = write(tmp_path, scores, masks, constraint)
    assert document["version"] == 2
    verdict = checker.check(tmp_path / "cert.json")
    assert verdict.outcome is Outcome.PROVED, verdict.message
    claim = document["claim"]
    assert claim["unique"] == (len(best) == 1)
    assert (claim["tie_rule"] == "lower-index") == (ones(masks) == best[0])
    lower = sum(
        each != document["evidence"]["lambda"] for each in document["evidence"]["thresholds"]
    )
    binding = decide(scores, constraint).binding
    assert isinstance(constraint, PerTensor) or lower == len(binding)


@given(program=constrained(), data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_constrained_mask_that_is_not_optimal_gets_no_certificate(
    program: Program, data: st.DataObject, tmp_path: Path
) -> None:
    scores, constraint = program
    total = sum(s.numel() for s in scores.values())
    kept = data.draw(st.permutations(range(total)).map(lambda order: order[: constraint.keep]))
    if tuple(sorted(kept)) in optima(scores, constraint):
        return
    (tmp_path / "cert.json").unlink(missing_ok=True)
    with pytest.raises(CertificateError, match="the mask is not the optimum of its constraint: '"):
        write(tmp_path, scores, masks_of(scores, tuple(kept)), constraint)
    assert not (tmp_path / "cert.json").exists()


def test_a_constraint_of_one_row_is_certified_in_version_1(tmp_path: Path) -> None:
    masks = select(SCORES, 3)
    plain = write(tmp_path, SCORES, masks)
    again = write(tmp_path, SCORES, masks, Cardinality(3))
    for document in (plain, again):
        del document["evidence"]["scores"], document["evidence"]["mask"]  # files written anew
    assert again == plain
    assert plain["version"] == 1
    assert "constraint" not in plain["claim"]
    assert "thresholds" not in plain["evidence"]
    worse = write(tmp_path, SCORES, masks_of(SCORES, (0, 1, 5)), Cardinality(3))
    assert worse["claim"]["statement"] == "regret"


def test_a_certificate_says_what_its_mask_competes_with(tmp_path: Path) -> None:
    constraint = MinimumPerTensor(3, {"b": 2})
    document = write(tmp_path, SCORES, decide(SCORES, constraint).masks, constraint)
    assert document["claim"]["constraint"] == {"kind": "minimum-per-tensor", "minimum": [0, 2]}
    assert [float.fromhex(each) for each in document["evidence"]["thresholds"]] == [4.0, 0.25]
    assert summary(document) == (
        "keeps 3 of 7 weights and is the only optimum among masks with the minimum of each tensor, "
        "which binds in 1 of 2 tensors"
    )
    loose = MinimumPerTensor(3, {"a": 1})
    document = write(tmp_path, SCORES, decide(SCORES, loose).masks, loose)
    assert "minimum of each tensor, which binds nowhere" in summary(document)
    each = PerTensor({"a": 1, "b": 2})
    document = write(tmp_path, SCORES, decide(SCORES, each).masks, each)
    assert document["claim"]["constraint"] == {"kind": "per-tensor", "keep": [1, 2]}
    assert "the only optimum among masks that keep as many of each tensor" in summary(document)
    tied = {"a": torch.zeros(2), "b": torch.zeros(1)}
    document = write(tmp_path, tied, masks_of(tied, (1,)), MinimumPerTensor(1, {}))
    assert summary(document).startswith("keeps 1 of 3 weights and is optimal among masks with the")
    assert summary(document).endswith("binds nowhere, with other ties")


def test_a_mask_is_certified_under_its_own_constraint_only(tmp_path: Path) -> None:
    masks = select(SCORES, 3)
    with pytest.raises(CertificateError, match="keeps 3 of 7 weights, its constraint asks for 4"):
        write(tmp_path, SCORES, masks, MinimumPerTensor(4, {}))
    with pytest.raises(CertificateError, match="'b' keeps 0 weights, its minimum is 1"):
        write(tmp_path, SCORES, masks, MinimumPerTensor(3, {"b": 1}))
    with pytest.raises(CardinalityError, match="there is no tensor 'c'"):
        write(tmp_path, SCORES, masks, MinimumPerTensor(3, {"c": 1}))
    with pytest.raises(ImportanceError, match="is nan"):
        write(
            tmp_path,
            {"a": torch.tensor([1.0, float("nan")])},
            {"a": torch.tensor([True, False])},
            MinimumPerTensor(1, {}),
        )


def test_files_are_certified_under_a_constraint(tmp_path: Path) -> None:
    scores = tmp_path / "s.safetensors"
    save_scores(SCORES, scores)
    constraint = MinimumPerTensor(4, {"b": 2})
    certify_files(scores, tmp_path / "c.json", keep=constraint)
    assert ones(masks_module.load(tmp_path / "c.mask.safetensors")) == (0, 1, 4, 5)
    again = certify_files(
        scores, tmp_path / "d.json", keep=constraint, mask=tmp_path / "c.mask.safetensors"
    )
    assert again["claim"]["constraint"] == {"kind": "minimum-per-tensor", "minimum": [0, 2]}
    for name in ("c.json", "d.json"):
        assert checker.check(tmp_path / name).outcome is Outcome.PROVED
    with pytest.raises(CertificateError, match="keeps 4 of 7, --keep says 3"):
        certify_files(
            scores,
            tmp_path / "e.json",
            keep=MinimumPerTensor(3, {}),
            mask=tmp_path / "c.mask.safetensors",
        )


def test_a_scope_and_a_number_are_a_constraint(tmp_path: Path) -> None:
    scores, by_tensor = tmp_path / "s.safetensors", Allocation(by_tensor=True)
    save_scores(SCORES, scores)
    made = certify_files(scores, tmp_path / "c.json", keep=3, scope=by_tensor)
    assert made["claim"]["constraint"] == {"kind": "per-tensor", "keep": [2, 1]}  # 12/7 and 9/7
    masks_module.save(masks_of(SCORES, (0, 4, 5)), tmp_path / "m.safetensors")
    own = certify_files(
        scores, tmp_path / "d.json", keep=3, scope=by_tensor, mask=tmp_path / "m.safetensors"
    )
    assert own["claim"]["constraint"] == {"kind": "per-tensor", "keep": [1, 2]}
    least = certify_files(scores, tmp_path / "e.json", keep=3, scope=Allocation(minimum_kept=0.3))
    assert least["claim"]["constraint"] == {"kind": "minimum-per-tensor", "minimum": [2, 1]}
    for name in ("c.json", "d.json", "e.json"):
        assert checker.check(tmp_path / name).outcome is Outcome.PROVED


def test_a_ratio_of_each_tensor_may_add_up_to_another_number(tmp_path: Path) -> None:
    save_scores({name: torch.arange(5.0) for name in "abc"}, tmp_path / "s.safetensors")
    made = certify_files(
        tmp_path / "s.safetensors", tmp_path / "c.json", keep=8, scope=Allocation(by_tensor=True)
    )
    assert (made["claim"]["keep"], made["evidence"]["counts"]) == (9, [3, 3, 3])
    with pytest.raises(CardinalityError, match=r"keep is 16: .*an int from 0 to 15"):
        certify_files(
            tmp_path / "s.safetensors",
            tmp_path / "d.json",
            keep=16,
            scope=Allocation(by_tensor=True),
        )


def test_a_mask_of_other_tensors_is_refused_before_its_constraint(tmp_path: Path) -> None:
    save_scores({"a": torch.ones(4)}, tmp_path / "s.safetensors")
    masks_module.save({"b": torch.ones(4, dtype=torch.bool)}, tmp_path / "m.safetensors")
    with pytest.raises(MaskError, match="'a' has no mask"):
        certify_files(
            tmp_path / "s.safetensors",
            tmp_path / "c.json",
            keep=4,
            scope=Allocation(by_tensor=True),
            mask=tmp_path / "m.safetensors",
        )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--minimum-kept", "0.1"], "with the minimum of each tensor, which binds in 1 of 2"),
        (["--scope", "tensor"], "among masks that keep as many of each tensor"),
        (["--scope", "global"], "keeps 3 of 7 weights and is the only optimum\n"),
    ],
)
def test_the_command_takes_a_scope_and_a_minimum(
    tmp_path: Path, options: list[str], said: str
) -> None:
    save_scores(SCORES, tmp_path / "s.safetensors")
    out = str(tmp_path / "c.json")
    command = ["certify", str(tmp_path / "s.safetensors"), "--keep", "3", "--out", out, *options]
    result = CliRunner().invoke(command_line(), command, catch_exceptions=False)
    assert result.exit_code == 0
    assert said in result.output
    assert CliRunner().invoke(command_line(), ["check", out]).exit_code == 0
    assert CliRunner().invoke(command_line(), [*command, "--scope", "layer"]).exit_code == 2
