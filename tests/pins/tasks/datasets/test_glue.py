"""GLUE from files in the layout of its originals, from its real ones, and from a hub's."""

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from pins.errors import TaskError
from pins.models.heads import CLASSIFICATION, REGRESSION
from pins.tasks.datasets import glue
from pins.tasks.datasets.glue import LOADERS, SPECS
from pins.tasks.metrics import METRICS
from pins.tasks.text_classification import Example, TextClassification
from tests.pins.tasks.hubs import save_hub

STSB = "index genre filename year old_index source1 source2 sentence1 sentence2 score"
MNLI = (
    "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse "
    "sentence2_parse sentence1 sentence2"
)

# by task: folder, train, dev, as the originals are; and what the rows of train are
ORIGINALS: dict[str, tuple[str, str, str, list[Example]]] = {
    "rte": (
        "RTE",
        'index|sentence1|sentence2|label\n0|An "open one.|B b|not_entailment\n1|C|D|entailment\n',
        "index|sentence1|sentence2|label\n0|E|F|entailment\n",
        [Example('An "open one.', 1, "B b"), Example("C", 0, "D")],
    ),
    "mrpc": (
        "MRPC",
        "\ufeffQuality|#1 ID|#2 ID|#1 String|#2 String\n1|7|8|A a|B b\n0|9|10|C|D\n",
        "Quality|#1 ID|#2 ID|#1 String|#2 String\n0|11|12|E|F\n",
        [Example("A a", 1, "B b"), Example("C", 0, "D")],
    ),
    "stsb": (
        "STS-B",
        f"{STSB.replace(' ', '|')}\n0|g|f|2012|1|n|n|A a|B b|5.000\n1|g|f|2012|4|n|n|C|D|3.8\n",
        f"{STSB.replace(' ', '|')}\n0|g|f|2012|1|n|n|E|F|0\n",
        [Example("A a", 5.0, "B b"), Example("C", 3.8, "D")],
    ),
    "cola": (
        "CoLA",
        "gj04|1||A a.\ngj04|0|*|C c.\n",
        "ks08|1||E\n",
        [Example("A a.", 1), Example("C c.", 0)],
    ),
    "sst2": (
        "SST-2",
        "sentence|label\na a . |0\nc |1\n",
        "sentence|label\ne|1\n",
        [Example("a a . ", 0), Example("c ", 1)],
    ),
    "qnli": (
        "QNLI",
        "index|question|sentence|label\n0|A?|B.|entailment\n1|C?|D.|not_entailment\n",
        "index|question|sentence|label\n0|E?|F.|entailment\n",
        [Example("A?", 0, "B."), Example("C?", 1, "D.")],
    ),
    "qqp": (
        "QQP",
        "id|qid1|qid2|question1|question2|is_duplicate\n1|2|3|A?|B?|0\n4|5|6|C?||1\n",
        "id|qid1|qid2|question1|question2|is_duplicate\n7|8|9|E?|F?|1\n",
        [Example("A?", 0, "B?"), Example("C?", 1, "")],
    ),
    "mnli": (
        "MNLI",
        f"{MNLI.replace(' ', '|')}|label1|gold_label\n"
        "0|1|1n|fiction|( A )|( B )|(R A)|(R B)|A|B|entailment|neutral\n"
        "1|2|2n|fiction|( C )|( D )|(R C)|(R D)|C|D|neutral|contradiction\n",
        f"{MNLI.replace(' ', '|')}|label1|label2|label3|label4|label5|gold_label\n"
        "0|1|1n|slate|( E )|( F )|(R E)|(R F)|E|F|neutral|neutral|neutral|neutral|neutral"
        "|entailment\n",
        [Example("A", 1, "B"), Example("C", 2, "D")],
    ),
}

# as the data set's card on the hub lists them
HUB_LABELS = {
    "rte": ("entailment", "not_entailment"),
    "mrpc": ("not_equivalent", "equivalent"),
    "stsb": (),
    "cola": ("unacceptable", "acceptable"),
    "sst2": ("negative", "positive"),
    "qnli": ("entailment", "not_entailment"),
    "qqp": ("not_duplicate", "duplicate"),
    "mnli": ("entailment", "neutral", "contradiction"),
}


def write_original(parent: Path, name: str) -> Path:
    """The task's folder in `parent`, with tabs for bars."""
    folder, train, dev, _ = ORIGINALS[name]
    (parent / folder).mkdir(parents=True)
    files = {"train.tsv": train, "dev_matched.tsv" if name == "mnli" else "dev.tsv": dev}
    for file, content in files.items():
        (parent / folder / file).write_text(content.replace("|", "\t"), encoding="utf-8")
    return parent / folder


def test_there_are_eight_tasks() -> None:
    assert list(LOADERS) == list(SPECS) == list(ORIGINALS)


@pytest.mark.parametrize("name", LOADERS)
def test_a_task_is_read_from_its_original_files(tmp_path: Path, name: str) -> None:
    folder = write_original(tmp_path, name)
    task = LOADERS[name](folder)
    assert task.name == name
    assert list(task.train) == ORIGINALS[name][-1]
    assert [(row.text.strip(".?").lower(), type(row.label)) for row in task.test] == [
        ("e", float if name == "stsb" else int)
    ]
    assert task.digests == {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()
    }
    assert LOADERS[name](tmp_path) == task  # the folder that holds it


@pytest.mark.parametrize("name", LOADERS)
def test_classes_have_the_numbers_of_the_hub_and_the_headline_is_a_metric(
    tmp_path: Path, name: str
) -> None:
    task = LOADERS[name](write_original(tmp_path, name))
    assert task.labels == HUB_LABELS[name]
    assert task.heads == ((CLASSIFICATION,) if task.labels else (REGRESSION,))
    assert task.metric == task.metrics[0]
    assert set(task.metrics) <= set(METRICS)
    assert task.higher_is_better
    assert task.recipe.max_length == 128


def test_the_metrics_are_those_of_glue() -> None:
    two = {"mrpc": ("accuracy", "f1"), "qqp": ("accuracy", "f1"), "stsb": ("pearson", "spearman")}
    expected = dict.fromkeys(SPECS, ("accuracy",)) | two | {"cola": ("matthews",)}
    assert {name: spec.metrics for name, spec in SPECS.items()} == expected


def hub_rows_of(name: str, examples: Any) -> list[dict[str, Any]]:
    columns = {
        "mnli": ("premise", "hypothesis"),
        "qnli": ("question", "sentence"),
        "qqp": ("question1", "question2"),
        "cola": ("sentence",),
        "sst2": ("sentence",),
    }.get(name, ("sentence1", "sentence2"))
    return [
        {
            **dict(zip(columns, (row.text, row.second), strict=False)),
            "label": row.label,
            "idx": at,
        }
        for at, row in enumerate(examples)
    ]


@pytest.mark.usefixtures("hub_cache")
@pytest.mark.parametrize("name", LOADERS)
def test_the_hub_has_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    task = LOADERS[name](write_original(tmp_path, name))
    dev = "validation_matched" if name == "mnli" else "validation"
    splits = {
        (name, "train"): hub_rows_of(name, task.train),
        (name, dev): hub_rows_of(name, task.test),
    }
    classes = {"label": task.labels} if task.labels else {}
    hub = save_hub(tmp_path / "hub", splits, classes)
    monkeypatch.setattr(glue, "HUB", str(hub))
    from_hub = LOADERS[name](None)
    assert (from_hub.train, from_hub.test) == (task.train, task.test)
    assert list(from_hub.digests) == [f"{hub} {name} train", f"{hub} {name} {dev}"]
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in from_hub.digests.values())


@pytest.mark.usefixtures("hub_cache")
def test_classes_go_by_their_names_whatever_their_numbers_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"sentence1": "A", "sentence2": "B", "label": label} for label in (0, 1)]
    splits = {("rte", "train"): rows, ("rte", "validation"): rows}
    other_way = save_hub(tmp_path / "hub", splits, {"label": ("not_entailment", "entailment")})
    monkeypatch.setattr(glue, "HUB", str(other_way))
    assert [row.label for row in LOADERS["rte"](None).train] == [1, 0]


@pytest.mark.usefixtures("hub_cache")
def test_a_row_of_the_hub_without_a_class_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"sentence1": "A", "sentence2": "B", "label": label} for label in (0, -1)]
    splits = {("rte", "train"): rows, ("rte", "validation"): rows}
    hub = save_hub(tmp_path / "hub", splits, {"label": HUB_LABELS["rte"]})
    monkeypatch.setattr(glue, "HUB", str(hub))
    pattern = r"rte train, row 1: expected entailment or not_entailment as label, came None: give"
    with pytest.raises(TaskError, match=pattern):
        LOADERS["rte"](None)


@pytest.mark.usefixtures("hub_cache")
def test_without_the_hub_it_says_to_give_the_files() -> None:
    pattern = r"\Athe hub did not give nyu-mll/glue rte train \(.*\): give --data with the folder"
    with pytest.raises(TaskError, match=pattern):
        LOADERS["rte"](None)


def replaced(file: Path, old: str, new: str) -> None:
    content = file.read_text(encoding="utf-8")
    assert old in content
    file.write_text(content.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "old", "new", "rest"),
    [
        (
            "rte",
            "\tentailment\n",
            "\tentail",
            "line 3: expected entailment or not_.*, came 'entail'",
        ),
        ("rte", "\tD\tentailment\n", "", "line 3: expected 4 fields, came 2"),
        ("rte", "\tsentence2", "", "line 1: expected one column 'sentence2', came 'index, sent.*'"),
        ("mrpc", "0\t9", "2\t9", "line 3: expected 0 or 1 as Quality, came '2'"),
        ("stsb", "3.8", "5.1", "line 3: expected a number from 0 to 5 as score, came '5.1'"),
        ("cola", "gj04\t0", "gj04\tno", "line 2: expected 0 or 1 as label, came 'no'"),
        (
            "mnli",
            "\tcontradiction",
            "\t-",
            "line 3: expected entailment or neutral or .*, came '-'",
        ),
        ("qqp", "\t\t1\n", "", "line 3: expected 6 fields, came 4"),
        ("qqp", "0\n4", "0\n\t4", "line 3: expected 6 fields, came 7"),
    ],
)
def test_a_defect_of_a_file_is_one_line(
    tmp_path: Path, name: str, old: str, new: str, rest: str
) -> None:
    folder = write_original(tmp_path, name)
    replaced(folder / "train.tsv", old, new)
    pattern = rf"\A{re.escape(str(folder / 'train.tsv'))}, {rest}: give the original file, whole\Z"
    with pytest.raises(TaskError, match=pattern):
        LOADERS[name](tmp_path)


def test_missing_files_and_folders_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"\A.*none is not a folder: give the one with GLUE's"):
        LOADERS["rte"](tmp_path / "none")
    pattern = r"\A.* holds neither train.tsv nor RTE/train.tsv: give the folder of GLUE's original"
    with pytest.raises(TaskError, match=pattern):
        LOADERS["rte"](tmp_path)
    folder = write_original(tmp_path, "rte")
    (folder / "dev.tsv").unlink()
    with pytest.raises(
        TaskError, match=r"\A.*dev.tsv cannot be read \(No such file or directory\)"
    ):
        LOADERS["rte"](tmp_path)


def test_another_task_in_the_folder_is_noticed(tmp_path: Path) -> None:
    folder = write_original(tmp_path, "sst2")
    with pytest.raises(
        TaskError, match=r"line 1: expected one column 'sentence1', came 'sentence, "
    ):
        LOADERS["rte"](folder)


def test_torn_rows_of_qqp_are_left_out_and_the_digests_say_so(tmp_path: Path) -> None:
    folder = write_original(tmp_path, "qqp")
    file = folder / "train.tsv"
    rows = [f"{n}\t1\t2\tA {n}?\tB?\t0" for n in range(2, 2002)]
    rows[95] = rows[95].replace("\tB?\t0", "")
    rows[96] = "\tB of the row before?\t0"
    file.write_text("\n".join(["id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", *rows]) + "\n")
    task = LOADERS["qqp"](folder)
    assert len(task.train) == 1998
    assert task.digests["train.tsv, torn rows left out"] == "lines 97, 98"
    assert "dev.tsv, torn rows left out" not in task.digests
    rows[1000] = "torn"  # three in 2,000 are too many
    file.write_text("\n".join(["id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", *rows]) + "\n")
    with pytest.raises(TaskError, match=r"train.tsv, line 97: expected 6 fields, came 4"):
        LOADERS["qqp"](folder)


@pytest.fixture
def microsoft(tmp_path: Path) -> Path:
    """MRPC as Microsoft gives it away, with GLUE's list of the dev rows."""
    lines = ["Quality|#1 ID|#2 ID|#1 String|#2 String", "1|7|8|A|B", "0|8|7|E|F", '1|9|10|C "|D']
    content = "\ufeff" + "\r\n".join(lines).replace("|", "\t") + "\r\n"
    (tmp_path / "msr_paraphrase_train.txt").write_bytes(content.encode())
    (tmp_path / "mrpc_dev_ids.tsv").write_text("8\t7\n")
    return tmp_path


def test_mrpc_is_split_as_glue_splits_it(microsoft: Path) -> None:
    task = LOADERS["mrpc"](microsoft)
    assert list(task.train) == [Example("A", 1, "B"), Example('C "', 1, "D")]
    assert list(task.test) == [Example("E", 0, "F")]
    assert list(task.digests) == ["msr_paraphrase_train.txt", "mrpc_dev_ids.tsv"]


def test_mrpc_that_is_split_already_is_taken_as_it_is(microsoft: Path) -> None:
    _, train, dev, rows = ORIGINALS["mrpc"]
    for file, content in {"train.tsv": train, "dev.tsv": dev}.items():
        (microsoft / file).write_text(content.replace("|", "\t"), encoding="utf-8")
    assert list(LOADERS["mrpc"](microsoft).train) == rows


def test_mrpc_takes_the_list_that_splits_it(microsoft: Path) -> None:
    ids = microsoft / "mrpc_dev_ids.tsv"
    ids.write_text("1\t2\n")
    with pytest.raises(TaskError, match=r"train.txt has no dev rows by .*mrpc_dev_ids.tsv: give"):
        LOADERS["mrpc"](microsoft)
    ids.unlink()
    pattern = r"train.txt holds train and dev in one: put GLUE's list .* as mrpc_dev_ids.tsv\Z"
    with pytest.raises(TaskError, match=pattern):
        LOADERS["mrpc"](microsoft)


def balance(task: TextClassification) -> list[int]:
    return [sum(row.label == label for row in task.test) for label in range(len(task.labels))]


def test_the_real_rte_is_whole(shared_data: Path) -> None:
    task = LOADERS["rte"](shared_data / "glue")
    assert (len(task.train), len(task.test)) == (2490, 277)
    assert balance(task) == [146, 131]  # the majority's accuracy is the known 52.7 %
    assert task == LOADERS["rte"](shared_data / "glue" / "RTE")
    # quoting would eat rows
    assert any(row.text.startswith('"') and row.text.count('"') == 1 for row in task.train)
    assert task.train[0] == Example(
        "No Weapons of Mass Destruction Found in Iraq Yet.",
        1,
        "Weapons of Mass Destruction Found in Iraq.",
    )


def test_the_real_sst2_has_the_rows_that_are_there(shared_data: Path) -> None:
    task = LOADERS["sst2"](shared_data / "glue")
    assert (len(task.train), len(task.test)) == (35_298, 872)
    assert balance(task) == [428, 444]


def test_a_real_file_that_was_cut_off_is_noticed(shared_data: Path, tmp_path: Path) -> None:
    for name in ("train.tsv", "dev.tsv"):
        (tmp_path / name).write_bytes((shared_data / "glue" / "RTE" / name).read_bytes())
    whole = (tmp_path / "dev.tsv").read_bytes()
    for cut in (1, 5, 20, 100):
        (tmp_path / "dev.tsv").write_bytes(whole[:-cut])
        if cut == 1:  # only the line's end
            assert len(LOADERS["rte"](tmp_path).test) == 277
        else:
            with pytest.raises(TaskError, match=r"\A.*dev.tsv, line 278: expected .*\Z"):
                LOADERS["rte"](tmp_path)
