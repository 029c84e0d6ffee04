"""A report that is written in part is not finished, and the same command writes it again."""

import json
import shutil
from pathlib import Path

import pytest

from pins.errors import FileError
from pins.utils.folder_lock import LOCK
from tests.full_disk import files_of_at_most
from verification.experiments.run_reader import RunData

pytest.importorskip("transformers", reason="the demo's model is a transformers model")
report = pytest.importorskip("verification.demo.report", reason="the page is a Jinja template")


def test_a_report_that_a_full_disk_stops_is_not_finished_and_can_be_written_again(
    demo_folder: Path, tmp_path: Path
) -> None:
    results = json.loads((demo_folder / "results.json").read_text())
    copy = shutil.copytree(demo_folder, tmp_path / "report")
    report.start(copy)
    shutil.copy(demo_folder / "sample.safetensors", copy)
    figures = {file.stem: file.read_text() for file in (demo_folder / "figures").iterdir()}
    too_large = pytest.raises(FileError, match=r"\.svg cannot be written: File too large")
    with too_large, files_of_at_most(4000):
        report.write(results, figures, copy)
    assert not (copy / "index.html").exists()
    assert list((copy / "figures").iterdir()) == []
    with pytest.raises(FileError, match="holds a run that is not finished"):
        _ = RunData(copy).document
    (copy / LOCK).touch()  # what a killed process leaves
    report.start(copy)
    shutil.copy(demo_folder / "sample.safetensors", copy)
    report.write(results, figures, copy)
    assert (copy / "index.html").read_text() == (demo_folder / "index.html").read_text()
    assert RunData(copy).document
