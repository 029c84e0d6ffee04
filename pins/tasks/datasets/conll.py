"""Named entities in the format of the CoNLL tasks: a word and its tag per line.

A blank line ends a sentence; a line that begins with `#` and does not end in a tag is a comment.
The hub has CoNLL-2003 (Tjong Kim Sang and De Meulder, 2003); other data, as WNUT-17, has the same
layout. Training rows come from train, test rows from test, or from dev if there is no test.
"""

from collections.abc import Iterable
from pathlib import Path

from pins.errors import TaskError
from pins.tasks.named_entities import OUTSIDE, NamedEntities, Sentence, is_tag, to_bio
from pins.tasks.readers.sources import file_names, find, from_files, from_hub, texts
from pins.tasks.readers.tables import Row, defect, read_lines
from pins.tasks.task import Recipe

NAME = "ner"
HUB = "lhoestq/conll2003"
RECIPE = Recipe(epochs=10, batch_size=16, learning_rate=3e-5, max_length=128)  # ours
DOCUMENT = "-DOCSTART-"  # begins a line that separates documents
COMMENT = "#"  # begins a comment, or a word that has a tag
# the last as in CoNLL-2003 and CoNLL-2002 themselves
FILES = ("{}.conll", "{}.txt", "eng.{}", "esp.{}", "ned.{}")
WNUT_TRAIN = "wnut17train.conll"  # as in WNUT-17 itself
WNUT_DEV, WNUT_TEST = "emerging.dev.conll", "emerging.test.annotated"


def load(data: Path | None = None) -> NamedEntities:
    """Named-entity recognition: trained on train, tested on test (or dev).

    Args:
        data: a folder with a file for train and one for test or testb (or else dev, valid or
            testa), as train.conll, train.txt or eng.train, or the files of CoNLL-2002 and WNUT-17
            by their own names; default: CoNLL-2003 from the hub. Words are in the first column and
            tags in the last, in BIO, IOB1 or BIOES, which are read as conlleval does; columns are
            separated by tabs or by spaces. Files are UTF-8: convert those in Latin-1.

    Raises:
        TaskError: the data is missing, torn or malformed.
    """
    if data is None:
        splits = from_hub(HUB, _from_rows)
    else:
        files = [
            find(data, [*file_names(FILES, "train"), WNUT_TRAIN]),
            find(
                data,
                [*file_names(FILES, "test", "testb"), WNUT_TEST],
                [*file_names(FILES, "dev", "valid", "testa"), WNUT_DEV],
            ),
        ]
        splits = from_files(files, _from_file)
    tags = {tag for name in ("train", "test") for row in splits[name] for tag in row.tags}
    return NamedEntities(
        name=NAME,
        question="Which words name an entity, and of which type?",
        labels=tuple(sorted({OUTSIDE, *tags})),
        recipe=RECIPE,
        **splits,
    )


def _from_file(path: Path) -> tuple[Sentence, ...]:
    sentences, words, tags = [], list[str](), list[str]()
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip() or line.startswith(DOCUMENT):
            if words:
                sentences.append(Sentence(tuple(words), to_bio(tags)))
            words, tags = [], []
            continue
        columns = line.rstrip().split("\t" if "\t" in line else " ")
        if line.startswith(COMMENT) and not (len(columns) > 1 and is_tag(columns[-1])):
            continue
        if len(columns) < 2 or not columns[0]:
            raise defect(f"{path}, line {number}", "a word, a tab or a space, and its tag", line)
        words.append(columns[0])
        tags.append(_tag(columns[-1], f"{path}, line {number}"))
    if words:
        sentences.append(Sentence(tuple(words), to_bio(tags)))
    return _some(sentences, str(path))


def _from_rows(rows: Iterable[Row]) -> tuple[Sentence, ...]:
    sentences = []
    for row in rows:
        words, tags = texts(row, "tokens"), texts(row, "ner_tags")
        if len(words) != len(tags):
            raise defect(row.where, f"{len(words)} ner_tags", len(tags))
        if words:
            sentences.append(Sentence(words, to_bio([_tag(tag, row.where) for tag in tags])))
    return _some(sentences, HUB)


def _some(sentences: list[Sentence], where: str) -> tuple[Sentence, ...]:
    if not sentences:
        raise TaskError(f"{where} holds no sentences: give the original file, whole")
    return tuple(sentences)


def _tag(tag: str, place: str) -> str:
    if not is_tag(tag):
        raise defect(place, "O, or B-, I-, E- or S- and a type (BIO, IOB1 or BIOES) as tag", tag)
    return tag
