"""Language modelling: which token comes next in a text?

The text is one stream of tokens, without special ones, cut into blocks of `max_length`. A model
sees one block at a time, so the first token of a block is predicted by nothing and counts nowhere.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pins.errors import TaskError
from pins.models.batches import IGNORED, Encoded
from pins.models.heads import CAUSAL, Distributions, Head
from pins.models.inference import outputs
from pins.tasks.readers.hub import hub_rows
from pins.tasks.readers.tables import Row, file_digests, read_lines, rows_digest
from pins.tasks.task import Recipe, Scores, Task, padding

WIKITEXT, TEXT = "wikitext", "text"
HUB, HUB_CONFIG = "Salesforce/wikitext", "wikitext-2-raw-v1"
# names of train and test in the folders that WikiText comes in
WIKITEXT_FILES = (
    ("train.txt", "test.txt"),
    ("wiki.train.tokens", "wiki.test.tokens"),
    ("wiki.train.raw", "wiki.test.raw"),
)
RECIPE = Recipe(epochs=3, batch_size=8, learning_rate=5e-5, max_length=512)  # ours
TEST_PERCENT = 10
HELD_OUT_PERCENT, MOST_HELD_OUT = 5, 100_000  # characters


@dataclass(frozen=True, kw_only=True)
class LanguageModeling(Task):
    """A task whose rows are the lines of a text, each with its line break."""

    train: Sequence[str]
    test: Sequence[str]
    question: str = "Which token comes next?"
    metric: str = "perplexity"
    higher_is_better: bool = False
    recipe: Recipe = RECIPE

    @property
    def heads(self) -> tuple[Head, ...]:
        """Causal language models."""
        return (CAUSAL,)

    def sample(self, rows: Sequence[str], number: int, seed: int) -> Sequence[str]:
        """The first `number` lines: lines drawn from here and there are no text."""
        return rows[:number]

    def hold_out(self, rows: Sequence[str], seed: int) -> tuple[Sequence[str], Sequence[str]]:
        """All lines but the last few, and those: 5 % of the text, about 100,000 characters at most.

        The test rows choose nothing, or the score on them would be the best of many.
        """
        wanted = min(sum(map(len, rows)) * HELD_OUT_PERCENT // 100, MOST_HELD_OUT)
        at, held_out = len(rows), 0
        while at > 0 and held_out <= wanted:
            at -= 1
            held_out += len(rows[at].strip())
        return rows[:at] or rows, rows[at:]

    def encode(
        self, rows: Sequence[str], tokenizer: Any, max_length: int, head: Head, *, train: bool
    ) -> Encoded:
        """As `encode_blocks`; the same for training and for evaluation."""
        return encode_blocks(rows, tokenizer, max_length)

    def evaluate(
        self, model: nn.Module, tokenizer: Any, encoded: Encoded, head: Head, *, batch_size: int
    ) -> Scores:
        """Perplexity: exp of the mean negative log-likelihood of the predicted tokens.

        The sum is taken in float64 over all predicted tokens, so blocks of different lengths count
        by their tokens. `loss` is that mean (in nats), `perplexity` is per token of this tokenizer:
        models with different tokenizers compare by `word_perplexity`, exp of (mean × tokens per
        word), words being what white space separates in the text.
        """
        total, predicted = 0.0, 0
        for _, batch, output in outputs(model, encoded, batch_size):
            rows = head.rows(output, batch)
            assert isinstance(rows, Distributions)
            losses = nn.functional.cross_entropy(
                rows.logits.float(), rows.targets, reduction="none"
            )
            total += losses.cpu().double().sum().item()
            predicted += len(losses)
        loss = total / predicted
        return {
            "perplexity": _exp(loss),
            "word_perplexity": _exp(loss * encoded.about[0]),
            "loss": loss,
        }


def encode_blocks(rows: Sequence[str], tokenizer: Any, max_length: int) -> Encoded:
    """The tokens of all lines as one stream, in blocks of `max_length`, the last as long as it is.

    A last block of one token predicts nothing and is left out. `about` has the text's tokens per
    word, for each block the same.

    Raises:
        TaskError: a block would have one token, or the text has fewer than two.
    """
    text = "".join(rows)
    tokens = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    if max_length < 2 or len(tokens) < 2:
        raise TaskError(
            f"{len(rows)} lines of text make {len(tokens)} tokens, in blocks of {max_length}: a "
            "block needs two, one to predict the other"
        )
    blocks = [tuple(tokens[at : at + max_length]) for at in range(0, len(tokens), max_length)]
    blocks = [block for block in blocks if len(block) > 1]
    ratio = len(tokens) / max(len(text.split()), 1)
    return Encoded(
        tuple(
            {"input_ids": block, "attention_mask": (1,) * len(block), "labels": block}
            for block in blocks
        ),
        fill={**padding(tokenizer), "labels": IGNORED},
        about=(ratio,) * len(blocks),
    )


def load_wikitext(data: Path | None = None) -> LanguageModeling:
    """WikiText (Merity et al., 2016): learnt from train, judged by test; valid is not used.

    Args:
        data: a folder with train.txt and test.txt, wiki.train.tokens and wiki.test.tokens, or
            wiki.train.raw and wiki.test.raw; default: the raw WikiText-2 of the hub. Numbers from
            the raw text and from the one with <unk> do not compare.

    Raises:
        TaskError: the data is missing, empty or not UTF-8.
    """
    if data is None:
        train, test = (_from_hub(split) for split in ("train", "test"))
        digests = {
            f"{HUB} {HUB_CONFIG} {split}": rows_digest(rows)
            for split, rows in (("train", train), ("test", test))
        }
        return LanguageModeling(name=WIKITEXT, train=train, test=test, digests=digests)
    for names in WIKITEXT_FILES:
        files = [data / name for name in names]
        if all(file.is_file() for file in files):
            train, test = (_lines([file]) for file in files)
            return LanguageModeling(
                name=WIKITEXT, train=train, test=test, digests=file_digests(files)
            )
    wanted = ", nor ".join(" and ".join(names) for names in WIKITEXT_FILES)
    raise TaskError(f"{data} holds neither {wanted}: give the folder of WikiText's original files")


def load_text(data: Path | None = None) -> LanguageModeling:
    """Any text: a file, or a folder of .txt files.

    A folder's train.txt and test.txt are what they are called. Otherwise the last tenth of the
    lines is what the model is judged by: of the file, or of all files in the order of their names.

    Raises:
        TaskError: no data is given, or it is missing, too short, or not UTF-8.
    """
    if data is None:
        raise TaskError(f"{TEXT} has no data of its own: give --data with a text file or a folder")
    if (data / "train.txt").is_file() and (data / "test.txt").is_file():
        files = [data / "train.txt", data / "test.txt"]
        train, test = (_lines([file]) for file in files)
    else:
        files = sorted(data.glob("*.txt")) if data.is_dir() else [data]
        if not files:
            raise TaskError(f"{data} holds no .txt file: give a text file or a folder of some")
        lines = _lines(files)
        at = len(lines) - max(len(lines) * TEST_PERCENT // 100, 1)
        train, test = lines[:at], lines[at:]
        if not train:
            raise TaskError(
                f"{data} has one line: it takes two, one to learn from, one to judge by"
            )
    return LanguageModeling(name=TEXT, train=train, test=test, digests=file_digests(files))


def _lines(files: Iterable[Path]) -> tuple[str, ...]:
    return tuple(f"{line}\n" for file in files for line in read_lines(file))


def _from_hub(split: str) -> tuple[str, ...]:
    rows = hub_rows(HUB, HUB_CONFIG, split)
    where = f"{HUB} {HUB_CONFIG} {split}, row"
    texts = (Row(f"{where} {number}", values).text("text") for number, values in enumerate(rows))
    return tuple(text or " \n" for text in texts)  # the hub has blank lines without their ends


def _exp(value: float) -> float:
    """e to the power of `value`; infinite where math.exp overflows."""
    return torch.tensor(value, dtype=torch.float64).exp().item()
