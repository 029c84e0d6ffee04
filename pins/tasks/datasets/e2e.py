"""E2E (Novikova et al., 2017): texts on restaurants, from records of their attributes.

Training rows come from train, test rows from test, or from dev if there is no test. A row is a
record with all its texts.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from pins.tasks.data_to_text import DataToText, described
from pins.tasks.readers.sources import PARQUET, find, from_files, from_hub
from pins.tasks.readers.tables import Row, defect, read_csv
from pins.tasks.task import Recipe

NAME = "e2e"
# as published, and with the errors in the records corrected (Dušek et al., 2019)
TRAIN = ("trainset.csv", "train-fixed.no-ol.csv")
TEST = ("testset_w_refs.csv", "test-fixed.csv")
DEV = ("devset.csv", "devel-fixed.no-ol.csv")
COLUMNS = ("mr", "ref")
HUB, HUB_COLUMNS = "tuetschek/e2e_nlg", ("meaning_representation", "human_reference")
RECIPE = Recipe(epochs=5, batch_size=16, learning_rate=5e-5, max_length=256)  # ours

# name[The Mill]; possessive, so that no character is tried twice: a search takes linear time
ATTRIBUTE = re.compile(r" *+([^\[\],]++)\[([^\[\]]*+)\]")
RECORD = re.compile(f"{ATTRIBUTE.pattern}(?:,{ATTRIBUTE.pattern})*+")


def load(data: Path | None = None) -> DataToText:
    """E2E: trained on train, tested on test (or dev).

    Args:
        data: a folder with trainset.csv and testset_w_refs.csv (or else devset.csv), or with
            train-fixed.no-ol.csv and test-fixed.csv (or else devel-fixed.no-ol.csv) of the cleaned
            E2E; default: the hub.

    Raises:
        TaskError: the data is missing, torn or malformed.
    """
    if data is None:
        splits = from_hub(HUB, lambda rows: described(_pairs(rows, *HUB_COLUMNS)), revision=PARQUET)
    else:
        splits = from_files(
            [find(data, TRAIN), find(data, TEST, DEV)],
            lambda file: described(_pairs(read_csv(file, COLUMNS).rows, *COLUMNS)),
        )
    return DataToText(
        name=NAME,
        question="What does one say of a restaurant with these attributes?",
        recipe=RECIPE,
        **splits,
    )


def _pairs(
    rows: Iterable[Row], record: str, text: str
) -> Iterator[tuple[Row, str, tuple[str, ...]]]:
    for row in rows:
        yield row, linearised(row, record), (row.text(text),)


def linearised(row: Row, column: str) -> str:
    """The record in a column as a line: `name[The Mill], food[]` is `name : The Mill | food : `.

    Raises:
        TaskError: the column has no such record.
    """
    record = row.text(column)
    if not RECORD.fullmatch(record):
        raise defect(row.where, f"attributes, as name[The Mill], food[French], as {column}", record)
    return " | ".join(f"{name} : {value}" for name, value in ATTRIBUTE.findall(record))
