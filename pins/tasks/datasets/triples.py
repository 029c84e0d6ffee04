"""Texts from triples of subject, predicate and object, as in WebNLG and DART.

The hub has DART (Nan et al., 2021). Training rows come from train, test rows from test, or from dev
if there is no test. A row is a set of triples with all its texts.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pins.tasks.data_to_text import DataToText, described
from pins.tasks.readers.sources import (
    PARQUET,
    file_names,
    find,
    from_files,
    from_hub,
    items,
    read_objects,
    texts,
)
from pins.tasks.readers.tables import Row, defect, is_text, read_csv
from pins.tasks.task import Recipe

NAME = "triples"
HUB = "Yale-LILY/dart"
COLUMNS = ("triples", "text")
RECIPE = Recipe(epochs=5, batch_size=16, learning_rate=5e-5, max_length=256)  # ours
AND, PART = "&&", "|"  # between triples, between the three parts of a triple
FILES = ("{}.json", "{}.csv", "dart-v1.1.1-full-{}.json")  # the last as in DART itself

_Parts = tuple[Row, str, tuple[str, ...]]  # place, source, references


def load(data: Path | None = None) -> DataToText:
    """Triples to text: trained on train, tested on test (or dev).

    Args:
        data: a folder with a file for train and one for test (or else dev or valid), as train.json
            or train.csv; default: DART from the hub. JSON is a list of objects, each with
            `triples`, a list of lists of three, and `references`, a list of texts; or, as in DART,
            with `tripleset` and `annotations`, a list of objects with a `text`. CSV has a
            column `triples`, as `s | p | o && s | p | o`, and a column `text`.

    Raises:
        TaskError: the data is missing, torn or malformed.
    """
    if data is None:
        splits = from_hub(HUB, lambda rows: described(map(_from_object, rows)), revision=PARQUET)
    else:
        files = [
            find(data, file_names(FILES, "train")),
            find(data, file_names(FILES, "test"), file_names(FILES, "dev", "valid")),
        ]
        splits = from_files(files, lambda file: described(_from_file(file)))
    return DataToText(
        name=NAME,
        question="How does one say what the triples state?",
        recipe=RECIPE,
        **splits,
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
    return isinstance(triple, list | tuple) and len(triple) == 3 and all(map(is_text, triple))
