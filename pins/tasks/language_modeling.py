"""Language modelling: predict the next token of a text.

The text is one stream of tokens, without special tokens, cut into blocks of `max_length`. A model
reads one block at a time, so the first token of a block is not predicted and does not count.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from pins.errors import TaskError
from pins.models.batches import IGNORED, Encoded
from pins.models.heads import CAUSAL, Distributions, Head
from pins.models.inference import outputs
from pins.tasks.readers.sources import from_files, from_hub
from pins.tasks.readers.tables import Row, file_digests, read_lines
from pins.tasks.task import Recipe, Scores, Task, padding

WIKITEXT, TEXT = "wikitext", "text"
HUB, HUB_CONFIG = "Salesforce/wikitext", "wikitext-2-raw-v1"
# names of train and test in the published versions of WikiText
WIKITEXT_FILES = (
    ("train.txt", "test.txt"),
    ("wiki.train.tokens", "wiki.test.tokens"),
    ("wiki.train.raw", "wiki.test.raw"),
)
RECIPE = Recipe(epochs=3, batch_size=8, learning_rate=5e-5, max_length=512)  # ours
HELD_OUT = ("valid", "validation", "val", "dev", "eval")
TEST_PERCENT = 10
HELD_OUT_PERCENT, MOST_HELD_OUT = 5, 100_000  # characters


@dataclass(frozen=True, kw_only=True)
class LanguageModeling(Task):
    """A task whose rows are the lines of a text, each with its line break."""

    train: Sequence[str]
    test: Sequence[str]
    question: str = "Which token comes next?"
    heads: ClassVar[tuple[Head, ...]] = (CAUSAL,)
    metric: str = "perplexity"
    higher_is_better: bool = False
    recipe: Recipe = RECIPE

    def sample(self, rows: Sequence[str], number: int, seed: int) -> Sequence[str]:
        """The first `number` lines; lines drawn at random are not a text."""
        return rows[:number]

    def hold_out(self, rows: Sequence[str], seed: int) -> tuple[Sequence[str], Sequence[str]]:
        """The first lines, and the last ones: 5 % of the text, at most about 100,000 characters.

        Checkpoints are chosen by these, not by the test rows, whose score would be the best of
        many.
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
        """The tokens of all lines as one stream in blocks of `max_length`; the last may be shorter.

        A last block of one token predicts nothing and is left out. `about` has the tokens per word
        of the text, the same for each block.

        Raises:
            TaskError: blocks would have one token, or the text has fewer than two.
        """
        text = "".join(rows)
        tokens = tokens_of(text, tokenizer)
        if max_length < 2 or len(tokens) < 2:
            raise TaskError(
                f"{len(rows)} lines of text make {len(tokens)} tokens, in blocks of {max_length}: "
                "a block needs two, one to predict the other"
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

    def evaluate(
        self, model: nn.Module, tokenizer: Any, encoded: Encoded, head: Head, *, batch_size: int
    ) -> Scores:
        """Perplexity: exp of the mean negative log-likelihood of the predicted tokens.

        The sum over all predicted tokens is in float64, so blocks count by their numbers of tokens.
        `loss` is the mean (in nats), `perplexity` is per token of this tokenizer. Compare models
        with different tokenizers by `word_perplexity` = exp(mean × tokens per word); words are
        separated by white space.
        """
        total, predicted = 0.0, 0
        for _, batch, output in outputs(model, encoded, head, batch_size):
            rows = head.rows(output, batch)
            assert isinstance(rows, Distributions)
            losses = nn.functional.cross_entropy(
                rows.logits.float(), rows.targets, reduction="none"
            )
            total += losses.cpu().double().sum().item()
            predicted += len(losses)
        loss = total / predicted
        return {
            "perplexity": perplexity(loss),
            "word_perplexity": perplexity(loss * encoded.about[0]),
            "loss": loss,
        }


def load_wikitext(data: Path | None = None) -> LanguageModeling:
    """WikiText (Merity et al., 2016): trained on train, tested on test; valid is not used.

    Args:
        data: a folder with train.txt and test.txt, wiki.train.tokens and wiki.test.tokens, or
            wiki.train.raw and wiki.test.raw; default: the raw WikiText-2 of the hub. Do not
            compare numbers from the raw text with numbers from the text with <unk>.

    Raises:
        TaskError: the data is missing, empty or not UTF-8.
    """
    if data is None:
        splits = from_hub(HUB, _hub_lines, config=HUB_CONFIG)
        return LanguageModeling(name=WIKITEXT, **splits)
    for names in WIKITEXT_FILES:
        files = [data / name for name in names]
        if all(file.is_file() for file in files):
            return LanguageModeling(name=WIKITEXT, **from_files(files, _lines))
    wanted = ", nor ".join(" and ".join(names) for names in WIKITEXT_FILES)
    raise TaskError(f"{data} holds neither {wanted}: give the folder of WikiText's original files")


def load_text(data: Path | None = None) -> LanguageModeling:
    """Any text: a file, or a folder of .txt files.

    A folder with train.txt and test.txt (or else valid.txt, validation.txt, val.txt, dev.txt or
    eval.txt) is split by these. Otherwise the test rows are the last tenth of the lines of the
    file, or of all files in the order of their names.

    Raises:
        TaskError: no data is given, or it is missing, too short, or not UTF-8.
    """
    if data is None:
        raise TaskError(f"{TEXT} has no data of its own: give --data with a text file or a folder")
    tested = [data / f"{name}.txt" for name in ("test", *HELD_OUT)]
    tested = [file for file in tested if file.is_file()][:1]
    if tested and (data / "train.txt").is_file():
        files = [data / "train.txt", *tested]
        return LanguageModeling(name=TEXT, **from_files(files, _lines))
    files = sorted(data.glob("*.txt")) if data.is_dir() else [data]
    if not files:
        raise TaskError(f"{data} holds no .txt file: give a text file or a folder of some")
    lines = _lines(*files)
    at = len(lines) - max(len(lines) * TEST_PERCENT // 100, 1)
    train, test = lines[:at], lines[at:]
    if not train:
        raise TaskError(f"{data} has one line: give two or more, one to learn from, one to test on")
    return LanguageModeling(name=TEXT, train=train, test=test, digests=file_digests(files))


def _lines(*files: Path) -> tuple[str, ...]:
    return tuple(f"{line}\n" for file in files for line in read_lines(file))


def _hub_lines(rows: Iterable[Row]) -> tuple[str, ...]:
    return tuple(row.text("text") or " \n" for row in rows)  # blank lines lack their ends there


def perplexity(loss: float) -> float:
    """exp of a mean −log p; infinite where math.exp would raise."""
    return torch.tensor(loss, dtype=torch.float64).exp().item()


def tokens_of(text: str, tokenizer: Any) -> list[int]:
    """The tokens of a text as one stream, without special tokens."""
    found: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return found
