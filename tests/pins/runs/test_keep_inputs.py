"""`pins prune --keep-inputs`: a certificate that begins at the weights and gradients of the run."""

import json
from pathlib import Path
from typing import Any

import pytest

from pins.utils.io import load_tensors, save_tensors, sha256

pytest.importorskip("transformers", reason="runs load transformers models")

from pins.runs.export import finish, headline
from pins.runs.inputs import no_formula
from pins.runs.run import Run
from tests.pins.runs.tiny_runs import names, save_model, settings, take
from verification import checker
from verification.certificates import fast_checker
from verification.certificates.run import certify_run
from verification.checker import Outcome, Verdict

FAST: dict[str, Any] = {"evaluate_every": 12, "checkpoint_every": 6, "self_regularization": False}
FORMULAS: dict[str, tuple[dict[str, Any], str]] = {
    "pins": ({"smoothing": "none"}, "gradient and weights were made"),
    "movement": ({"smoothing": "none", "optimizer": "sgd"}, "gradient and before were made"),
    "trust-region": ({"smoothing": None, "radius": 4.0}, "momentum, curvature and weights were"),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


def verdict(run: Run) -> Verdict:
    """On which both checkers agree."""
    path = run.out / "certificate.json"
    plain, fast = checker.check(path), fast_checker.check(path)
    assert plain == fast
    return plain


@pytest.mark.parametrize("criterion", FORMULAS)
def test_the_claim_begins_at_the_files_that_the_final_decision_read(
    criterion: str, model: Path, data: Path, tmp_path: Path
) -> None:
    given, made = FORMULAS[criterion]
    wanted = settings(model, data, **FAST, **given, criterion=criterion, keep_inputs=True)
    run = take(Run(wanted, tmp_path / "out"))
    lines = dict(headline(finish(run, certify_run)))
    assert lines["inputs"] == "inputs"
    assert f"(scores by the formula {criterion})" in lines["certificate"]
    found = verdict(run)
    assert found.outcome is Outcome.PROVED, found.message
    assert f"are the formula {criterion} of " in found.message
    assert f"; not checked: how {made}" in found.message

    # control: another value of what was read, with its digest
    certificate = json.loads((run.out / "certificate.json").read_text())
    role, said = list(certificate["evidence"]["inputs"].items())[-1]
    file = run.out / said["file"]
    tensors, _ = load_tensors(file)
    largest = max(tensors, key=lambda name: float(tensors[name].abs().max()))
    flat = tensors[largest].view(-1)
    place = int(flat.abs().argmax())
    flat[place] *= 0.5
    save_tensors(tensors, file, {})
    certificate["evidence"]["inputs"][role]["sha256"] = sha256(file)
    (run.out / "certificate.json").write_text(json.dumps(certificate))
    found = verdict(run)
    assert found.outcome is Outcome.REFUTED
    assert ", the formula gives " in found.message


@pytest.mark.parametrize(
    ("criterion", "smoothing", "reason"),
    [
        ("pins", "uncertainty", "smoothed (uncertainty)"),
        ("authors", None, "averaged by the released code"),
    ],
)
def test_averages_of_scores_are_named_as_not_checked(
    criterion: str, smoothing: str | None, reason: str, model: Path, data: Path, tmp_path: Path
) -> None:
    given = {"criterion": criterion, "smoothing": smoothing}
    run = take(Run(settings(model, data, **FAST, **given, keep_inputs=True), tmp_path / "out"))
    assert dict(headline(finish(run, certify_run)))["inputs"] == f"not checked: {reason}"
    assert "inputs" not in names(run.out)
    assert verdict(run).message.endswith(f"that the scores are '{criterion}, {reason}'")


def test_inputs_that_give_other_bits_are_left_out_of_the_claim(
    model: Path, data: Path, tmp_path: Path
) -> None:
    """As on a device that flushes denormals."""
    wanted = settings(
        model, data, **FAST, criterion="magnitude", smoothing="none", keep_inputs=True
    )
    run = take(Run(wanted, tmp_path / "out"))
    file = run.out / "inputs" / "weights.safetensors"
    tensors, _ = load_tensors(file)
    save_tensors({name: 2 * each for name, each in tensors.items()}, file, {})
    finish(run, certify_run)
    assert verdict(run).message.endswith("; not checked: that the scores are 'magnitude'")


def test_a_run_may_go_on_with_or_without_them(model: Path, data: Path, tmp_path: Path) -> None:
    given = {**FAST, "criterion": "pins", "smoothing": "none"}
    take(Run(settings(model, data, **given), tmp_path / "out"), 7)
    wanted = settings(model, data, **given, keep_inputs=True)
    run = take(Run(wanted, tmp_path / "out", resume=True))
    finish(run, certify_run)
    assert "are the formula pins of " in verdict(run).message
    take(Run(settings(model, data, **given), tmp_path / "late"))
    late = Run(wanted, tmp_path / "late", resume=True)  # after its final decision
    assert dict(headline(finish(late, certify_run)))["inputs"] == "not checked: not kept in time"
    assert verdict(late).message.endswith("; not checked: that the scores are 'pins'")


def test_a_trust_region_of_multiplier_0_ranks_by_costs_alone(model: Path, data: Path) -> None:
    wanted = settings(model, data, criterion="trust-region", smoothing="none")
    assert no_formula(wanted, 0.5) is None
    assert no_formula(wanted, 0.0) == "the costs alone, of multiplier 0"
