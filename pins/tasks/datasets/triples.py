"""Texts from triples of subject, predicate and object, as in WebNLG and DART.

The hub has DART (Nan et al., 2021). Training rows come from train, test rows from test, or from dev
if there is no test. A row is a set of triples with all its texts. Of an entry of WebNLG with texts
in several languages, as in its Russian release, those in English are left out.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from xml.etree import ElementTree

from pins.tasks.data_to_text import DataToText, described
from pins.tasks.readers.sources import (
    PARQUET,
    file_names,
    find,
    from_hub,
    items,
    objects,
    split_of,
    texts,
)
from pins.tasks.readers.tables import Row, defect, is_text, read_csv, read_json, read_text
from pins.tasks.task import Recipe
from pins.utils.io import sha256

NAME = "triples"
HUB = "Yale-LILY/dart"
COLUMNS = ("triples", "text")
RECIPE = Recipe(epochs=5, batch_size=16, learning_rate=5e-5, max_length=256)  # ours
AND, PART = "&&", "|"  # between triples, between the three parts of a triple
# the last two as in DART and in WebNLG themselves
FILES = ("{}.json", "{}.csv", "{}.xml", "dart-v1.1.1-full-{}.json", "{}")
ENGLISH = "en"

_Parts = tuple[Row, str, tuple[str, ...]]  # place, source, references


def load(data: Path | None = None) -> DataToText:
    """Triples to text: trained on train, tested on test (or dev).

    Args:
        data: a folder with a file for train and one for test (or else dev or valid), as train.json,
            train.csv or train.xml; default: DART from the hub. JSON is a list of objects, each with
            `triples`, a list of lists of three, and `references`, a list of texts; or, as in DART,
            with `tripleset` and `annotations`, a list of objects with a `text`; or the object of
            WebNLG's release with its `entries`. CSV has a column `triples`, as
            `s | p | o && s | p | o`, and a column `text`. XML is that of WebNLG's release, whose
            folders train and test (or dev) may take the place of files.

    Raises:
        TaskError: the data is missing, torn or malformed.
    """
    if data is None:
        splits = from_hub(HUB, lambda rows: described(map(_from_object, rows)), revision=PARQUET)
    else:
        train = _files(find(data, file_names(FILES, "train")))
        tested = find(data, file_names(FILES, "test"), file_names(FILES, "dev", "valid"))
        test = _files(tested)
        splits = {
            "split": split_of(tested.name),
            "train": described(chain.from_iterable(map(_from_file, train))),
            "test": described(chain.from_iterable(map(_from_file, test))),
            "digests": {
                file.relative_to(data).as_posix(): sha256(file) for file in (*train, *test)
            },
        }
    return DataToText(
        name=NAME,
        question="How does one say what the triples state?",
        recipe=RECIPE,
        **splits,
    )


def _files(path: Path) -> list[Path]:
    """The file, or the XML files of a folder of WebNLG, at any depth."""
    if not path.is_dir():
        return [path]
    if not (files := sorted(path.rglob("*.xml"))):
        raise defect(str(path), "a folder with WebNLG's XML files", "none")
    return files


def _from_file(path: Path) -> Iterator[_Parts]:
    if path.suffix == ".csv":
        for row in read_csv(path, COLUMNS).rows:
            triples = [triple.split(PART) for triple in row.text("triples").split(AND)]
            yield row, linearised(triples, row), (row.text("text"),)
    elif path.suffix == ".xml":
        yield from _from_xml(path)
    else:
        value = read_json(path)
        if isinstance(value, dict) and "entries" in value:
            for each in objects(value["entries"], f"{path}, $.entries", "entries"):
                for name, entry in each.values.items():  # one entry under its number
                    (row,) = objects([entry], f"{each.where}.{name}", "an entry")
                    yield _from_entry(row)
        else:
            yield from map(_from_object, objects(value, f"{path}, $", "the file"))


def _from_entry(row: Row) -> _Parts:
    """An entry of WebNLG in JSON."""
    names = ("subject", "property", "object")
    triples = [[part.text(name) for name in names] for part in items(row, "modifiedtripleset")]
    said = [(part.text("lang"), part.text("lex")) for part in items(row, "lexicalisations")]
    return row, linearised(triples, row), _of_one_language(said)


def _from_xml(path: Path) -> Iterator[_Parts]:
    text = read_text(path)
    if "<!" in text.replace("<!--", ""):  # entities can be made to fill any memory
        raise defect(str(path), "XML without declarations", "<!…")
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 (without entities, see above)
    except ElementTree.ParseError as error:
        raise defect(str(path), "XML", str(error)) from error
    for number, entry in enumerate(root.iter("entry"), start=1):
        row = Row(f"{path}, entry {number}", {})
        triples = [(each.text or "").split(PART, 2) for each in entry.iter("mtriple")]
        said = [(each.get("lang", ""), each.text or "") for each in entry.iter("lex")]
        yield row, linearised(triples, row), _of_one_language(said)


def _of_one_language(said: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """The texts among pairs of language and text, without the English ones if there are others."""
    other = any(language not in ("", ENGLISH) for language, _ in said)
    return tuple(text for language, text in said if not (other and language in ("", ENGLISH)))


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
