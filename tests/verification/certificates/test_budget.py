"""`pins budget`: the files that it writes, what it prints, and what its certificates prove."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pins.errors import CertificateError, FileError, SettingError
from pins.selection.budget import Budget, judged
from pins.selection.budget.choice import solve
from pins.selection.budget.program import BudgetProgram
from tests.commands import Command
from tests.pins.selection.budget.tables import allowed, document, least_error, programs
from tests.verification.certificate_cases import scratch_folder
from tests.vipr_reader import RefusedError, verify
from verification.certificates.budget import certify_choice
from verification.certificates.budget_files import budget_files
from verification.certificates.vipr import export
from verification.checker import Outcome, check


@pytest.fixture
def table(tmp_path: Path) -> Path:
    file = tmp_path / "table.json"
    file.write_text(json.dumps(document()))
    return file


@given(programs(), st.integers(0, 40), st.data())
@settings(max_examples=40)
def test_certificates_are_proved_and_state_a_bound(
    program: BudgetProgram, limit: int, data: st.DataObject
) -> None:
    path = scratch_folder() / "budget.json"
    best = solve(program, limit)
    other = judged(best, data.draw(st.sampled_from(allowed(program))))
    for choice in (best, other):
        path.unlink(missing_ok=True)
        said = certify_choice(choice, path, limit=limit)["claim"]["gap"]
        assert check(path).outcome is Outcome.PROVED, check(path)
        gap = Fraction(int(said["numerator"]), int(said["denominator"]))
        assert program.error(choice.options) - gap <= least_error(program)
    vipr = path.with_suffix(".vipr")
    vipr.unlink(missing_ok=True)
    made = export(path, vipr)
    proved = verify(vipr)
    assert proved.upper == made.upper >= -least_error(program)
    assert proved.lower == -program.error(other.options)


def test_a_vipr_file_with_another_bound_is_refused(table: Path, tmp_path: Path) -> None:
    budget_files(table, Budget.parse("bytes=0.5"), tmp_path)
    file = tmp_path / "budget.vipr"
    said = str(export(tmp_path / "certificate.json", file))
    assert "proves an optimum; does not say how the numbers were made, and the search" in said
    bound = verify(file).upper
    assert bound is not None
    file.write_text(file.read_text().replace(f" {bound}", f" {bound - 1}"))
    with pytest.raises(RefusedError):
        verify(file)


def test_the_command_writes_a_choice_and_its_proof(
    pins: Command, table: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code, said, err = pins("budget", table, "--budget", "bytes=0.6", "--out", out)
    assert (code, err) == (0, "")
    for line in ("layers    2, 5 options", "budget    120 bytes", "error     0.2, an optimum"):
        assert line in said
    made = json.loads((out / "budget.json").read_text())
    assert made["choice"] == {"a": 0.5, "b": 0.5}
    assert made["error"] == {"exact": "1/5", "value": 0.2}
    assert made["cost"] == {"exact": "120", "value": 120.0}
    assert (made["optimal"], made["gap"]["exact"]) == (True, "0")
    code, said, _ = pins("check", out / "certificate.json")
    assert code == 0
    assert "the choice of 2 of 5 options" in said
    assert "that the numbers are 'error and bytes of table.json'" in said


def test_the_command_judges_an_allocation(pins: Command, table: Path, tmp_path: Path) -> None:
    given = tmp_path / "given.json"
    given.write_text(json.dumps({"a": "2:4", "b": 0.9}))
    out = tmp_path / "out"
    code, said, _ = pins(
        "budget", table, "--budget=bytes=0.6", "--out", out, "--audit", given, "--json"
    )
    assert code == 0
    audit = json.loads(said)["audit"]
    assert audit["choice"] == {"a": "2:4", "b": 0.5}
    assert audit["moved"] == ["b"]
    assert audit["excess"] == {"exact": "1", "value": 1.0}
    assert "is at most 100.000 % above" in pins("check", out / "audit.certificate.json")[1]
    said = pins("budget", table, "--budget=bytes=0.6", "--out", tmp_path / "b", "--audit=uniform")[
        1
    ]
    assert "audited    uniform, 0.5" in said
    assert "its error  0.2, an optimum" in said


def test_flops_are_on_paper_and_losses_may_be_negative(pins: Command, tmp_path: Path) -> None:
    layers = document()["layers"]
    table = tmp_path / "table.json"
    table.write_text(json.dumps(document(layers=layers[:1])))
    out = tmp_path / "out"
    said = pins("budget", table, "--budget=flops=1", "--error=loss", "--out", out)[1]
    assert "flops are on paper: no speed-up" in said
    made = json.loads((out / "budget.json").read_text())
    assert (made["note"], made["error"]["exact"], made["excess"]) == (
        "flops are on paper: no speed-up",
        "-1/2",
        None,
    )
    assert "has the error -1/2" in pins("check", out / "certificate.json")[1]


def test_nothing_is_overwritten_and_errors_leave_nothing(table: Path, tmp_path: Path) -> None:
    budget, out = Budget.parse("bytes=0.6"), tmp_path / "out"
    for asked, audit, error in (
        ("bytes=0.1", None, "the cheapest choice takes 80"),
        ("latency=2", None, "has no 'latency'"),
        ("bytes=90", "owl", "OWL computes"),
    ):
        with pytest.raises(SettingError, match=error):
            budget_files(table, Budget.parse(asked), out, audit=audit)
        assert not out.exists()
    budget_files(table, budget, out)
    with pytest.raises(FileError, match=r"budget\.json exists: give another folder"):
        budget_files(table, budget, out)
    (out / "budget.json").unlink()
    with pytest.raises(CertificateError, match=r"certificate\.json exists: remove it"):
        budget_files(table, budget, out)


@pytest.mark.parametrize(
    ("key", "value"), [("choice", [1, 1]), ("error", "1"), ("budget", "9"), ("gap", None)]
)
def test_what_is_tampered_with_is_not_proved(
    table: Path, tmp_path: Path, key: str, value: Any
) -> None:
    budget_files(table, Budget.parse("bytes=0.6"), tmp_path)
    file = tmp_path / "certificate.json"
    certificate = json.loads(file.read_text())
    assert check(file).outcome is Outcome.PROVED
    certificate["claim"][key] = value
    file.write_text(json.dumps(certificate))
    assert check(file).outcome is not Outcome.PROVED
