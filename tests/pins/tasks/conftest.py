from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).parents[3].parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The original files of some tasks, which the project does not ship."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"{SHARED_DATA} is not there: it holds the original files of the tasks")
    return SHARED_DATA


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's client told not to connect, with an empty cache: its own settings."""
    datasets = pytest.importorskip("datasets")
    hub = pytest.importorskip("huggingface_hub")
    cache = str(tmp_path / "cache")
    for module, name, value in [
        (datasets.config, "HF_HUB_OFFLINE", True),
        (datasets.config, "HF_DATASETS_CACHE", cache),
        (datasets.config, "HF_MODULES_CACHE", cache),
        (hub.constants, "HF_HUB_OFFLINE", True),
        (hub.constants, "HF_HUB_CACHE", cache),
    ]:
        monkeypatch.setattr(module, name, value)
