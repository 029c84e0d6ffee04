import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.harness import process
from benchmarks.harness.goals import MedianRange
from benchmarks.harness.process import fresh
from benchmarks.overhead import driver, training_steps
from benchmarks.overhead.driver import measure, table
from benchmarks.overhead.goals import compared, verdicts
from benchmarks.overhead.training_steps import (
    DENSE,
    INTERVAL,
    REGULARIZED,
    VARIANTS,
    Training,
    Workload,
)
from pins.errors import FileError, SettingError
from pins.utils.provenance import provenance

pytest.importorskip("transformers", reason="the networks are transformers models")

SMOKE = Workload("smoke", 4, 8, "cpu", "float32")


def document(rows: list[dict[str, Any]], kind: str = "cpu") -> dict[str, Any]:
    device = {"kind": kind, "name": "a device", "teacher": "float32", "memory": "the most"}
    settings = {"interval": INTERVAL, "rounds": 2}
    return {"device": device, "settings": settings, "provenance": provenance(), "rows": rows}


def row(
    variant: str, seconds: list[float] | None, peak: int | None, **given: Any
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "seconds": seconds,
        "peak_bytes": peak,
        "errors": {},
        "variant": variant,
    }
    place = {"network": "bert-base", "precision": "float32", "batch": 8, "length": 64}
    return {**place, "weights": 10, **found, **given}


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    """Two variants, measured as anyone would, on a tiny network."""
    return measure(SMOKE, 2, (DENSE, REGULARIZED))


def test_a_row_has_the_time_of_each_round_and_a_peak_of_memory(rows: list[dict[str, Any]]) -> None:
    assert [found["variant"] for found in rows] == [DENSE, REGULARIZED]
    for found in rows:
        assert not found["errors"]
        assert len(found["seconds"]) == 2
        assert all(seconds > 0 for seconds in found["seconds"])
        assert found["peak_bytes"] > 0
        network = training_steps._classifier("smoke")
        assert found["weights"] == sum(parameter.numel() for parameter in network.parameters())


def test_the_table_is_made_from_the_results_file_alone(
    rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "overhead-cpu.json").write_text(json.dumps(document(rows)))
    driver.run(out=tmp_path, render_only=True)
    text = (tmp_path / "overhead-cpu.md").read_text()
    assert text == table(document(rows))
    assert f"| + {REGULARIZED} |" in text


@pytest.mark.parametrize("name", VARIANTS)
def test_every_turn_of_a_variant_holds_one_decision_and_one_new_teacher(name: str) -> None:
    training = Training(SMOKE, VARIANTS[name], steps=2 * INTERVAL)
    pruner, regularizer = training._pruner, training._regularizer
    assert (pruner is not None) == (VARIANTS[name].criterion is not None)
    assert (regularizer is not None) == VARIANTS[name].self_regularization

    def taught() -> bool:
        assert regularizer is not None
        own, student = regularizer.teacher.parameters(), training.model.parameters()
        return all(torch.equal(a, b.to(a.dtype)) for a, b in zip(own, student, strict=True))

    training.run(INTERVAL - 1)
    if pruner is not None:
        assert pruner.decision is None
    if regularizer is not None:
        assert not taught()
    training.run(1)
    if pruner is not None:
        assert pruner.decision is not None
        assert pruner.sparsity > 0
    if regularizer is not None:
        assert taught()


def test_variants_start_from_the_same_weights_and_rows() -> None:
    first, second = (Training(SMOKE, VARIANTS[n], steps=INTERVAL) for n in (DENSE, REGULARIZED))
    for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)
    for name, tensor in first._batch.items():
        assert torch.equal(tensor, second._batch[name])


def test_time_is_compared_round_by_round() -> None:
    dense, other = compared(
        [row(DENSE, [1.0, 2.0, 4.0], 100), row("obd", [1.5, 2.0, 5.0], 130, errors={})]
    )
    assert dense["time"] == MedianRange(0.0, 0.0, 0.0)
    assert other["time"] == MedianRange(0.25, 0.0, 0.5)
    assert other["memory"] == pytest.approx(0.3)


def test_a_failure_is_a_row() -> None:
    wrong = Workload("smoke", 4, 8, "cpu", "float7")
    (text,) = training_steps.step_seconds(wrong, [DENSE], 1).values()
    assert text.startswith("DeviceError: there is no precision 'float7'")
    assert fresh(int, "x") == "ValueError: invalid literal for int() with base 10: 'x'"
    assert "the process was killed" in fresh(os._exit, 1)
    failed = [row(DENSE, [1.0], 10), row(REGULARIZED, None, 10, errors={"seconds": "Error: no"})]
    assert compared(failed)[1]["time"] is None
    shown = table(document(failed))
    assert f"| + {REGULARIZED} | failed | – | 0 MB | +0.0 % |" in shown
    assert f"{REGULARIZED}: seconds failed with Error: no" in shown


def judged(rows: list[dict[str, Any]], kind: str) -> str:
    return "\n".join(verdicts(document(rows, kind)))


def test_the_goal_of_self_regularisation_is_judged_on_a_gpu_alone() -> None:
    rows = [row(DENSE, [1.0], 100), row(REGULARIZED, [1.2], 116)]
    assert "time +20 % met, memory +16 % missed by 1.0 points" in judged(rows, "cuda")
    slower = [row(DENSE, [1.0], 100), row(REGULARIZED, [1.21], 115)]
    assert "time +21 % missed by 1.0 points, memory +15 % met" in judged(slower, "cuda")
    assert f"{REGULARIZED} in" not in judged(rows, "cpu")
    smaller = [{**found, "network": "minilm"} for found in rows]
    assert f"{REGULARIZED} in" not in judged(smaller, "cuda")


def test_pruning_is_judged_by_what_it_keeps() -> None:
    rows = [
        row(DENSE, [1.0], 1000),
        row("obd", [1.02], 1011),
        row("abs-pins, average", [1.079], 1109, prunable_bytes=100),
        row("abs-pins, uncertainty", [1.09], 1211, prunable_bytes=100),
    ]
    text = judged([{**found, "network": "minilm"} for found in rows], "cpu")
    assert "obd in float32: time +2.0 % met, memory +1.1 % missed by 0.1 points." in text
    assert "abs-pins, average in float32: time +7.9 % met, memory +11 % met." in text
    assert (
        "abs-pins, uncertainty in float32: time +9.0 % missed by 1.0 points, "
        "memory +21 % missed by 0.1 points." in text
    )
    failed = [{**row(n, [1.0], None), "network": "minilm"} for n in (DENSE, "obd")]
    assert "obd in float32: not measured." in judged(failed, "cpu")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="inherited on Linux alone")
def test_the_peak_of_a_fresh_process_is_its_own() -> None:
    held = bytearray(512 << 20)
    parent = process.peak_resident()
    assert parent >= len(held)
    assert fresh(process.peak_resident) < parent - len(held) // 2


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        SettingError, match="no network 'bert-huge': choose one of bert-base, minilm"
    ):
        driver.run(networks="bert-huge", out=tmp_path)
    for batch in ("8", "0x64", "8xa"):
        with pytest.raises(SettingError, match="give rows x tokens, such as 8x64"):
            driver.run(networks="smoke", batch=batch, out=tmp_path)
    with pytest.raises(FileError, match=r"holds no overhead-\*\.json: measure first"):
        driver.run(out=tmp_path, render_only=True)
    (tmp_path / "overhead-cpu.json").write_text("[]")
    with pytest.raises(FileError, match="is not a results file: it holds no rows"):
        driver.run(out=tmp_path, render_only=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_a_gpu_is_measured_in_both_precisions() -> None:
    found = list(driver.workloads(["smoke"], "cuda", (4, 8)))
    assert [workload.precision for workload in found] == ["bfloat16", "float32"]
    for workload in found:
        for measured in measure(workload, 2, (DENSE, REGULARIZED)):
            assert not measured["errors"]
            assert measured["peak_bytes"] > 0
