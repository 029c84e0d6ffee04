"""Tokenizers written in Python, with vocabulary files of their own: BERTweet and Marian."""

import importlib.util
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pins.errors import ModelError
from pins.models.heads import CLASSIFICATION, SEQ2SEQ
from pins.models.pretrained import load_model

transformers = pytest.importorskip("transformers", reason="tokenizers of transformers")

TEXT = "the mask keeps k"
BERTWEET = {
    "vocab.txt": "the 9\nmask 8\nke@@ 7\neps 6\nk 5\nm 4\nmas@@ 3\nweights 2\n",
    # a merge and its count, as in the released files
    "bpe.codes": "t h 9\nth e</w> 8\nm a 7\nma s 6\nmas k</w> 5\nk e 4\ne p 3\nep s</w> 2\n",
}
MARIAN = ("source.spm", "target.spm", "vocab.json")


def bertweet(folder: Path) -> Path:
    """A tiny RoBERTa with the files of BERTweet's tokenizer."""
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.RobertaConfig(
        vocab_size=16, num_hidden_layers=1, tokenizer_class="BertweetTokenizer", **sizes
    )
    transformers.RobertaForSequenceClassification(config).save_pretrained(folder)
    for name, text in BERTWEET.items():
        (folder / name).write_text(text)
    return folder


def marian(folder: Path) -> Path:
    """A tiny Marian; its words are those of two small sentencepiece models."""
    sentencepiece = pytest.importorskip("sentencepiece", reason="what Marian's tokenizer needs")
    folder.mkdir()
    words: list[str] = []
    for side, size in (("source", 30), ("target", 28)):
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([TEXT, "the quick brown fox", "a mask of weights"] * 9),
            model_writer=model, vocab_size=size, hard_vocab_limit=False, minloglevel=2,
        )  # fmt: skip
        (folder / f"{side}.spm").write_bytes(model.getvalue())
        pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
        words += [pieces.id_to_piece(i) for i in range(3, pieces.get_piece_size())]
    numbers = {word: i for i, word in enumerate(dict.fromkeys(["</s>", "<unk>", *words, "<pad>"]))}
    (folder / "vocab.json").write_text(json.dumps(numbers))
    layers = {f"{side}_{what}": 2 for side in ("encoder", "decoder")
              for what in ("layers", "attention_heads")}  # fmt: skip
    config = transformers.MarianConfig(
        vocab_size=len(numbers), d_model=8, encoder_ffn_dim=8, decoder_ffn_dim=8, eos_token_id=0,
        pad_token_id=numbers["<pad>"], decoder_start_token_id=numbers["<pad>"], **layers,
    )  # fmt: skip
    transformers.MarianMTModel(config).save_pretrained(folder)
    return folder


def encoded(tokenizer: Any, **more: Any) -> Mapping[str, Any]:
    return dict(tokenizer([TEXT], **more))


def test_bertweet_reads_the_same_words_after_it_was_saved(tmp_path: Path) -> None:
    first = load_model(str(bertweet(tmp_path / "first")), (CLASSIFICATION,), ("no", "yes"), seed=0)
    again = tmp_path / "again"
    first.save(again)
    for name, text in BERTWEET.items():
        assert (again / name).read_text() == text
    wanted = encoded(first.tokenizer)
    assert wanted["input_ids"] == [[0, 4, 5, 6, 7, 8, 2]]
    second = load_model(str(again), (CLASSIFICATION,), ("no", "yes"), seed=0)
    assert type(second.tokenizer) is type(first.tokenizer)
    assert encoded(second.tokenizer) == wanted
    # the control: the files of transformers have merges without the count that it reads over
    alone = tmp_path / "alone"
    first.tokenizer.save_pretrained(alone)
    assert encoded(type(first.tokenizer).from_pretrained(alone)) != wanted


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
def test_marian_reads_the_same_words_after_it_was_saved(tmp_path: Path) -> None:
    folder = marian(tmp_path / "first")
    first = load_model(str(folder), (SEQ2SEQ,), seed=0)
    first.save(tmp_path / "again")
    for name in MARIAN:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
    second = load_model(str(tmp_path / "again"), (SEQ2SEQ,), seed=0)
    assert type(second.tokenizer).__name__ == "MarianTokenizer"
    own = transformers.AutoTokenizer.from_pretrained(folder)
    for tokenizer in (first.tokenizer, second.tokenizer):
        assert encoded(tokenizer, text_target=["a fox"]) == encoded(own, text_target=["a fox"])
    assert len(encoded(own)["input_ids"][0]) > 5


@pytest.mark.skipif(
    importlib.util.find_spec("sentencepiece") is not None, reason="sentencepiece is installed"
)
def test_a_tokenizer_without_sentencepiece_says_what_it_may_need(tmp_path: Path) -> None:
    config = transformers.MarianConfig(
        vocab_size=8, d_model=8, encoder_layers=1, decoder_layers=1, pad_token_id=0,
        encoder_attention_heads=2, decoder_attention_heads=2,
    )  # fmt: skip
    transformers.MarianMTModel(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"need sentencepiece, which is not installed: run"):
        load_model(str(tmp_path), (SEQ2SEQ,), seed=0)
