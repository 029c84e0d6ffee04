import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from pins import masks as masks_module
from pins.errors import CertificateError, FileError, ImportanceError
from pins.selection import select
from verification import checker
from verification.certificate import certify, certify_files, save_scores, summary
from verification.checker import Outcome

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def write(
    folder: Path, scores: dict[str, torch.Tensor], masks: dict[str, torch.Tensor]
) -> dict[str, Any]:
    save_scores(scores, folder / "scores.safetensors")
    masks_module.save(masks, folder / "mask.safetensors")
    return certify(
        scores,
        masks,
        certificate=folder / "cert.json",
        scores_file=folder / "scores.safetensors",
        mask_file=folder / "mask.safetensors",
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
