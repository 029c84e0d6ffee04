import json
from dataclasses import replace

import pulp
import pytest

from verification.claims import ALL_CLAIMS, Claim, Finding, Setting, laws
from verification.claims.ledger import Outcome, document, exit_code, run
from verification.experiments.model_snapshot import ModelSnapshot
from verification.experiments.smooth_loss import SmoothLoss


@pytest.mark.parametrize("claim", ALL_CLAIMS, ids=lambda claim: claim.id)
def test_the_claim_holds_and_its_control_fails(
    claim: Claim, small_real: ModelSnapshot, small_loss: SmoothLoss
) -> None:
    (entry,) = run([claim], Setting(seed=3, real=small_real, loss=small_loss))
    assert entry.check.holds, entry.check.evidence
    assert not entry.control.holds, entry.control.evidence


@pytest.mark.slow
@pytest.mark.parametrize("claim", laws.CLAIMS, ids=lambda claim: claim.id)
def test_the_laws_hold_in_the_full_profile(claim: Claim) -> None:
    (entry,) = run([claim], Setting("full", seed=0))
    assert entry.outcome is Outcome.HOLDS, (entry.check.evidence, entry.control.evidence)


def test_ids_are_unique_and_every_field_has_text() -> None:
    assert len({claim.id for claim in ALL_CLAIMS}) == len(ALL_CLAIMS)
    for claim in ALL_CLAIMS:
        assert claim.statement.endswith(".")
        assert claim.scope
        assert claim.source
        assert claim.control_statement


@pytest.mark.parametrize(
    ("check", "control", "outcome"),
    [
        (True, False, Outcome.HOLDS),
        (False, False, Outcome.REFUTED),
        (False, True, Outcome.REFUTED),
        (True, True, Outcome.UNSOUND),
        (None, False, Outcome.UNTRIED),
        (None, None, Outcome.UNTRIED),
        (True, None, Outcome.UNTRIED),
        (False, None, Outcome.REFUTED),
    ],
)
def test_a_claim_holds_only_if_its_control_fails(
    check: bool | None, control: bool | None, outcome: Outcome
) -> None:
    claim = replace(
        ALL_CLAIMS[0],
        check=lambda _: Finding(bool(check), "looked", tried=check is not None),
        control=lambda _: Finding(bool(control), "looked wrong", tried=control is not None),
    )
    setting = Setting()
    entries = list(run([claim], setting))
    assert entries[0].outcome is outcome
    ledger = document(entries, setting)
    assert ledger["all_hold"] == (outcome is Outcome.HOLDS)
    assert exit_code(ledger) == {Outcome.HOLDS: 0, Outcome.UNTRIED: 2}.get(outcome, 1)
    assert json.loads(json.dumps(ledger)) == ledger


@pytest.mark.parametrize("name", ["closed-form-cbc-real", "region-cbc", "unscaled-failure-noticed"])
def test_a_solver_that_cannot_start_refutes_no_claim(
    name: str, small_real: ModelSnapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = Setting(seed=3, real=small_real)
    claims = [claim for claim in ALL_CLAIMS if claim.id == name]
    monkeypatch.setattr(pulp.PULP_CBC_CMD, "pulp_cbc_path", "no-such-program")
    entries = list(run(claims, setting))
    assert [entry.outcome for entry in entries] == [Outcome.UNTRIED]
    assert "gave no answer" in entries[0].check.evidence
    assert exit_code(document(entries, setting)) == 2
