"""Rows in the layout of the hub, read by its real client, and one line where there are none."""

import logging
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from pins.errors import TaskError
from pins.tasks.readers.hub import hub_rows
from tests.pins.tasks.hubs import save_hub

pytestmark = pytest.mark.usefixtures("hub_cache")

ROWS: list[dict[str, Any]] = [
    {"text": "a\nb", "label": 1, "tags": [0, 1], "score": 0.5},
    {"text": "", "label": -1, "tags": [1], "score": 5.0},
    {"text": "c", "label": None, "tags": [0], "score": None},
]


@pytest.fixture
def saved(tmp_path: Path) -> str:
    splits = {("one", "train"): ROWS, ("two", "test"): ROWS[:1]}
    return str(save_hub(tmp_path / "hub", splits, {"label": ("no", "yes"), "tags": ("O", "B")}))


def test_rows_come_with_the_names_of_their_classes(saved: str) -> None:
    assert hub_rows(saved, "one", "train") == [
        {"text": "a\nb", "label": "yes", "tags": ["O", "B"], "score": 0.5},
        {"text": "", "label": None, "tags": ["B"], "score": 5.0},
        {"text": "c", "label": None, "tags": ["O"], "score": None},
    ]
    assert len(hub_rows(saved, "two", "test")) == 1


def test_without_a_config_a_data_set_has_its_only_one(tmp_path: Path) -> None:
    saved = save_hub(tmp_path / "hub", {("default", "train"): [{"text": "a"}]}, {})
    assert hub_rows(str(saved), None, "train") == [{"text": "a"}]


@pytest.mark.parametrize(
    ("config", "split", "reason"),
    [
        ("three", "train", "ValueError: BuilderConfig 'three' not found"),
        ("two", "train", 'ValueError: Unknown split "train"'),
    ],
)
def test_a_config_or_a_split_that_is_missing_is_one_line(
    saved: str, config: str, split: str, reason: str
) -> None:
    pattern = (
        rf"\Athe hub did not give {re.escape(saved)} {config} {split} \({re.escape(reason)}.*\): "
        r"give --data with the folder of the original files\Z"
    )
    with pytest.raises(TaskError, match=pattern):
        hub_rows(saved, config, split)


def test_out_of_reach_is_one_line() -> None:
    pattern = (
        r"\Athe hub did not give nyu-mll/glue rte train \(ConnectionError: .*\): "
        r"give --data with the folder of the original files\Z"
    )
    with pytest.raises(TaskError, match=pattern):
        hub_rows("nyu-mll/glue", "rte", "train")


def test_no_rows_are_one_line(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "train.csv").write_text("text,label\n")
    with pytest.raises(
        TaskError, match=r"\Athe hub .*corresponds to no data.*: give --data with .*\Z"
    ):
        hub_rows(str(tmp_path / "hub"), None, "train")


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    pattern = (
        r"\Anyu-mll/glue rte train needs datasets, .* \(pip install datasets\), or give --data"
    )
    with pytest.raises(TaskError, match=pattern):
        hub_rows("nyu-mll/glue", "rte", "train")


def test_reading_prints_nothing_and_leaves_the_client_as_it_was(
    saved: str, capfd: pytest.CaptureFixture[str]
) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.enable_progress_bars()
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    capfd.readouterr()
    hub_rows(saved, "one", "train")
    with pytest.raises(TaskError):
        hub_rows(saved, "three", "train")
    assert capfd.readouterr() == ("", "")
    assert datasets.is_progress_bar_enabled()
    assert logger.level == level
    # the same without being quiet
    datasets.load_dataset(saved, "two", split="test", download_mode="force_redownload")
    assert capfd.readouterr().err
