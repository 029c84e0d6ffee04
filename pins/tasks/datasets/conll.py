"""Named entities in the format of the CoNLL tasks: a word and its tag per line.

A blank line ends a sentence. The hub has CoNLL-2003 (Tjong Kim Sang and De Meulder, 2003); other
data, as WNUT-17, has the same layout. Training rows come from train, test rows from test, or from
dev if there is no test.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pins.errors import TaskError
from pins.tasks.named_entities import OUTSIDE, NamedEntities, Sentence, begins, to_bio
from pins.tasks.readers.sources import file_names, find, from_files, from_hub, texts
from pins.tasks.readers.tables import Row, defect, read_lines
from pins.tasks.task import Recipe

NAME = "ner"
HUB = "lhoestq/conll2003"
RECIPE = Recipe(epochs=10, batch_size=16, learning_rate=3e-5, max_length=128)  # ours
DOCUMENT = "-DOCSTART-"  # begins a line that separates documents
FILES = ("{}.conll", "{}.txt", "eng.{}")  # the last as in CoNLL-2003 itself


@dataclass
class _Lines:
    """A sentence in its file: words, their tags as written, and their places."""

    words: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)


def load(data: Path | None = None) -> NamedEntities:
    """Named-entity recognition: trained on train, tested on test (or dev).

    Args:
        data: a folder with a file for train and one for test or testb (or else dev, valid or
            testa), as train.conll, train.txt or eng.train; default: CoNLL-2003 from the hub. Words
            are in the first column and tags in the last, in BIO or in IOB1; columns are separated
            by tabs or by spaces.

    Raises:
        TaskError: the data is missing, torn or malformed, or its tags are in neither scheme.
    """
    if data is None:
        splits = from_hub(HUB, lambda rows: _sentences(_hub_lines(rows), HUB))
    else:
        files = [
            find(data, file_names(FILES, "train")),
            find(
                data,
                file_names(FILES, "test", "testb"),
                file_names(FILES, "dev", "valid", "testa"),
            ),
        ]
        splits = from_files(files, lambda file: _sentences(_file_lines(file), str(file)))
    tags = {tag for name in ("train", "test") for row in splits[name] for tag in row.tags}
    return NamedEntities(
        name=NAME,
        question="Which words name an entity, and of which type?",
        labels=tuple(sorted({OUTSIDE, *tags})),
        recipe=RECIPE,
        **splits,
    )


def _file_lines(path: Path) -> Iterator[_Lines]:
    sentence = _Lines()
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip() or line.startswith(DOCUMENT):
            if sentence.words:
                yield sentence
            sentence = _Lines()
            continue
        place = f"{path}, line {number}"
        columns = line.rstrip().split("\t" if "\t" in line else " ")
        if len(columns) < 2 or not columns[0]:
            raise defect(place, "a word, a tab or a space, and its tag", line)
        sentence.words.append(columns[0])
        sentence.tags.append(columns[-1])
        sentence.places.append(place)
    if sentence.words:
        yield sentence


def _hub_lines(rows: Iterable[Row]) -> Iterator[_Lines]:
    for row in rows:
        words, tags = texts(row, "tokens"), texts(row, "ner_tags")
        if len(words) != len(tags):
            raise defect(row.where, f"{len(words)} ner_tags", len(tags))
        if words:
            yield _Lines(list(words), list(tags), [row.where] * len(words))


def _sentences(lines: Iterable[_Lines], where: str) -> tuple[Sentence, ...]:
    """The sentences in BIO, from BIO or from IOB1.

    An entity that begins with I is not BIO. An entity that begins with B, and does not follow
    another of its type, is not IOB1. Data with both is an error.
    """
    sentences = []
    not_bio = not_iob1 = ""
    for line in lines:
        before = OUTSIDE
        for tag, place in zip(line.tags, line.places, strict=True):
            _require_tag(tag, place)
            if begins(tag, before):
                if tag.startswith("I"):
                    not_bio = not_bio or f"{tag} in {place}"
                elif tag[2:] != before[2:]:
                    not_iob1 = not_iob1 or f"{tag} in {place}"
            before = tag
        if not_bio and not_iob1:
            raise TaskError(
                f"{not_bio} begins an entity, which is not BIO, and so does {not_iob1}, which is "
                "not IOB1: write all tags of a file in one of the two"
            )
        sentences.append(Sentence(tuple(line.words), to_bio(line.tags)))
    if not sentences:
        raise TaskError(f"{where} holds no sentences: give the original file, whole")
    return tuple(sentences)


def _require_tag(tag: str, place: str) -> None:
    if tag != OUTSIDE and (tag[:2] not in ("B-", "I-") or len(tag) < 3):
        raise defect(place, "O, or B- or I- and a type (BIO or IOB1) as tag", tag)
