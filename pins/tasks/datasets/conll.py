"""Named entities as the CoNLL tasks write them: a word and its tag a line, a blank line between.

The hub's data is CoNLL-2003 (Tjong Kim Sang and De Meulder, 2003); others, as WNUT-17, come in the
same layout. Rows to learn from are those of train, rows to be judged by those of test, or of dev
where there is no test.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pins.errors import TaskError
from pins.tasks.named_entities import OUTSIDE, NamedEntities, Sentence, begins, to_bio
from pins.tasks.readers.sources import find, split_digests, split_rows, texts
from pins.tasks.readers.tables import defect, file_digests, read_lines
from pins.tasks.task import Recipe

NAME = "ner"
HUB = "lhoestq/conll2003"
RECIPE = Recipe(epochs=10, batch_size=16, learning_rate=3e-5, max_length=128)  # ours
DOCUMENT = "-DOCSTART-"  # the first word of a line that is no word


def file_names(*splits: str) -> list[str]:
    """What the files of a split are called, that of CoNLL-2003 itself among them."""
    return [name for split in splits for name in (f"{split}.conll", f"{split}.txt", f"eng.{split}")]


@dataclass
class _Lines:
    """A sentence as it is read: words, tags as they are written, and the place of each."""

    words: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)


def load(data: Path | None = None) -> NamedEntities:
    """Named-entity recognition: learnt from train, judged by test (or dev).

    Args:
        data: a folder with a file for train and one for test or testb (or else dev, valid or
            testa), as train.conll, train.txt or eng.train; default: CoNLL-2003 from the hub. Words
            stand in the first column and tags in the last, in BIO or in IOB1; columns are
            separated by tabs or by spaces.

    Raises:
        TaskError: the data is missing, torn or malformed, or its tags are in neither scheme.
    """
    if data is None:
        train, test = (_sentences(_from_hub(split), HUB) for split in ("train", "test"))
        digests = split_digests(HUB, train=train, test=test)
    else:
        files = [
            find(data, file_names("train")),
            find(data, file_names("test", "testb"), file_names("dev", "valid", "testa")),
        ]
        train, test = (_sentences(_from_file(file), str(file)) for file in files)
        digests = file_digests(files)
    tags = {tag for sentence in (*train, *test) for tag in sentence.tags}
    return NamedEntities(
        name=NAME,
        question="Which words name an entity, and of which type?",
        labels=tuple(sorted({OUTSIDE, *tags})),
        train=train,
        test=test,
        recipe=RECIPE,
        digests=digests,
    )


def _from_file(path: Path) -> Iterator[_Lines]:
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


def _from_hub(split: str) -> Iterator[_Lines]:
    for row in split_rows(HUB, split):
        words, tags = texts(row, "tokens"), texts(row, "ner_tags")
        if len(words) != len(tags):
            raise defect(row.where, f"{len(words)} ner_tags", len(tags))
        if words:
            yield _Lines(list(words), list(tags), [row.where] * len(words))


def _sentences(lines: Iterable[_Lines], where: str) -> tuple[Sentence, ...]:
    """The sentences in BIO, from BIO or from IOB1.

    An entity that begins with I is not BIO, one that begins with B without another of its type
    before it is not IOB1; both in the same data are neither.
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
