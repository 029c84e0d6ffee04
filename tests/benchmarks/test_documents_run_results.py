"""What documents quote of a run is copied, and nothing but a run that is done."""

import sys
from pathlib import Path

import pytest

from benchmarks.documents import run_results
from benchmarks.harness.cli import execute
from benchmarks.harness.results import RESULTS
from pins.errors import FileError
from verification.experiments.run_reader import RunData


@pytest.fixture
def report() -> Path:
    """What a demo left, as far as it is committed."""
    return RESULTS / "demo"


def test_a_demo_is_kept_whole(report: Path, tmp_path: Path) -> None:
    target = run_results.keep(report, tmp_path)
    assert target == tmp_path / "demo"
    kept, whole = RunData(target), RunData(report)
    assert kept.document == whole.document
    assert (target / "sample.safetensors").read_bytes() == (
        report / "sample.safetensors"
    ).read_bytes()
    assert {file.name for file in target.iterdir()} == {"results.json", "sample.safetensors"}


def test_a_run_of_pins_prune_is_kept_under_its_criterion(tmp_path: Path) -> None:
    for name in ("prune-pins", "prune-abs-pins"):
        assert run_results.keep(RESULTS / name, tmp_path) == tmp_path / name
        assert RunData(tmp_path / name).document == RunData(RESULTS / name).document


def test_a_run_without_its_sample_is_not_kept(report: Path, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_bytes((report / "results.json").read_bytes())
    with pytest.raises(FileError, match=r"holds no sample\.safetensors"):
        run_results.keep(tmp_path, tmp_path)
    assert not (tmp_path / "demo").exists()


def test_what_is_no_run_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["run_results", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        execute(run_results.main)
    assert stopped.value.code == 2
    assert "benchmarks: " in (err := capsys.readouterr().err)
    assert err.count("\n") == 1
