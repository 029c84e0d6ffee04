"""Eight tasks of GLUE (Wang et al., 2019), from its original files or from the hub, as one table.

Training rows come from train and test rows from dev: the labels of GLUE's own test rows are not
public. For MNLI, the test rows are the matched dev rows. Classes are numbered as on the hub
(`nyu-mll/glue`), so a model that was trained on its rows keeps its head.

The headline is the first metric of a task. GLUE's own score is the mean of a task's metrics if it
has two; tables on pruning compare the first one, and F1 of a model that calls every pair of MRPC
equivalent is 0.81.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pins.errors import TaskError
from pins.tasks.readers.sources import from_hub
from pins.tasks.readers.tables import Row, file_digests, read_tsv
from pins.tasks.task import Recipe
from pins.tasks.text_classification import Example, TextClassification

HUB = "nyu-mll/glue"
LOWEST, HIGHEST = 0.0, 5.0  # a score of STS-B
DIGITS = ("0", "1")
SENTENCES = ("sentence1", "sentence2")
ENTAILMENT = ("entailment", "not_entailment")

PAPER = Recipe(epochs=20, batch_size=16, learning_rate=3e-5, max_length=128)  # for RTE
PLATON = Recipe(epochs=8, batch_size=32, learning_rate=8e-5, max_length=128)  # for MNLI

# MRPC as published by Microsoft: train and dev in one file, and GLUE's list of the dev rows
MSR_TRAIN = "msr_paraphrase_train.txt"
MSR_DEV_IDS = ("mrpc_dev_ids.tsv", "dev_ids.tsv")
MSR_IDS = ("#1 ID", "#2 ID")


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One row of the table.

    Attributes:
        question: what is asked of each row.
        folder: of the original files, inside GLUE's.
        texts: columns of the one or two texts.
        label: column of the label.
        metrics: GLUE's, the headline first.
        recipe: defaults of training.
        labels: the classes, in the order of the hub; empty: a score from 0 to 5.
        written: the classes as written in the files, if they are not the names.
        header: names of the columns, if the files have none.
        hub_texts: columns of the texts on the hub, if they have other names.
        dev: names of the dev rows, in the files and on the hub.
        torn_per_thousand: allowed torn rows of the original files, left out as on the hub.
    """

    question: str
    folder: str
    texts: tuple[str, ...]
    label: str = "label"
    metrics: tuple[str, ...] = ("accuracy",)
    recipe: Recipe
    labels: tuple[str, ...] = ()
    written: tuple[str, ...] = ()
    header: tuple[str, ...] | None = None
    hub_texts: tuple[str, ...] = ()
    dev: tuple[str, str] = ("dev.tsv", "validation")
    torn_per_thousand: int = 0


# The recipes of RTE and MNLI are from their papers. The others are ours: small data as RTE, large
# data as MNLI.
SPECS: Mapping[str, Spec] = {
    "rte": Spec(
        question="Does the second text follow from the first?",
        folder="RTE",
        texts=SENTENCES,
        labels=ENTAILMENT,
        recipe=PAPER,
    ),
    "mrpc": Spec(
        question="Do the two sentences mean the same?",
        folder="MRPC",
        texts=("#1 String", "#2 String"),
        label="Quality",
        hub_texts=SENTENCES,
        labels=("not_equivalent", "equivalent"),
        written=DIGITS,
        metrics=("accuracy", "f1"),
        recipe=PAPER,
    ),
    "stsb": Spec(
        question="How similar are the two sentences, from 0 to 5?",
        folder="STS-B",
        texts=SENTENCES,
        label="score",
        metrics=("pearson", "spearman"),
        recipe=PAPER,
    ),
    "cola": Spec(
        question="Is the sentence acceptable English?",
        folder="CoLA",
        texts=("sentence",),
        header=("source", "label", "mark", "sentence"),
        labels=("unacceptable", "acceptable"),
        written=DIGITS,
        metrics=("matthews",),
        recipe=PAPER,
    ),
    "sst2": Spec(
        question="Is the sentence of a review positive?",
        folder="SST-2",
        texts=("sentence",),
        labels=("negative", "positive"),
        written=DIGITS,
        recipe=PLATON,
    ),
    "qnli": Spec(
        question="Does the sentence hold the answer to the question?",
        folder="QNLI",
        texts=("question", "sentence"),
        labels=ENTAILMENT,
        recipe=PLATON,
    ),
    "qqp": Spec(
        question="Do the two questions ask the same?",
        folder="QQP",
        texts=("question1", "question2"),
        label="is_duplicate",
        labels=("not_duplicate", "duplicate"),
        written=DIGITS,
        metrics=("accuracy", "f1"),
        recipe=PLATON,
        # a few questions hold a tab or a line break; `load` says what becomes of them
        torn_per_thousand=1,
    ),
    "mnli": Spec(
        question="Does the second text follow from the first, contradict it, or neither?",
        folder="MNLI",
        texts=SENTENCES,
        label="gold_label",
        hub_texts=("premise", "hypothesis"),
        labels=("entailment", "neutral", "contradiction"),
        dev=("dev_matched.tsv", "validation_matched"),
        recipe=PLATON,
    ),
}


def load(name: str, data: Path | None = None) -> TextClassification:
    """The GLUE task of that name.

    A few of the 360,000 rows of QQP are torn in its original files. They are left out, as on the
    hub, if they are at most one in a thousand, and the digests list their lines. A torn last row
    of QQP, and any torn row of another task, is an error.

    Args:
        name: of `SPECS`.
        data: the folder with the task's files (train.tsv, dev.tsv), or the one that holds that
            folder (RTE …); default: the hub.

    Raises:
        TaskError: the data is missing, torn or malformed.
    """
    spec = SPECS[name]
    if data is None:
        splits = from_hub(
            HUB,
            lambda rows: _examples(rows, spec.hub_texts or spec.texts, "label", spec.labels),
            config=name,
            test=spec.dev[1],
        )
    else:
        splits = _from_folder(name, spec, data)
    return TextClassification(
        name=name,
        question=spec.question,
        labels=spec.labels,
        metric=spec.metrics[0],
        metrics=spec.metrics,
        recipe=spec.recipe,
        **{"split": "validation", **splits},
    )


LOADERS: Mapping[str, Callable[[Path | None], TextClassification]] = {
    name: partial(load, name) for name in SPECS
}


def _from_folder(name: str, spec: Spec, data: Path) -> dict[str, Any]:
    if not data.is_dir():
        raise TaskError(f"{data} is not a folder: give the one with GLUE's original files")
    names = ("train.tsv", MSR_TRAIN) if name == "mrpc" else ("train.tsv",)
    files = [folder / file for folder in (data, data / spec.folder) for file in names]
    train_file = next((file for file in files if file.exists()), None)
    if train_file is None:
        wanted = " nor ".join(str(file.relative_to(data)) for file in files)
        raise TaskError(f"{data} holds neither {wanted}: give the folder of GLUE's original files")
    if train_file.name == MSR_TRAIN:
        return _from_microsoft(spec, train_file)
    paths = [train_file, train_file.with_name(spec.dev[0])]
    tables = [
        read_tsv(
            path,
            (*spec.texts, spec.label),
            header=spec.header,
            torn_per_thousand=spec.torn_per_thousand,
        )
        for path in paths
    ]
    train, test = (
        _examples(table.rows, spec.texts, spec.label, spec.written or spec.labels)
        for table in tables
    )
    digests = file_digests(paths)
    for path, table in zip(paths, tables, strict=True):
        if table.left_out:  # no row is lost in silence
            lines = ", ".join(map(str, table.left_out))
            digests[f"{path.name}, torn rows left out"] = f"lines {lines}"
    return {"train": train, "test": test, "digests": digests}


def _from_microsoft(spec: Spec, file: Path) -> dict[str, Any]:
    """MRPC's train and dev rows from one file, by GLUE's list of the pairs in dev."""
    lists = [file.with_name(name) for name in MSR_DEV_IDS if file.with_name(name).exists()]
    if not lists:
        raise TaskError(
            f"{file} holds train and dev in one: put GLUE's list of the dev rows beside it, as "
            f"{MSR_DEV_IDS[0]}"
        )
    ids = {tuple(row.values.values()) for row in read_tsv(lists[0], MSR_IDS, header=MSR_IDS).rows}
    splits: tuple[list[Row], list[Row]] = [], []
    for row in read_tsv(file, (*spec.texts, spec.label, *MSR_IDS)).rows:
        splits[tuple(row.values[column] for column in MSR_IDS) in ids].append(row)
    for rows, split in zip(splits, ("train", "dev"), strict=True):
        if not rows:
            raise TaskError(f"{file} has no {split} rows by {lists[0]}: give the original files")
    train, test = (_examples(rows, spec.texts, spec.label, spec.written) for rows in splits)
    return {"train": train, "test": test, "digests": file_digests([file, lists[0]])}


def _examples(
    rows: Sequence[Row], texts: tuple[str, ...], label: str, labels: tuple[str, ...]
) -> tuple[Example, ...]:
    return tuple(
        Example(
            row.text(texts[0]),
            row.choice(label, labels) if labels else row.number(label, LOWEST, HIGHEST),
            row.text(texts[1]) if len(texts) == 2 else None,
        )
        for row in rows
    )
