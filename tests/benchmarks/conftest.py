"""What several benchmarks of one-shot pruning are tried on."""

from typing import Any

import pytest

from tests.pins.oneshot.tiny_decoders import save_decoder, save_text


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A tiny decoder and a text."""
    folder = tmp_path_factory.mktemp("given")
    return {"model": str(save_decoder(folder / "a-model")), "data": save_text(folder / "a.txt")}
