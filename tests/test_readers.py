"""Whatever stands in a file, reading it ends with a value, or with one line that says why not."""

import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from benchmarks.harness import results as harness_results
from pins import masks
from pins.models import sparse_bitmask, sparse_format
from pins.models.heads import CLASSIFICATION
from pins.models.pretrained import load_model
from pins.models.stored_model import StoredModel
from pins.runs import checkpoints, weight_sample
from pins.runs.command import run_prune
from pins.runs.fingerprint import fingerprint
from pins.runs.settings import Settings, read_settings
from pins.selection.budget import Budget, ErrorTable, best_choice, judged
from pins.selection.budget.allocation import allocation
from pins.selection.budget.choice import solve
from pins.selection.budget.program import BudgetProgram
from pins.selection.select import select
from pins.tasks import load_task
from pins.trainer import checkpoint as trainer_checkpoint
from pins.trainer.checkpoint import PruningCheckpoint
from pins.utils.io import load_tensors, save_tensors, write_json
from tests.mutations import leaks
from tests.pins.selection.budget.tables import document
from tests.tiny_model import save_tiny_bert
from verification import checker
from verification.audit.run import Audit
from verification.certificates import fast_checker
from verification.certificates.budget import certify_choice
from verification.certificates.from_files import certify_files
from verification.certificates.selection import save_scores
from verification.empirical import results
from verification.experiments.run_reader import RunData

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
WEIGHTS = {"layer.weight": torch.arange(-8.0, 8).reshape(4, 4), "b": torch.ones(3)}
Reading = tuple[Callable[[], object], Sequence[Path]]
READERS: dict[str, Callable[[Path], Reading]] = {}
# random changes of a file that takes long to read
NUMBER = {"model": 4, "report": 2, "run": 6, "run_to_resume": 6, "certificate": 6}


def reader(make: Callable[[Path], Reading]) -> Callable[[Path], Reading]:
    """Add to `READERS`: makes whole files in a folder; returns their reader, and the files."""
    READERS[make.__name__] = make
    return make


@reader
def settings(folder: Path) -> Reading:
    file = folder / "run.toml"
    file.write_text('model = "m"\nsteps = 12\nlearning_rate = 1e-3\nwithout_quirks = []\n')
    return lambda: Settings(**read_settings(file)), [file]


@reader
def run(folder: Path) -> Reading:
    shutil.copy(RESULTS / "prune-pins" / "run.json", folder)
    file = folder / "run.json"

    def read() -> None:
        data = RunData(folder)
        assert isinstance(data.decisions, list)
        assert all((data.tensors, data.kinds, data.schedule, data.steps, data.counted))

    return read, [file]


@reader
def run_to_resume(folder: Path) -> Reading:
    file = folder / "run.json"
    facts = json.loads((RESULTS / "prune-pins" / "run.json").read_text())
    save_tiny_bert(folder / "model")
    for name in ("train", "dev"):
        (folder / f"{name}.tsv").write_text("sentence\tlabel\n" + "the class\t1\n" * 9)
    task = load_task("sst2", folder)
    model = str(folder / "model")
    asked: dict[str, Any] = {"model": model, "task": "sst2", "data": folder, "steps": 9}
    settings = Settings(**asked, max_length=8).resolved(task.recipe, 8)
    facts["fingerprint"] = fingerprint(settings, folder / "model", None, task)
    facts["rows"], facts["pins"] = {"train": 8}, "0"
    file.write_text(json.dumps(facts))

    def read() -> None:
        console = Console(file=io.StringIO(), width=200)
        if file.is_file():  # else it would be run
            run_prune(console, {"out": folder, **asked}, resume=True)

    return read, [file]


@reader
def report(folder: Path) -> Reading:
    shutil.copy(RESULTS / "demo" / "results.json", folder)

    def read() -> None:
        data = RunData(folder)
        assert all((data.tensors, data.schedule, data.steps, data.curve, data.is_demo))

    return read, [folder / "results.json"]


@reader
def benchmark(folder: Path) -> Reading:
    rows = [{"task": "t", "seed": 1, "method": "m", "sparsity": 0.5, "self_regularization": True,
             "metric": "accuracy", "score": 0.5, "test_rows": 9}]  # fmt: skip
    file = folder / "end_accuracy.json"
    write_json({"rows": rows}, file)
    return lambda: (results.read_folder(folder), harness_results.read(file)), [file]


@reader
def tensors(folder: Path) -> Reading:
    file = folder / "t.safetensors"
    save_tensors(WEIGHTS, file, {})
    return lambda: load_tensors(file), [file]


@reader
def mask_file(folder: Path) -> Reading:
    file = folder / "m.safetensors"
    masks.save(select(WEIGHTS, 9), file)
    return lambda: masks.load(file), [file]


@reader
def packed(folder: Path) -> Reading:
    file, kept = folder / "p.safetensors", select(WEIGHTS, 9)
    zero = torch.zeros(())
    sparse_format.save({n: t.where(kept[n], zero) for n, t in WEIGHTS.items()}, kept, file)
    return lambda: sparse_format.load(file), [file]


@reader
def packed_model(folder: Path) -> Reading:
    file, kept = folder / "model.safetensors", select(WEIGHTS, 9)
    pruned = {n: t.where(kept[n], torch.zeros(())) for n, t in WEIGHTS.items()}
    save_tensors(sparse_format.pack(pruned, kept), file, {"format": "pt"})
    return lambda: sparse_bitmask.load(file), [file]


@reader
def stored(folder: Path) -> Reading:
    kept = select(WEIGHTS, 9)
    pruned = {n: t.where(kept[n], torch.zeros(())) for n, t in WEIGHTS.items()}
    places = torch.full((1, 128), 0x4444, dtype=torch.int16)
    others = {
        "m.weight_packed": torch.zeros(1, 128, dtype=torch.int32),
        "m.meta": places,
        "m.scale_packed": torch.ones(1, 64),
        "p.weight_orig": torch.ones(2, 2),
        "p.weight_mask": torch.eye(2),
        "q.weight": torch.ones(2, 2, dtype=torch.int8),
        "q.weight_scale": torch.ones(2, 1),
    }
    whole, own, file = (folder / f"{name}.safetensors" for name in ("others", "packed", "masks"))
    save_tensors({**sparse_format.pack(pruned, kept), **others}, whole, {"format": "pt"})
    sparse_format.save(pruned, kept, own)
    masks.save(kept, file)

    def read() -> None:
        for each in (whole, own, file):
            for tensor in StoredModel.open(str(each)).tensors.values():
                tensor.read()

    return read, [whole, own, file]


@reader
def audit(folder: Path) -> Reading:
    dense, sparse = folder / "dense.safetensors", folder / "sparse" / "model.safetensors"
    kept = select(WEIGHTS, 9)
    save_tensors(WEIGHTS, dense, {"format": "pt"})
    pruned = {n: t.where(kept[n], torch.zeros(())) for n, t in WEIGHTS.items()}
    save_tensors(pruned, sparse, {"format": "pt"})
    said = {"global_sparsity": 0.5, "sparsity_structure": "2:4", "targets": ["re:.*"], "ignore": []}
    config, run = sparse.parent / "config.json", sparse.parent / "run.json"
    write_json({"quantization_config": {"sparsity_config": said}, "model_type": "gpt2"}, config)
    blocks: list[Any] = [{"layers": {"layer.weight": {}}}]
    settings = {"sparsity": 0.5, "pattern": "2:4"}
    facts = {"format": "pins-oneshot", "settings": settings, "blocks": blocks}
    write_json({**facts, "weights": {"kept": 7}}, run)

    def read() -> None:
        shutil.rmtree(folder / "out", ignore_errors=True)
        found = Audit(str(dense), str(sparse.parent), folder / "out")
        assert all([*found.tensors()])
        found.finish()

    return read, [config, run]


@reader
def sample(folder: Path) -> Reading:
    file = folder / "s.safetensors"
    weights = {name: tensor.reshape(-1) for name, tensor in WEIGHTS.items()}
    curved = {name: tensor.abs() for name, tensor in weights.items()}
    weight_sample.save(
        weight_sample.take(
            weights, weights, curved, learning_rate=0.1, sparsity=0.5, description="d"
        ),
        file,
    )

    def read() -> None:
        found = weight_sample.load(file)
        assert found.importance("obd")
        assert all(len(found.indices(name)) == len(found.weights[name]) for name in found.weights)

    return read, [file]


@reader
def certificate(folder: Path) -> Reading:
    names = ("scores.safetensors", "certificate.json", "certificate.mask.safetensors")
    scores, file, mask = (folder / name for name in names)
    save_scores(WEIGHTS, scores)
    certify_files(scores, file, keep=5)
    return lambda: (checker.check(file), fast_checker.check(file)), [scores, file, mask]


@reader
def budget(folder: Path) -> Reading:
    table, levels = folder / "table.json", folder / "levels.json"
    table.write_text(json.dumps(document()))
    levels.write_text(json.dumps({"a": 0, "b": 0.5}))

    def read() -> None:
        program = BudgetProgram.of(ErrorTable.read(table), Budget.parse("bytes=0.8"))
        judged(solve(program), allocation(program, str(levels)).options)

    return read, [table, levels]


@reader
def budget_certificate(folder: Path) -> Reading:
    file = folder / "certificate.json"
    certify_choice(best_choice(ErrorTable.of(document()), Budget.parse("bytes=0.8")), file)
    return lambda: (checker.check(file), fast_checker.check(file)), [file]


@reader
def run_checkpoint(folder: Path) -> Reading:
    place = checkpoints.save(folder / "c", 3, WEIGHTS, {"loss": 0.5}, {"model": "m"})
    files = [place / checkpoints.STATE, place / checkpoints.TENSORS]
    return lambda: checkpoints.load(place, {"model": "m"}), files


@reader
def trainer_state(folder: Path) -> Reading:
    PruningCheckpoint(3, select(WEIGHTS, 9), {"criterion": "pins"}, folder=folder).save(folder)
    return lambda: trainer_checkpoint.load(folder), [folder / trainer_checkpoint.FILE]


@reader
def model(folder: Path) -> Reading:
    save_tiny_bert(folder)
    names = ("config.json", "tokenizer_config.json", "tokenizer.json", "model.safetensors")
    return (
        lambda: load_model(str(folder), (CLASSIFICATION,), ("no", "yes"), seed=0),
        [folder / name for name in names],
    )


TASKS = {
    "sst2": ("train.tsv", "dev.tsv", "sentence\tlabel\na text\t1\nanother one\t0\n"),
    "stsb": ("train.tsv", "dev.tsv", "sentence1\tsentence2\tscore\na\tb\t4.5\nc\td\t0\n"),
    "squad": ("train-v1.1.json", "dev-v1.1.json", {"data": [{"paragraphs": [{
        "context": "Ada was born in 1815.", "qas": [{"id": "1", "question": "When?",
            "answers": [{"text": "1815", "answer_start": 16}]}]}]}]}),
    "ner": ("train.conll", "test.conll", "# 1\nAda\tB-PER\nsings\tO\n\nBonn\tS-LOC\n"),
    "e2e": ("trainset.csv", "devset.csv", 'mr,ref\n"name[A], food[B]","A, with B."\n'),
    "triples": ("train.json", "test.json", [{
        "tripleset": [["a", "b", "c"]], "annotations": [{"source": "s", "text": "a b c."}]}]),
    "wikitext": ("train.txt", "test.txt", " = A = \n\n text of it \n"),
}  # fmt: skip


def task(name: str) -> Callable[[Path], Reading]:
    def make(folder: Path) -> Reading:
        train, test, content = TASKS[name]
        text = content if isinstance(content, str) else json.dumps(content)
        for each in (train, test):
            (folder / each).write_text(text)
        return lambda: load_task(name, folder), [folder / train]

    return make


READERS |= {f"task {name}": task(name) for name in TASKS}


@pytest.mark.parametrize("name", READERS)
def test_a_file_is_read_or_refused_in_one_line(name: str, tmp_path: Path) -> None:
    read, files = READERS[name](tmp_path)
    read()  # whole
    assert leaks(read, files, number=NUMBER.get(name, 12)) == []


def test_a_reader_that_lets_an_error_out_is_found(tmp_path: Path) -> None:
    # the control: what a reader without checks does
    file = tmp_path / "file.json"
    file.write_text('{"rows": [{"score": 1}]}')
    found = leaks(lambda: 1 + json.loads(file.read_text())["rows"][0]["score"], [file], number=60)
    kinds = ("KeyError", "TypeError", "RecursionError", "ValueError",
             "UnicodeDecodeError", "FileNotFoundError", "IsADirectoryError")  # fmt: skip
    for kind in kinds:
        assert any(kind in each for each in found), kind
