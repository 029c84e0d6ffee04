"""Data-to-text: describe in words a record (E2E) or a set of triples (WebNLG, DART)."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar
from unicodedata import normalize

import regex  # type: ignore[import-untyped]
import torch
from sacrebleu import corpus_bleu
from torch import nn

from pins.errors import ModelError, TaskError
from pins.models.batches import IGNORED, Encoded, Feature
from pins.models.heads import CAUSAL, SEQ2SEQ, Head
from pins.models.inference import device_of, evaluation_mode, outputs, to_device
from pins.models.parameters import unwrapped
from pins.models.task_loss import summed_loss
from pins.tasks.readers.tables import Row, defect
from pins.tasks.task import Scores, Task, padding

LENGTH = 128  # tokens of a text with its end token; the longest of E2E has 71 words
MIN_LENGTH = 8  # tokens of a row
# Words of ROUGE: letters, marks and digits; letters one by one in scripts that write no spaces. Of
# a to z it makes the words of the original script, which knows no other letters
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
WORDS = regex.compile(
    rf"(?V1)[{_UNSPACED}--\p{{M}}]\p{{M}}*|[[\p{{L}}\p{{M}}\p{{N}}]--[{_UNSPACED}]]+"
)


@dataclass(frozen=True)
class Described:
    """One row: data as a line of text, and all its reference texts."""

    source: str
    references: tuple[str, ...]


def described(rows: Iterable[tuple[Row, str, Sequence[str]]]) -> tuple[Described, ...]:
    """Merge rows of place, source and references by source.

    Raises:
        TaskError: a row has no reference, or one without words.
    """
    references: dict[str, list[str]] = {}
    for row, source, own in rows:
        if not own or not all(text.strip() for text in own):
            raise defect(row.where, "one text or more, of words, for a source", list(own))
        references.setdefault(source, []).extend(own)
    return tuple(Described(source, tuple(own)) for source, own in references.items())


@dataclass(frozen=True)
class Prompt:
    """What the evaluation of a row needs.

    Attributes:
        references: the texts that count as right.
        answers: for the loss, source and reference as in training, one for each reference.
        length: maximal number of tokens of the generated text.
    """

    references: tuple[str, ...]
    answers: tuple[Feature, ...]
    length: int


@dataclass(frozen=True, kw_only=True)
class DataToText(Task):
    """A task whose rows are `Described`s."""

    train: Sequence[Described]
    test: Sequence[Described]
    heads: ClassVar[tuple[Head, ...]] = (SEQ2SEQ, CAUSAL)
    metric: str = "bleu"

    def prompt(self, tokenizer: Any, head: Head) -> str | None:
        """Of a decoder alone: the source between the tokens that it was trained with."""
        if head is not CAUSAL:
            return None
        lead, separator = (
            "".join(tokenizer.convert_ids_to_tokens(ids)) for ids in _frame(tokenizer)
        )
        return f"{lead}{{source}}{separator}"

    def encode(
        self, rows: Sequence[Described], tokenizer: Any, max_length: int, head: Head, *, train: bool
    ) -> Encoded:
        """One row for each reference for training, one for each source for evaluation.

        An encoder reads the source, and its decoder learns to write the reference. A decoder alone
        reads `source <separator> reference <end>` and learns what follows the separator; for
        evaluation it reads up to the separator, padded on the left. The separator is the token
        that begins a text, or the token that ends it if there is no other. A reference is cut to
        half of `max_length` tokens, at most 128, and a source to the remaining tokens.

        Raises:
            ModelError: the tokenizer has no token that ends a text.
            TaskError: `max_length` is less than 8.
        """
        if max_length < MIN_LENGTH:
            raise TaskError(
                f"{max_length} tokens have no room for data and a text: give {MIN_LENGTH} or more"
            )
        if tokenizer.eos_token_id is None:
            raise ModelError(
                f"{type(tokenizer).__name__} has no token that ends a text, which a model needs to "
                "learn to stop: give a model that writes (T5, BART, GPT-2)"
            )
        length = min(LENGTH, max_length // 2)
        read = _continued if head is CAUSAL else _translated
        pairs = read(rows, tokenizer, max_length - length, length) if rows else ()
        fill = {**padding(tokenizer), "labels": IGNORED}
        if train:
            return Encoded(tuple(answer for _, answers in pairs for answer in answers), fill)
        features, answered = zip(*pairs, strict=True) if rows else ((), ())
        return Encoded(
            features,
            fill,
            side="left" if head is CAUSAL else "right",
            about=tuple(
                Prompt(row.references, answers, length)
                for row, answers in zip(rows, answered, strict=True)
            ),
        )

    def evaluate(
        self, model: nn.Module, tokenizer: Any, encoded: Encoded, head: Head, *, batch_size: int
    ) -> Scores:
        """BLEU and ROUGE-L of one text for each source, in [0, 1], and the mean loss of a token.

        Greedy decoding writes the text; `compare` scores it against all references of its source.
        """
        answers = [answer for prompt in encoded.about for answer in prompt.answers]
        loss, tokens = 0.0, 0
        read = Encoded(tuple(answers), encoded.fill)
        for _, batch, output in outputs(model, read, head, batch_size):
            total, count = summed_loss(head, output, batch)
            loss, tokens = loss + total, tokens + count
        written = generate(model, tokenizer, encoded, head, batch_size=batch_size)
        references = [prompt.references for prompt in encoded.about]
        return {**compare(written, references), "loss": loss / tokens}


def _translated(
    rows: Sequence[Described], tokenizer: Any, source_length: int, length: int
) -> Iterator[tuple[Feature, tuple[Feature, ...]]]:
    """For an encoder with a decoder: each source alone, and with each of its references."""
    sources = tokenizer([row.source for row in rows], truncation=True, max_length=source_length)
    references = iter(
        tokenizer(
            text_target=[text for row in rows for text in row.references],
            truncation=True,
            max_length=length,
        )["input_ids"]
    )
    for at, row in enumerate(rows):
        source: Feature = {name: tuple(column[at]) for name, column in sources.items()}
        labels = islice(references, len(row.references))
        yield source, tuple({**source, "labels": tuple(text)} for text in labels)


def _frame(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The tokens before and after the source in a prompt."""
    end, begin = tokenizer.eos_token_id, tokenizer.bos_token_id
    # Llama-like models are trained on texts with a begin token, GPT-2 is not
    lead = (begin,) if begin is not None and tokenizer("")["input_ids"][:1] == [begin] else ()
    return lead, (end if begin is None else begin,)


def _continued(
    rows: Sequence[Described], tokenizer: Any, source_length: int, length: int
) -> Iterator[tuple[Feature, tuple[Feature, ...]]]:
    """For a decoder alone: each prompt alone, and continued by each of its references."""
    end = tokenizer.eos_token_id
    lead, separator = _frame(tokenizer)
    room = source_length - len(lead) - len(separator)

    def read(texts: list[str], size: int) -> Iterator[tuple[int, ...]]:
        encoded = tokenizer(texts, add_special_tokens=False, truncation=True, max_length=size)
        return map(tuple, encoded["input_ids"])

    sources = read([row.source for row in rows], room)
    references = read([text for row in rows for text in row.references], length - 1)
    for row, source in zip(rows, sources, strict=True):
        prompt = (*lead, *source, *separator)
        answers = [(*text, end) for text in islice(references, len(row.references))]
        yield (
            {"input_ids": prompt, "attention_mask": (1,) * len(prompt)},
            tuple(
                {
                    "input_ids": (*prompt, *answer),
                    "attention_mask": (1,) * (len(prompt) + len(answer)),
                    "labels": (*(IGNORED for _ in prompt), *answer),
                }
                for answer in answers
            ),
        )


def generate(
    model: nn.Module, tokenizer: Any, encoded: Encoded, head: Head, *, batch_size: int
) -> list[str]:
    """The text that a model writes for each row, by greedy decoding."""
    texts = [""] * len(encoded)
    writer: Any = unwrapped(model)
    device = device_of(model)
    with evaluation_mode(model), torch.no_grad():
        for rows in encoded.by_length(batch_size):
            batch = to_device(encoded.batch(rows), device)
            with _greedy(writer, tokenizer, encoded.about[rows[0]].length) as settings:
                tokens = writer.generate(**batch, generation_config=settings)
            if head is CAUSAL:  # the output begins with the prompt
                tokens = tokens[:, batch["input_ids"].shape[1] :]
            written = tokenizer.batch_decode(
                tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
            for row, text in zip(rows, written, strict=True):
                texts[row] = text.strip()
    return texts


@contextmanager
def _greedy(model: Any, tokenizer: Any, length: int) -> Iterator[Any]:
    """Generation settings without the beams, penalties and lengths saved with a model.

    They replace the model's own settings inside the block, because `generate` fills unset values
    from these.
    """
    own = model.generation_config
    settings = type(own)(
        max_new_tokens=length,
        do_sample=False,
        num_beams=1,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=own.bos_token_id,
        decoder_start_token_id=own.decoder_start_token_id,
        forced_bos_token_id=own.forced_bos_token_id,  # the language, in some models
    )
    model.generation_config = settings
    try:
        yield settings
    finally:
        model.generation_config = own


def compare(texts: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """BLEU and ROUGE-L of texts, each with any number of references, in [0, 1].

    BLEU is sacrebleu's corpus score (13a tokens, case kept) divided by 100.
    ROUGE-L is the mean over texts of the best F-measure over the references; its words are those of
    any script (`WORDS`).
    """
    from torchmetrics.functional.text.rouge import rouge_score  # takes seconds

    streams: Any = [
        [own[at] if at < len(own) else None for own in references]
        for at in range(max(map(len, references)))
    ]
    bleu = corpus_bleu(texts, streams, force=True).score / 100  # force: no warning about spaces
    rouge = rouge_score(
        list(texts),
        [list(own) for own in references],
        accumulate="best",
        normalizer=lambda text: normalize("NFC", text).lower(),
        tokenizer=WORDS.findall,
        rouge_keys="rougeL",
    )
    return {"bleu": min(bleu, 1.0), "rouge_l": rouge["rougeL_fmeasure"].item()}
