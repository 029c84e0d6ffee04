"""Texts from triples of subject, predicate and object, as in WebNLG and DART.

The hub's data is DART (Nan et al., 2021). Rows to learn from are those of train, rows to be judged
by those of test, or of dev where there is no test. A row is a set of triples with all its texts.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pins.tasks.data_to_text import DataToText, described
from pins.tasks.readers.sources import (
    PARQUET,
    find,
    items,
    read_objects,
    split_digests,
    split_rows,
    texts,
)
from pins.tasks.readers.tables import Row, defect, file_digests, read_csv
from pins.tasks.task import Recipe

NAME = "triples"
HUB = "Yale-LILY/dart"
COLUMNS = ("triples", "text")
RECIPE = Recipe(epochs=5, batch_size=16, learning_rate=5e-5, max_length=256)  # ours
AND, PART = "&&", "|"  # between triples, between the three parts of one

_Parts = tuple[Row, str, tuple[str, ...]]  # place, source, references


def file_names(*splits: str) -> list[str]:
    """What the files of a split are called, that of DART itself among them."""
    return [
        name
        for split in splits
        for name in (f"{split}.json", f"{split}.csv", f"dart-v1.1.1-full-{split}.json")
    ]


def load(data: Path | None = None) -> DataToText:
    """Triples to text: learnt from train, judged by test (or dev).

    Args:
        data: a folder with a file for train and one for test (or else dev or valid), as train.json
            or train.csv; default: DART from the hub. JSON is a list of objects, each with
            `triples`, a list of lists of three, and `references`, a list of texts; or, as DART has
            it, with `tripleset` and `annotations`, a list of objects with a `text`. CSV has a
            column `triples`, as `s | p | o && s | p | o`, and a column `text`.

    Raises:
        TaskError: the data is missing, torn or malformed.
    """
    if data is None:
        splits = [split_rows(HUB, split, revision=PARQUET) for split in ("train", "test")]
        train, test = (described(map(_from_object, rows)) for rows in splits)
        digests = split_digests(HUB, train=train, test=test)
    else:
        files = [
            find(data, file_names("train")),
            find(data, file_names("test"), file_names("dev", "valid")),
        ]
        train, test = (described(_from_file(file)) for file in files)
        digests = file_digests(files)
    return DataToText(
        name=NAME,
        question="How does one say what the triples state?",
        train=train,
        test=test,
        recipe=RECIPE,
        digests=digests,
    )


def _from_file(path: Path) -> Iterator[_Parts]:
    if path.suffix == ".csv":
        for row in read_csv(path, COLUMNS).rows:
            triples = [triple.split(PART) for triple in row.text("triples").split(AND)]
            yield row, linearised(triples, row), (row.text("text"),)
    else:
        yield from map(_from_object, read_objects(path))


def _from_object(row: Row) -> _Parts:
    if "triples" in row.values:
        return row, linearised(row.values["triples"], row), texts(row, "references")
    if "tripleset" not in row.values:
        raise defect(row.where, "triples, or a tripleset, among its names", list(row.values))
    triples = linearised(row.values["tripleset"], row)
    annotations = row.values.get("annotations")
    if isinstance(annotations, dict):  # the hub has a list for each name
        return row, triples, texts(Row(f"{row.where}, annotations", annotations), "text")
    return row, triples, tuple(part.text("text") for part in items(row, "annotations"))


def linearised(triples: object, row: Row) -> str:
    """The triples as a line: `subject | predicate | object && subject | predicate | object`.

    Raises:
        TaskError: they are not lists of three texts.
    """
    if not isinstance(triples, Sequence) or isinstance(triples, str) or not triples:
        raise defect(row.where, "a list of triples", triples)
    for triple in triples:
        if not _is_triple(triple):
            raise defect(row.where, "a subject, a predicate and an object", triple)
    return f" {AND} ".join(f" {PART} ".join(map(str.strip, triple)) for triple in triples)


def _is_triple(triple: object) -> bool:
    return (
        isinstance(triple, list | tuple)
        and len(triple) == 3
        and all(isinstance(part, str) for part in triple)
    )
