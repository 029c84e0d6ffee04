"""A tiny model and data that it can learn, for the runs of a module."""

from pathlib import Path

import pytest

from tests.pins.runs.tiny_runs import save_data, save_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_data(tmp_path_factory.mktemp("data"))
