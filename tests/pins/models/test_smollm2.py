"""SmolLM2 as its package brings it."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pins.errors import ModelError
from pins.models import smollm2
from pins.models.decoder import Decoder


def test_without_its_package_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ModelError, match="'smollm2' is not installed: run make model"):
        smollm2.folder()


@pytest.mark.parametrize(("content", "why"), [(None, "is missing"), (b"other", "has SHA-256")])
def test_another_file_is_refused(
    content: bytes | None, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (tmp_path / smollm2.FILE).write_bytes(content)
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)
    with pytest.raises(ModelError, match=f"{why}.*run make model again"):
        smollm2.folder()


@pytest.mark.model
def test_it_is_a_decoder_that_speaks_english() -> None:
    if importlib.util.find_spec(smollm2.PACKAGE) is None:
        pytest.skip("the model smollm2 is not installed: make model")
    decoder = Decoder.open(smollm2.NAME)
    assert len(decoder) == 30
    assert decoder.nbytes == 4 * 134_515_008
    text = "The capital of France is Paris, and the capital of Italy is Rome."
    state = decoder.first(torch.tensor([decoder.tokenizer(text)["input_ids"]]))
    for number in range(len(decoder)):
        with decoder.loaded(number) as block:
            state = decoder.through(block, number, state)
    assert decoder.losses(state).mean() < 3
