"""Windows: which tokens are scored, what is left, and perplexity by a stated protocol."""

import hashlib
from math import exp
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pins.errors import CalibrationError, TaskError
from pins.oneshot.run import OneShot
from pins.oneshot.settings import Settings
from pins.oneshot.text import drawn, plain_text, sliding
from pins.tasks.language_modeling import RECIPE, LanguageModeling, tokens_of
from pins.tasks.task import Task
from pins.tasks.text_classification import Example, TextClassification
from tests.pins.oneshot.tiny_decoders import network, save_decoder, tokenizer

NAMED: dict[str, Any] = {
    "name": "t",
    "question": "?",
    "labels": (),
    "test": (),
    "digests": {},
    "recipe": RECIPE,
}


def text_of(numbers: range | list[int]) -> str:
    return " ".join(f"t{number}" for number in numbers)


@given(data=st.data(), length=st.integers(2, 12))
def test_each_token_is_scored_once(data: st.DataObject, length: int) -> None:
    total = data.draw(st.integers(length, 60))
    stride = data.draw(st.integers(1, length))
    most = data.draw(st.none() | st.integers(1, 6))
    windows = sliding(text_of(range(total)), tokenizer(), length, stride, most)
    assert len(windows) == min((total - length) // stride + 1, most or total)
    scored: list[int] = []
    for tokens, known in zip(windows.tokens, windows.known, strict=True):
        assert tokens.shape == (1, length)
        assert known >= 1
        first = int(tokens[0, 0])
        assert tokens[0].tolist() == list(range(first, first + length))
        scored += range(first + known, first + length)
    end = total - windows.rest
    unseen = range(0, end, length) if stride == length else range(1)  # without a token before
    assert scored == [number for number in range(end) if number not in unseen]
    assert windows.scored == len(scored)
    assert most is not None or windows.rest < stride


@given(total=st.integers(6, 40), number=st.integers(1, 10), seed=st.integers(0, 99))
def test_drawn_windows_begin_at_different_places(total: int, number: int, seed: int) -> None:
    text = text_of(range(total))
    if total - 5 < number:
        with pytest.raises(CalibrationError, match=f"has {total} tokens, and {number} windows"):
            drawn(text, tokenizer(), 6, number, seed)
        return
    windows = drawn(text, tokenizer(), 6, number, seed)
    starts = [int(each[0, 0]) for each in windows.tokens]
    assert len(set(starts)) == number
    assert all(
        each[0].tolist() == list(range(start, start + 6))
        for each, start in zip(windows.tokens, starts, strict=True)
    )
    assert windows.scored == 0
    again = drawn(text, tokenizer(), 6, number, seed)
    assert all(map(torch.equal, windows.tokens, again.tokens))


def test_a_text_shorter_than_a_window_is_refused() -> None:
    with pytest.raises(CalibrationError, match="has 3 tokens, fewer than one window of 4"):
        sliding("t1 t2 t3", tokenizer(), 4, 4, None)
    with pytest.raises(CalibrationError, match="has 0 tokens, fewer than one window of 4"):
        sliding("", tokenizer(), 4, 4, None)


def test_the_text_is_that_of_the_rows() -> None:
    lines = LanguageModeling(name="text", train=("a\n", "b\n"), test=(), digests={})
    assert plain_text(lines, lines.train) == "a\nb\n"
    rows = (Example("a", 0), Example("b", 0))
    assert plain_text(task_of(rows), rows) == "a\n\nb\n\n"
    pairs = (Example("a", 0, "c"),)
    with pytest.raises(TaskError, match="t has no plain text"):
        plain_text(task_of(pairs), pairs)


def task_of(rows: tuple[Example, ...]) -> Task:
    return TextClassification(train=rows, **NAMED)


def test_special_tokens_are_not_added() -> None:
    assert tokens_of("t3 t4", tokenizer()) == [3, 4]
    text = "t3 t4 t5"
    windows = sliding(text, tokenizer(), 2, 2, None)
    assert windows.text_sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert windows.rest == 1


def by_protocol(model: Any, ids: list[int], width: int, stride: int) -> tuple[float, int]:
    """exp(mean −log p) in float64 over whole windows; a token counts where it is first seen."""
    total, count, done = 0.0, 0, 0
    for start in range(0, len(ids) - width + 1, stride):
        piece = ids[start : start + width]
        with torch.no_grad():
            logs = torch.log_softmax(model(torch.tensor([piece])).logits[0], -1)
        for j in range(1, width):
            if start + j >= done:
                total -= logs[j - 1, piece[j]].item()
                count += 1
        done = start + width
    return exp(total / count), count


@pytest.mark.parametrize(("width", "stride"), [(32, 32), (16, 16), (32, 16), (16, 5)])
def test_perplexity_is_that_of_the_protocol(width: int, stride: int, tmp_path: Path) -> None:
    model, data = save_decoder(tmp_path / "model"), tmp_path / "data"
    ids = torch.randint(3, 50, (203,), generator=torch.Generator().manual_seed(0)).tolist()
    data.mkdir()
    for name in ("train", "test"):
        (data / f"{name}.txt").write_text(text_of(ids) + "\n")
    settings = Settings(
        model=str(model), task="text", data=data, sparsity=0.0, method="magnitude",
        length=width, stride=stride, test_windows=None, calibration=2, device="cpu",
    )  # fmt: skip
    run = OneShot(settings, tmp_path / "out")
    run.folder.begin(settings.as_json(), resume=False)
    assert len([*run.blocks()]) == 2
    losses = run.losses()
    found = {name: run.perplexity(each) for name, each in losses.items()}
    right, count = by_protocol(network("Llama").double(), ids, width, stride)
    assert run.test.scored == count
    assert found["dense"] == pytest.approx(right, rel=1e-5)
    assert found["sparse"] == found["dense"]
    assert losses["sparse"] == losses["dense"]
    assert run.test.rest == (203 - width) % stride
