"""Small fast tokenizers for the tests, trained on nothing but the texts they are given."""

from collections.abc import Iterable
from typing import Any

import pytest

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def word_tokenizer(texts: Iterable[str]) -> Any:
    """A token for each word and mark, `[CLS] … [SEP]` around them, as BERT has it."""
    tokenizers, _ = _libraries()
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(unk_token="[UNK]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    trainer = tokenizers.trainers.WordLevelTrainer(
        special_tokens=list(SPECIAL), show_progress=False
    )
    words.train_from_iterator(texts, trainer)
    return _like_bert(words)


def piece_tokenizer(texts: Iterable[str], *, size: int = 60) -> Any:
    """As `word_tokenizer`, with pieces of words; characters that were never seen are [UNK]."""
    tokenizers, _ = _libraries()
    pieces = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    pieces.normalizer = tokenizers.normalizers.BertNormalizer()
    pieces.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=list(SPECIAL), show_progress=False
    )
    pieces.train_from_iterator(texts, trainer)
    return _like_bert(pieces)


def byte_tokenizer(
    texts: Iterable[str], *, ends: bool = False, bos: str | None = None, size: int = 400
) -> Any:
    """Pieces of UTF-8 bytes with the space before them, as GPT-2; with `</s>` at the end, as T5."""
    tokenizers, transformers = _libraries()
    pieces = tokenizers.Tokenizer(tokenizers.models.BPE())
    pieces.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    pieces.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<pad>", "</s>", "<s>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    pieces.train_from_iterator(texts, trainer)
    if ends:
        pieces.post_processor = tokenizers.processors.TemplateProcessing(
            single="$A </s>", pair="$A </s> $B:1 </s>:1", special_tokens=[("</s>", 1)]
        )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=pieces, pad_token="<pad>", eos_token="</s>", bos_token=bos
    )


def _like_bert(tokenizer: Any) -> Any:
    tokenizers, transformers = _libraries()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )


def _libraries() -> tuple[Any, Any]:
    return pytest.importorskip("tokenizers"), pytest.importorskip("transformers")
