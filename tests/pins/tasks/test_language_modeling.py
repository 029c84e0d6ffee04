"""Blocks of a stream of tokens, and perplexity as a computation written out on a tiny GPT-2."""

import hashlib
import logging
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pins.errors import TaskError
from pins.models.batches import IGNORED, Encoded
from pins.models.heads import CAUSAL
from pins.models.pretrained import Pretrained, load_model
from pins.tasks import language_modeling
from pins.tasks.language_modeling import (
    LanguageModeling,
    load_text,
    load_wikitext,
)
from tests.pins.tasks.hubs import save_hub
from tests.tiny_model import WORDS

LINES = ("the function returns a value\n", "\n", "in a class of the module\n", "object list\n")
WORDS_IN_LINES = 5 + 6 + 2


def save_tiny_gpt2(folder: Path) -> Path:
    """A GPT-2 of random weights, large enough that no two tokens are alike to it."""
    pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate(["<end>", "<unk>", *WORDS.split()])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<end>", model_max_length=16
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(vocabulary),
        n_positions=16,
        n_embd=16,
        n_layer=2,
        n_head=2,
        initializer_range=0.5,
        bos_token_id=0,
        eos_token_id=0,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Pretrained:
    return load_model(str(save_tiny_gpt2(tmp_path_factory.mktemp("gpt2"))), (CAUSAL,), seed=0)


def task(*lines: str) -> LanguageModeling:
    return LanguageModeling(name="text", train=lines, test=lines)


def encode_blocks(lines: Sequence[str], tokenizer: Any, length: int) -> Encoded:
    return task().encode(lines, tokenizer, length, CAUSAL, train=True)


def blocks(encoded: Any) -> list[list[int]]:
    return [list(feature["input_ids"]) for feature in encoded.features]


class Letters:
    """A tokenizer of letters, a = 1; it knows no special tokens."""

    pad_token_id = 99

    def __call__(self, text: str, **options: Any) -> dict[str, list[int]]:
        assert options.pop("add_special_tokens") is False
        return {"input_ids": [ord(letter) - 96 for letter in text if letter.isalpha()]}


@given(st.lists(st.text("abc \n", max_size=9)), st.integers(2, 9))
def test_blocks_are_the_stream_cut(lines: list[str], length: int) -> None:
    stream = [ord(letter) - 96 for letter in "".join(lines) if letter.isalpha()]
    if len(stream) < 2:
        with pytest.raises(TaskError, match=rf"make {len(stream)} tokens, .* a block needs two"):
            encode_blocks(lines, Letters(), length)
        return
    found = blocks(encode_blocks(lines, Letters(), length))
    joined = [token for block in found for token in block]
    # a last block of one token predicts nothing
    assert joined == (stream[:-1] if len(stream) % length == 1 else stream)
    assert all(len(block) == length for block in found[:-1])
    assert 2 <= len(found[-1]) <= length


def test_a_short_block_is_filled_up_and_its_filling_predicts_nothing() -> None:
    encoded = encode_blocks(["abcde\n", "fg"], Letters(), 5)
    batch = encoded.batch([0, 1])
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 5], [6, 7, 99, 99, 99]]
    assert batch["attention_mask"].tolist() == [[1] * 5, [1, 1, 0, 0, 0]]
    assert batch["labels"].tolist() == [[1, 2, 3, 4, 5], [6, 7, IGNORED, IGNORED, IGNORED]]


def test_a_block_of_one_token_is_refused() -> None:
    with pytest.raises(
        TaskError, match=r"\A1 lines of text make 3 tokens, in blocks of 1: a block"
    ):
        encode_blocks(["abc"], Letters(), 1)


def test_a_text_longer_than_the_model_reads_is_no_matter_to_warn_of(
    pretrained: Pretrained, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    encoded = encode_blocks(LINES * 3, pretrained.tokenizer, 7)
    tokens = [token for block in blocks(encoded) for token in block]
    words = pretrained.tokenizer.convert_ids_to_tokens(tokens)
    assert words == " ".join(LINES * 3).split()[: len(words)]
    assert len(words) > pretrained.tokenizer.model_max_length
    assert not caplog.records
    pretrained.tokenizer("".join(LINES * 3))
    assert "longer than the specified maximum" in caplog.text


def negative_log_likelihoods(model: Any, tokens: list[int], length: int) -> list[float]:
    """−log p of each predicted token in float64, block by block and token by token."""
    found = []
    for at in range(0, len(tokens), length):
        block = tokens[at : at + length]
        for end in range(1, len(block)):
            with torch.no_grad():
                logits = model.eval()(torch.tensor([block[:end]])).logits[0, -1].double()
            found.append(-logits.log_softmax(-1)[block[end]].item())
    return found


@pytest.mark.parametrize("batch_size", [1, 2, 5])
@pytest.mark.parametrize("length", [2, 5, 12, 16])
def test_perplexity_is_as_written_out(pretrained: Pretrained, length: int, batch_size: int) -> None:
    model, tokenizer = pretrained.model, pretrained.tokenizer
    evaluated = task(*LINES)
    encoded = evaluated.encode(LINES, tokenizer, length, CAUSAL, train=False)
    scores = evaluated.evaluate(model, tokenizer, encoded, CAUSAL, batch_size=batch_size)
    tokens = tokenizer("".join(LINES))["input_ids"]
    assert len(tokens) == WORDS_IN_LINES
    losses = negative_log_likelihoods(model, tokens, length)
    mean = sum(losses) / len(losses)
    assert scores["loss"] == pytest.approx(mean, rel=1e-5)
    assert scores["perplexity"] == pytest.approx(math.exp(mean), rel=1e-5)
    assert scores[evaluated.metric] == scores["perplexity"]
    assert not evaluated.higher_is_better


def test_blocks_count_by_their_tokens(pretrained: Pretrained) -> None:
    model: Any = pretrained.model
    evaluated = task(*LINES)
    encoded = evaluated.encode(LINES, pretrained.tokenizer, 10, CAUSAL, train=False)
    assert [len(block) for block in blocks(encoded)] == [10, 3]
    scores = evaluated.evaluate(model, pretrained.tokenizer, encoded, CAUSAL, batch_size=1)
    with torch.no_grad():
        losses = [
            model.eval()(torch.tensor([block]), labels=torch.tensor([block])).loss.item()
            for block in blocks(encoded)
        ]
    assert scores["loss"] == pytest.approx((9 * losses[0] + 2 * losses[1]) / 11, rel=1e-5)
    assert scores["loss"] != pytest.approx(sum(losses) / 2, rel=1e-3)


def test_word_perplexity_counts_words_and_not_tokens(pretrained: Pretrained) -> None:
    evaluated = task(*LINES)
    tokenizer: Any = pretrained.tokenizer

    def scores(*lines: str) -> Any:
        encoded = evaluated.encode(lines, tokenizer, 16, CAUSAL, train=False)
        return evaluated.evaluate(pretrained.model, tokenizer, encoded, CAUSAL, batch_size=2)

    words = scores("the value in a list\n")
    assert words["word_perplexity"] == pytest.approx(words["perplexity"])
    # "(" and ")" are tokens of their own: 5 words of 7 tokens
    tokens = scores("the value (in a) list\n")
    assert tokens["word_perplexity"] == pytest.approx(math.exp(tokens["loss"] * 7 / 5))


def test_a_perplexity_beyond_all_numbers_is_infinite(pretrained: Pretrained) -> None:
    evaluated = task(*LINES)
    encoded = evaluated.encode(LINES, pretrained.tokenizer, 8, CAUSAL, train=False)

    class Sure(nn.Module):
        """All but certain that every next token is number 0, which it never is."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(32, 32))
            self.weight.data[:, 0] = 1e5

        def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
            return type("Output", (), {"logits": self.weight[input_ids]})

    scores = evaluated.evaluate(Sure(), pretrained.tokenizer, encoded, CAUSAL, batch_size=8)
    assert scores["perplexity"] == math.inf
    assert scores["loss"] == pytest.approx(1e5)


def test_a_sample_is_a_text_and_no_lines_from_here_and_there() -> None:
    rows = tuple(f"line {number}\n" for number in range(50))
    assert task(*rows).sample(rows, 20, 3) == rows[:20]
    assert task(*rows).sample(rows, 99, 3) == rows


@given(st.lists(st.text("ab \n", min_size=1, max_size=30), min_size=2, max_size=60))
def test_held_out_is_the_end_of_the_text(rows: list[str]) -> None:
    train, held_out = task(*rows).hold_out(rows, 0)
    assert held_out
    if len(train) < len(rows):
        assert [*train, *held_out] == rows
        # one line fewer would be too little
        size = sum(map(len, rows)) * 5 // 100
        assert sum(len(row.strip()) for row in held_out[1:]) <= size
    else:  # the text is too short to do without any of it
        assert len(held_out) == len(rows)


def test_held_out_is_not_the_whole_of_a_long_text_and_has_words() -> None:
    rows = [*("word " * 20 + "\n" for _ in range(100_000)), *([" \n"] * 500)]
    train, held_out = task(*rows).hold_out(rows, 0)
    assert len(train) + len(held_out) == len(rows)
    assert 100_000 <= sum(map(len, held_out)) < 105_000


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content, encoding="utf-8")
    return folder


@pytest.mark.parametrize("suffix", ["{}__txt", "wiki__{}__tokens", "wiki__{}__raw"])
def test_wikitext_is_read_under_each_of_its_names(tmp_path: Path, suffix: str) -> None:
    files = {suffix.format(split): f" \n = {split} = \n" for split in ("train", "valid", "test")}
    found = load_wikitext(write(tmp_path, **files))
    assert found.train == (" \n", " = train = \n")
    assert found.test == (" \n", " = test = \n")
    train = suffix.format("train").replace("__", ".")
    assert found.digests[train] == hashlib.sha256(b" \n = train = \n").hexdigest()
    assert found.heads == (CAUSAL,)
    assert found.labels == ()


@pytest.mark.parametrize("name", ["valid", "validation", "val", "dev", "eval"])
def test_a_text_without_test_rows_is_tested_on_its_validation_rows(
    tmp_path: Path, name: str
) -> None:
    found = load_text(write(tmp_path, train__txt="a\n", **{f"{name}__txt": "b\n"}))
    assert (found.train, found.test, found.split) == (("a\n",), ("b\n",), "validation")
    write(tmp_path, test__txt="c\n")
    found = load_text(tmp_path)
    assert (found.test, found.split) == (("c\n",), "test")


def test_wikitext_files_of_two_kinds_are_not_mixed(tmp_path: Path) -> None:
    write(tmp_path, train__txt="a\n", wiki__test__raw="b\n")
    with pytest.raises(
        TaskError, match=r"\A.* holds neither train.txt and test.txt, nor wiki.train"
    ):
        load_wikitext(tmp_path)


@pytest.mark.usefixtures("hub_cache")
def test_wikitext_of_the_hub_is_the_original_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the hub's rows: a line each, but blank ones without their ends
    rows = [{"text": text} for text in ("", " = Title = \n", "", " Words . \n")]
    splits = {("wikitext-2-raw-v1", split): rows for split in ("train", "test")}
    hub = save_hub(tmp_path / "hub", splits, {})
    monkeypatch.setattr(language_modeling, "HUB", str(hub))
    found = load_wikitext()
    assert "".join(found.train) == " \n = Title = \n \n Words . \n"
    assert list(found.digests) == [
        f"{hub} wikitext-2-raw-v1 {split}" for split in ("train", "test")
    ]


@pytest.mark.usefixtures("hub_cache")
def test_wikitext_without_the_hub_says_to_give_the_files() -> None:
    with pytest.raises(TaskError, match=r"did not give Salesforce/wikitext .*: give --data with"):
        load_wikitext()


@pytest.mark.parametrize(("lines", "train"), [(2, 1), (10, 9), (19, 18), (20, 18), (100, 90)])
def test_the_last_tenth_of_a_file_is_what_it_is_judged_by(
    tmp_path: Path, lines: int, train: int
) -> None:
    file = tmp_path / "any.text"
    content = [f"{number}\n" for number in range(lines)]
    file.write_text("".join(content))
    found = load_text(file)
    assert found.train == tuple(content[:train])
    assert found.test == tuple(content[train:])
    assert list(found.digests) == ["any.text"]


def test_a_folder_of_texts_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    write(tmp_path, b__txt="3\n4", a__txt="1\n2\n", c__md="5\n")
    found = load_text(tmp_path)
    assert (*found.train, *found.test) == ("1\n", "2\n", "3\n", "4\n")
    assert len(found.test) == 1
    assert list(found.digests) == ["a.txt", "b.txt"]


def test_a_folder_with_train_and_test_is_split_already(tmp_path: Path) -> None:
    found = load_text(write(tmp_path, train__txt="1\n2\n", test__txt="3\n", valid__txt="4\n"))
    assert (found.train, found.test) == (("1\n", "2\n"), ("3\n",))


def test_what_is_no_text_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"\Atext has no data of its own: give --data with a text"):
        load_text(None)
    with pytest.raises(TaskError, match=r"\A.* holds no .txt file: give a text file or a folder"):
        load_text(tmp_path)
    with pytest.raises(TaskError, match=r"\A.*none cannot be read \(No such file or directory\)"):
        load_text(tmp_path / "none")
    for content, message in [
        (b"one line", r" has one line: give two or more"),
        (b"", r" is empty: give the original file"),
        (b"a\nb\xff\n", r", line 2: expected UTF-8, came the byte 0xff"),
    ]:
        (tmp_path / "text").write_bytes(content)
        with pytest.raises(TaskError, match=rf"\A{re.escape(str(tmp_path / 'text'))}{message}"):
            load_text(tmp_path / "text")


def test_the_real_wikitext_is_read_as_it_is(shared_data: Path, pretrained: Pretrained) -> None:
    found = load_wikitext(shared_data / "wikitext-2")
    assert len(found.test) == 4358
    assert len("".join(found.test).split()) == 241_211  # as wc counts
    original = (shared_data / "wikitext-2" / "test.txt").read_text(encoding="utf-8")
    assert "".join(found.test) == original
    some = found.sample(found.test, 30, 0)
    encoded = found.encode(some, pretrained.tokenizer, 16, CAUSAL, train=False)
    scores = found.evaluate(pretrained.model, pretrained.tokenizer, encoded, CAUSAL, batch_size=64)
    assert 1 < scores["perplexity"] < math.inf
